/* What the phases of a layer share, and the sums that they begin with. */
#pragma once

#include "spread.h"
#include "weights.h"

/* The node of each member, and the members sorted by node; null where each has its own row. */
typedef struct {
    const int64_t *node, *order, *starts;
    int64_t count;
} nodes;

/* Arguments: features of nodes and scalars, and channels as the weights have them; where the layer is
 * transposed, features are those of its results. */
typedef struct {
    const REAL *of_nodes, *of_scalars;
    REAL *const *weights;
    channels channels;
    int64_t normalised, transposed;
} layer;

/* Results, or, of the sums alone, their sources: vectors of members (members, levels from[0]),
 * vectors of nodes (nodes, vectors) and scalars (subgraphs, scalars); and memory to work in. */
typedef struct {
    REAL *pairs, *of_nodes, *of_scalars, *member_sources, *node_sources, *scalar_sources;
    char *space;
} results;

/* What all phases share. With transposed weights from and to are exchanged. Memory: factors of rows,
 * what nodes give to members, what members spread and their sums, what subgraphs give to nodes, and
 * the diagonal. */
typedef struct {
    const layer *x;
    const structure *p;
    const nodes *n;
    int sums_alone;
    problem gather, spread;
    int64_t from[ORDERS + 1], to[ORDERS];
    int64_t rooted, levels, vectors, scalars, vector_places, scalar_places, longest;
    matrices weights;
    REAL *pair_weight, *factor, *given, *spread_out, *sums, *to_nodes, *diagonal;
} work;

static inline void add_row(REAL *restrict sum, const REAL *row, int64_t count, REAL factor)
{
    for (int64_t c = 0; c < count; c++)
        sum[c] += factor * row[c];
}

static inline void scale_row(REAL *row, int64_t count, REAL factor)
{
    for (int64_t c = 0; c < count; c++)
        row[c] *= factor;
}

static inline void copy_row(REAL *restrict to, const REAL *row, int64_t count, REAL factor)
{
    for (int64_t c = 0; c < count; c++)
        to[c] = factor * row[c];
}

static inline int64_t node_of(const nodes *n, int64_t member)
{
    return n->starts ? n->node[member] : member;
}

static inline int64_t first_of(const nodes *n, int64_t node)
{
    return n->starts ? n->starts[node] : node;
}

static inline int64_t member_at(const nodes *n, int64_t k)
{
    return n->starts ? n->order[k] : k;
}

/* One over the number of members of a node that has any. */
static inline REAL share_of(const nodes *n, int64_t node)
{
    return n->starts ? (REAL)1 / (n->starts[node + 1] - n->starts[node]) : 1;
}

/* The row of the pair of a member with itself. */
static inline int64_t diagonal_of(const structure *p, int64_t member)
{
    int64_t e = p->subgraph[member], first = p->starts[e], size = p->starts[e + 1] - first;
    int64_t pair = p->pair_starts[e] + (member - first) * (size + 1);
    return p->slot ? p->slot[pair] : pair;
}

/* What sums over a subgraph are divided by, as a factor. */
static inline REAL mean_of(const work *w, int64_t e)
{
    int64_t size = w->p->starts[e + 1] - w->p->starts[e];
    return w->x->normalised && size ? (REAL)1 / size : 1;
}

static void lay_out_work(work *w, memory *m)
{
    int64_t inputs = w->from[0], outputs = w->to[0], members = w->p->members;
    w->weights.vector = take_matrix(m, w->vectors, w->weights.vector_length);
    w->weights.scalar = take_matrix(m, w->scalars, w->weights.scalar_length);
    w->pair_weight = take(m, 2 * inputs * outputs * sizeof(REAL));
    w->factor = take(m, w->p->rows * sizeof(REAL));
    if (w->sums_alone)
        return;
    w->given = take(m, w->n->count * w->levels * outputs * sizeof(REAL));
    w->spread_out = take(m, members * w->levels * outputs * sizeof(REAL));
    w->sums = take(m, members * w->levels * inputs * sizeof(REAL));
    w->to_nodes = take(m, w->p->subgraphs * 2 * (outputs + w->to[1]) * sizeof(REAL));
    w->diagonal = take(m, w->n->count * outputs * sizeof(REAL));
}

static void set_sizes(work *w)
{
    const channels *c = &w->x->channels;
    for (int q = 0; q < ORDERS; q++) {
        w->from[q] = w->x->transposed ? c->to[q] : c->from[q];
        w->to[q] = w->x->transposed ? c->from[q] : c->to[q];
    }
    w->from[ORDERS] = w->x->transposed ? 0 : c->from[ORDERS];
    w->rooted = c->rooted, w->levels = count_levels(c->rooted);
    w->vectors = count_vectors(w->from, w->rooted);
    w->vector_places = count_vectors(w->to, w->rooted);
    w->scalars = count_scalars(w->from, w->rooted) + w->from[ORDERS];
    w->scalar_places = count_scalars(w->to, w->rooted);
    w->weights.vector_length = row_length(w->vector_places);
    w->weights.scalar_length = row_length(w->scalar_places);
    w->longest = TILE;
    for (int64_t e = 0; e < w->p->subgraphs; e++)
        if (w->p->starts[e + 1] - w->p->starts[e] > w->longest)
            w->longest = w->p->starts[e + 1] - w->p->starts[e];
}

static void set_weights(work *w)
{
    int64_t inputs = w->from[0], outputs = w->to[0];
    const REAL *weight = w->x->weights[0];
    w->spread.weight = weight;
    copy_weights(&w->weights, &w->x->channels, w->x->weights, w->x->transposed ? IN_TRANSPOSED : IN);
    if (!weight || !w->x->transposed)
        return;
    for (int k = 0; k < 2; k++)
        transpose(w->pair_weight + k * inputs * outputs, outputs, weight + k * inputs * outputs,
                  outputs, inputs);
    w->spread.weight = w->pair_weight;
}

