/* Tiles of rows. A row is an edge and an orientation, or an edge alone where the kernel is the same
 * at all orientations. Attributes and monomials of a tile are columns, TILE numbers each.
 */
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../multiply.h"

enum { TILE = 96, EVERY = -1 };
enum { AXES, PERPENDICULAR, DISTANCE };

/* The arguments; frame is null where one serves all, and opposite where edges go one way. */
typedef struct {
    const REAL *x, *offsets, *axes, *scalars, *w1, *b1, *w2, *b2, *w3;
    const int64_t *source, *target, *frame, *opposite;
    int64_t edges, sources, targets, frames, orientations, channels, n, m, inputs, hidden, basis;
    int64_t attributes, degree, monomials, variables;
    double softening, radius;
} problem;

/* What one thread works on: edges first .. last - 1 at some orientations. */
typedef struct {
    int64_t first, last, count;
    const int64_t *orientations;
} share;

/* Feature i, a monomial, is feature parent[i] times attribute factor[i]; the last feature is 1. */
typedef struct {
    const int64_t *parent, *factor;
    int64_t count, edge[TILE], orientation[TILE];
    REAL *attributes, *features, window[TILE];
} tile;

/* Fill the tables of monomials, degree by degree, factors of each ascending. */
static void list_monomials(int64_t *parent, int64_t *factor, const problem *p)
{
    int64_t first = 0, last = 0;
    for (int64_t i = 0; i < p->variables && p->degree > 0; i++, last++)
        parent[last] = p->monomials + p->inputs, factor[last] = i;
    for (int64_t degree = 2; degree <= p->degree; degree++) {
        int64_t next = last;
        for (int64_t i = first; i < last; i++)
            for (int64_t k = factor[i]; k < p->variables; k++, next++)
                parent[next] = i, factor[next] = k;
        first = last, last = next;
    }
}

INLINE REAL dot(const REAL *a, const REAL *b, int64_t n)
{
    REAL sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static inline const REAL *axes_of(const problem *p, int64_t edge, int64_t orientation)
{
    int64_t frame = p->frame ? p->frame[edge] : 0;
    return p->axes + (frame * p->orientations + orientation) * p->m * p->n;
}

/* Attributes of a row, in n dimensions; of a length, its square. */
INLINE void measure(REAL *a, const problem *p, const REAL *offset, const REAL *axes, int64_t n)
{
    if (p->attributes == DISTANCE) {
        a[0] = dot(offset, offset, n);
        return;
    }
    for (int64_t k = 0; k < p->m; k++)
        a[k * TILE] = dot(axes + k * n, offset, n);
    if (p->attributes == PERPENDICULAR) {
        REAL square = 0;
        for (int64_t i = 0; i < n; i++) {
            REAL across = offset[i] - a[0] * axes[i];
            square += across * across;
        }
        a[TILE] = square;
    }
}

/* Put the rows of an edge from orientation o on into the tile; return where to go on. */
static int64_t add_edge(tile *t, const problem *p, share s, int64_t edge, int64_t o, int every)
{
    int64_t end = every ? 1 : s.count;
    const REAL *offset = p->offsets + edge * p->n, *all = axes_of(p, edge, 0);
    for (; o < end && t->count < TILE; o++, t->count++) {
        const REAL *axes = all + s.orientations[o] * p->m * p->n;
        t->edge[t->count] = edge;
        t->orientation[t->count] = every ? EVERY : s.orientations[o];
        if (p->n == 3) /* of known size, so that loops are unrolled */
            measure(t->attributes + t->count, p, offset, axes, 3);
        else
            measure(t->attributes + t->count, p, offset, axes, p->n);
    }
    return o < end ? o : s.count;
}

/* The window 1 - 28 u^6 + 48 u^7 - 21 u^8, without cancellation, where u < 1. */
static inline REAL window(REAL u)
{
    REAL rest = 1 - u;
    return rest * rest * rest * (1 + u * (3 + u * (6 + u * (10 + u * (15 + u * 21)))));
}

static inline REAL relative_distance(const problem *p, int64_t edge)
{
    const REAL *offset = p->offsets + edge * p->n;
    REAL square = 0, radius = (REAL)p->radius;
    for (int64_t i = 0; i < p->n; i++)
        square += offset[i] / radius * (offset[i] / radius);
    return (REAL)sqrt(square);
}

/* Whether the kernel is the same at all orientations, and need not be told apart for derivatives by
 * the offsets. */
static inline int is_alike(const problem *p, int64_t edge, int by_offsets)
{
    if (p->variables == 0 || p->attributes == DISTANCE)
        return 1;
    const REAL *offset = p->offsets + edge * p->n;
    int zero = !by_offsets;
    for (int64_t i = 0; i < p->n; i++)
        zero &= offset[i] == 0;
    return zero;
}

/* Fill a tile from edge *edge and orientation *o of the share on, and move both on. */
static void fill(tile *t, const problem *p, share s, int64_t *edge, int64_t *o, int by_offsets)
{
    t->count = 0;
    while (*edge < s.last && t->count < TILE) {
        int64_t before = t->count;
        REAL u = isinf(p->radius) ? 0 : relative_distance(p, *edge);
        if (u >= 1)
            *o = s.count;
        else
            *o = add_edge(t, p, s, *edge, *o, is_alike(p, *edge, by_offsets));
        for (int64_t r = before; r < t->count; r++)
            t->window[r] = window(u);
        if (*o == s.count)
            ++*edge, *o = 0;
    }
}

/* The inputs of the first layer from the attributes: monomials, scalars of the edge, one. */
static void make_features(tile *t, const problem *p)
{
    if (p->attributes != AXES) {
        REAL *square = t->attributes + (p->variables - 1) * TILE, s = (REAL)p->softening;
        for (int64_t r = 0; r < TILE; r++)
            square[r] /= (REAL)sqrt(square[r] + s * s) + s;
    }
    REAL *to = t->features, *one = to + (p->monomials + p->inputs) * TILE;
    for (int64_t r = 0; r < TILE; r++)
        one[r] = 1;
    for (int64_t i = 0; i < p->monomials; i++, to += TILE) {
        const REAL *a = t->attributes + t->factor[i] * TILE;
        const REAL *parent = t->features + t->parent[i] * TILE;
        for (int64_t r = 0; r < TILE; r++)
            to[r] = parent[r] * a[r];
    }
    for (int64_t i = 0; i < p->inputs; i++, to += TILE)
        for (int64_t r = 0; r < t->count; r++)
            to[r] = p->scalars[t->edge[r] * p->inputs + i];
}
