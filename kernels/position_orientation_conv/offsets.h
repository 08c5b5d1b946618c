/* From the gradient of the features of a tile those of offsets, axes and scalars. */
#pragma once

#include "network.h"

/* The gradient of the attributes of row r; that of the features is overwritten. */
static void differentiate_monomials(const state *s, const problem *p, int64_t r, REAL *by_features)
{
    const tile *t = &s->rows;
    for (int64_t k = 0; k < p->variables; k++)
        s->by_attributes[k] = 0;
    for (int64_t i = p->monomials - 1; i >= 0; i--) {
        int64_t parent = t->parent[i], factor = t->factor[i];
        by_features[parent] += by_features[i] * t->attributes[factor * TILE + r];
        s->by_attributes[factor] += by_features[i] * t->features[parent * TILE + r];
    }
    if (p->attributes != AXES) { /* from the soft length to the square of the length */
        int64_t last = p->variables - 1;
        REAL softening = (REAL)p->softening;
        s->by_attributes[last] /= 2 * (t->attributes[last * TILE + r] + softening);
    }
}

static void differentiate_axes(const REAL *by, const problem *p, const REAL *offset,
                               const REAL *axes, REAL *by_offset, REAL *by_axes)
{
    for (int64_t k = 0; k < p->m; k++)
        for (int64_t i = 0; i < p->n; i++) {
            if (by_offset)
                by_offset[i] += by[k] * axes[k * p->n + i];
            if (by_axes)
                by_axes[k * p->n + i] += by[k] * offset[i];
        }
}

static void differentiate_perpendicular(const REAL *by, const problem *p, const REAL *offset,
                                        const REAL *axis, REAL *by_offset, REAL *by_axis)
{
    REAL along = dot(axis, offset, p->n), by_along = by[0], by_square = 2 * by[1];
    for (int64_t i = 0; i < p->n; i++)
        by_along -= by_square * (offset[i] - along * axis[i]) * axis[i];
    for (int64_t i = 0; i < p->n; i++) {
        REAL by_across = by_square * (offset[i] - along * axis[i]);
        if (by_offset)
            by_offset[i] += by_across + by_along * axis[i];
        if (by_axis)
            by_axis[i] += by_along * offset[i] - along * by_across;
    }
}

/* The slope of the window over the distance, times the radius squared. */
static inline REAL window_slope(REAL u)
{
    return -168 * (u * u) * (u * u) * ((1 - u) * (1 - u));
}

static void differentiate_offset(const state *s, const problem *p, int64_t r, const gradients *g)
{
    const tile *t = &s->rows;
    int64_t edge = t->edge[r], o = t->orientation[r];
    const REAL *offset = p->offsets + edge * p->n;
    REAL *by_offset = g->offsets ? g->offsets + edge * p->n : 0, along = 0;
    if (by_offset && !isinf(p->radius)) {
        REAL radius = (REAL)p->radius, u = relative_distance(p, edge);
        along = s->by_window[r] * (window_slope(u) / radius / radius);
    }
    if (p->attributes == DISTANCE)
        along += 2 * s->by_attributes[0];
    for (int64_t i = 0; by_offset && i < p->n; i++)
        by_offset[i] += along * offset[i];
    if (o == EVERY || p->attributes == DISTANCE)
        return; /* the offset is zero, or axes are not used */
    const REAL *axes = axes_of(p, edge, o);
    REAL *by_axes = g->axes ? g->axes + (axes - p->axes) : 0;
    if (p->attributes == AXES)
        differentiate_axes(s->by_attributes, p, offset, axes, by_offset, by_axes);
    else
        differentiate_perpendicular(s->by_attributes, p, offset, axes, by_offset, by_axes);
}

static void differentiate_features(const state *s, const problem *p, const network *w,
                                   const gradients *g)
{
    for (int64_t r = 0; r < s->rows.count; r++) {
        REAL *by_features = s->by_features + r * w->features;
        REAL *by_scalars = g->scalars ? g->scalars + s->rows.edge[r] * p->inputs : 0;
        for (int64_t i = 0; by_scalars && i < p->inputs; i++)
            by_scalars[i] += by_features[p->monomials + i];
        if (g->offsets || g->axes) {
            differentiate_monomials(s, p, r, by_features);
            differentiate_offset(s, p, r, g);
        }
    }
}