/* Everything but the features of each phase. Returns the bytes of memory that it takes; it is laid out
 * where there is space. */
static int64_t prepare(work *w, const problem *q, char *space)
{
    memory m = {space, 0};
    set_sizes(w);
    lay_out_work(w, &m);
    if (!space)
        return m.used;
    w->gather = (problem){.x = q->x, .inputs = w->from[0], .threads = q->threads};
    w->spread = (problem){.x = q->x, .spread = w->p->members ? w->spread_out : 0,
                          .inputs = w->from[0], .outputs = w->to[0], .threads = q->threads,
                          .parts = w->levels};
    for (int64_t g = 0; w->p->slot && g < w->p->rows; g++) {
        int64_t copies = w->p->slot_starts[g + 1] - w->p->slot_starts[g];
        w->factor[g] = copies ? (REAL)1 / copies : 1;
    }
    if (w->p->slot)
        *(w->x->transposed ? &w->gather.scale : &w->spread.scale) = w->factor;
    if (!w->sums_alone) {
        memset(w->weights.vector, 0, (char *)w->pair_weight - (char *)w->weights.vector);
        set_weights(w);
    }
    return m.used;
}

/* The member that is the root of a subgraph, or -1. */
static inline int64_t root_of(const work *w, int64_t e)
{
    return w->rooted && w->p->starts[e + 1] > w->p->starts[e] ? w->p->root[e] : -1;
}

/* Row sums and column sums of the members of a subgraph, and their pairs with the root. */
static void gather_vectors(const work *w, int64_t e, REAL *vector, int64_t length)
{
    const structure *p = w->p;
    int64_t n = w->from[0], first = p->starts[e], size = p->starts[e + 1] - first;
    int64_t pair = p->pair_starts[e], root = root_of(w, e) - first;
    REAL factor = w->x->transposed ? 1 : mean_of(w, e);
    for (int64_t i = 0; i < size; i++)
        memset(vector + i * length, 0, 2 * n * sizeof(REAL));
    for (int64_t i = 0; n && i < size; i++)
        sum_pairs(&w->gather, p, vector + i * length, vector + n, length, pair + i * size, size);
    for (int64_t i = 0; i < size; i++) {
        REAL *row = vector + i * length;
        scale_row(row, 2 * n, factor);
        if (!w->rooted)
            continue;
        copy_pair(&w->gather, p, row + 2 * n, pair + i * size + root);
        copy_pair(&w->gather, p, row + 3 * n, pair + root * size + i);
    }
}

/* The scalars of a subgraph, whose vectors of members are these. */
static void gather_scalars(const work *w, int64_t e, const REAL *vector, int64_t length,
                           REAL *scalar)
{
    const structure *p = w->p;
    int64_t n = w->from[0], k = w->from[1], z = w->from[2], first = p->starts[e];
    int64_t root = root_of(w, e), sums = count_sums(w->rooted) * n;
    REAL factor = w->x->transposed ? 1 : mean_of(w, e), *rest = scalar + sums;
    memset(scalar, 0, w->scalars * sizeof(REAL));
    for (int64_t i = first; i < p->starts[e + 1]; i++, vector += length) {
        const REAL *diagonal = w->gather.x + (n ? diagonal_of(p, i) * n : 0);
        const REAL *own = w->x->of_nodes + node_of(w->n, i) * k;
        REAL share = w->x->transposed ? share_of(w->n, node_of(w->n, i)) : 1;
        add_row(scalar + n, vector, n, factor);
        add_row(scalar, diagonal, n, factor * share);
        add_row(rest, own, k, factor * share);
        if (i != root)
            continue;
        copy_row(scalar + 2 * n, diagonal, n, share);
        copy_row(scalar + 3 * n, vector, 2 * n, 1);
        copy_row(rest + k, own, k, share);
    }
    rest += count_totals(w->rooted) * k;
    memcpy(rest, w->x->of_scalars + e * z, z * sizeof(REAL));
    if (w->from[ORDERS])
        rest[z] = 1;
}

/* Vectors of all levels, diagonal and features of a node, and what its subgraphs give to it; all is
 * zero for a node without members. */
static void gather_node(const work *w, const REAL *sums, int64_t node, REAL *row, REAL *given)
{
    int64_t n = w->from[0], k = w->from[1], wide = w->levels * n, places = w->to[0] + w->to[1];
    int64_t begin = first_of(w->n, node), end = w->n->starts ? w->n->starts[node + 1] : node + 1;
    memset(row, 0, w->vectors * sizeof(REAL));
    if (given)
        memset(given, 0, places * sizeof(REAL));
    if (begin == end)
        return;
    REAL share = w->x->transposed ? 1 : share_of(w->n, node);
    for (int64_t i = begin; i < end; i++) {
        int64_t member = member_at(w->n, i), e = w->p->subgraph[member];
        const REAL *from = w->to_nodes + e * 2 * places;
        add_row(row, sums + member * wide, wide, share);
        if (given)
            add_row(given, from, places, share);
        if (given && root_of(w, e) == member)
            add_row(given, from + places, places, share);
    }
    if (n)
        memcpy(row + wide, w->gather.x + diagonal_of(w->p, member_at(w->n, begin)) * n,
               n * sizeof(REAL));
    memcpy(row + wide + n, w->x->of_nodes + node * k, k * sizeof(REAL));
}
