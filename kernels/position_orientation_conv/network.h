/* The small network on a tile of rows. Every matrix has whole vectors in a row and whole blocks of
 * rows; what is added is zero or never read.
 */
#pragma once

#include "../gelu.h"
#include "../memory.h"
#include "rows.h"

/* Gradients; each but that of x has a copy for every share. Null where not wanted. */
typedef struct {
    REAL *x, *offsets, *axes, *scalars, *w1, *b1, *w2, *b2, *w3;
} gradients;

/* Weights; the last row of w1_t is b1. The lengths are those of rows. */
typedef struct {
    int64_t features, hidden, basis, channels;
    int64_t *parent, *factor;
    REAL *w1_t, *w2_t, *w3_t, *w1, *w2, *w3, *b2, *zero;
} network;

/* Values of a tile, and gradients summed over all tiles of a share. */
typedef struct {
    tile rows;
    REAL *hidden, *hidden_slope, *basis, *basis_slope, *kernel;
    REAL *by_kernel, *by_basis, *by_window, *by_hidden, *by_features, *by_attributes;
    REAL *by_w1, *by_w2, *by_b2, *by_w3;
} state;

static void lay_out_network(network *w, const problem *p, memory *m)
{
    int64_t features = p->monomials + p->inputs + 1;
    w->features = row_length(features), w->hidden = row_length(p->hidden);
    w->basis = row_length(p->basis), w->channels = row_length(p->channels);
    w->parent = take(m, p->monomials * sizeof(int64_t));
    w->factor = take(m, p->monomials * sizeof(int64_t));
    w->w1_t = take_matrix(m, features, w->hidden), w->w1 = take_matrix(m, p->hidden, w->features);
    w->w2_t = take_matrix(m, p->hidden, w->basis), w->w2 = take_matrix(m, p->basis, w->hidden);
    w->w3_t = take_matrix(m, p->basis, w->channels), w->w3 = take_matrix(m, p->channels, w->basis);
    w->b2 = take_matrix(m, 1, w->basis);
    w->zero = take_matrix(m, 1, w->features + w->hidden + w->basis + w->channels);
}

static int make_network(network *w, const problem *p, memory *m)
{
    int64_t inputs = p->monomials + p->inputs;
    lay_out_network(w, p, m);
    if (!reserve(m))
        return 0;
    lay_out_network(w, p, m);
    list_monomials(w->parent, w->factor, p);
    transpose(w->w1_t, w->hidden, p->w1, p->hidden, inputs);
    copy_rows(w->w1_t + inputs * w->hidden, 0, p->b1, 1, p->hidden);
    transpose(w->w2_t, w->basis, p->w2, p->basis, p->hidden);
    copy_rows(w->b2, 0, p->b2, 1, p->basis);
    transpose(w->w3_t, w->channels, p->w3, p->channels, p->basis);
    copy_rows(w->w1, w->features, p->w1, p->hidden, inputs);
    copy_rows(w->w2, w->hidden, p->w2, p->basis, p->hidden);
    copy_rows(w->w3, w->basis, p->w3, p->channels, p->basis);
    return 1;
}

static void lay_out_state(state *s, const problem *p, const network *w, int backward, memory *m)
{
    int64_t features = p->monomials + p->inputs + 1;
    s->rows.attributes = take_matrix(m, p->variables, TILE);
    s->rows.features = take_matrix(m, features, TILE);
    s->hidden = take_matrix(m, TILE, w->hidden), s->basis = take_matrix(m, TILE, w->basis);
    s->kernel = take_matrix(m, TILE, w->channels);
    if (!backward) {
        s->hidden_slope = s->basis_slope = 0;
        return;
    }
    s->hidden_slope = take_matrix(m, TILE, w->hidden);
    s->basis_slope = take_matrix(m, TILE, w->basis);
    s->by_kernel = take_matrix(m, TILE, w->channels), s->by_basis = take_matrix(m, TILE, w->basis);
    s->by_window = take_matrix(m, 1, TILE);
    s->by_hidden = take_matrix(m, TILE, w->hidden);
    s->by_features = take_matrix(m, TILE, w->features);
    s->by_attributes = take_matrix(m, 1, p->variables);
    s->by_w1 = take_matrix(m, features, w->hidden), s->by_w2 = take_matrix(m, p->basis, w->hidden);
    s->by_b2 = take_matrix(m, 1, w->basis), s->by_w3 = take_matrix(m, p->channels, w->basis);
}

static int make_state(state *s, const problem *p, const network *w, int backward, memory *m)
{
    lay_out_state(s, p, w, backward, m);
    if (!reserve(m))
        return 0;
    lay_out_state(s, p, w, backward, m);
    s->rows.parent = w->parent, s->rows.factor = w->factor;
    return 1;
}

/* The basis of all rows, with slopes where there is room for them. */
static void evaluate(state *s, const problem *p, const network *w)
{
    tile *t = &s->rows;
    int64_t rows = round_up(t->count, ROWS), features = p->monomials + p->inputs + 1;
    make_features(t, p);
    multiply((product){rows, p->hidden, features, t->features, 1, TILE, w->w1_t, w->hidden, w->zero,
                       0, s->hidden, w->hidden});
    apply_gelu(s->hidden, s->hidden_slope, rows * w->hidden);
    multiply((product){rows, p->basis, p->hidden, s->hidden, w->hidden, 1, w->w2_t, w->basis, w->b2,
                       0, s->basis, w->basis});
    apply_gelu(s->basis, s->basis_slope, rows * w->basis);
    for (int64_t r = 0; !isinf(p->radius) && r < t->count; r++)
        for (int64_t k = 0; k < w->basis; k++) {
            s->basis[r * w->basis + k] *= t->window[r];
            if (s->basis_slope)
                s->basis_slope[r * w->basis + k] *= t->window[r];
        }
}

static void make_kernel(state *s, const problem *p, const network *w)
{
    multiply((product){round_up(s->rows.count, ROWS), p->channels, p->basis, s->basis, w->basis, 1,
                       w->w3_t, w->channels, w->zero, 0, s->kernel, w->channels});
}

/* From the gradient of the kernel those of the weights and, where wanted, of the features. */
static void differentiate_network(state *s, const problem *p, const network *w, const gradients *g)
{
    tile *t = &s->rows;
    int64_t count = t->count, rows = round_up(count, ROWS), features = p->monomials + p->inputs + 1;
    int by_features = g->offsets || g->axes || g->scalars, by_first = by_features || g->w1 || g->b1;
    if (g->w3)
        multiply((product){p->channels, p->basis, count, s->by_kernel, 1, w->channels, s->basis,
                           w->basis, s->by_w3, w->basis, s->by_w3, w->basis});
    if (!(by_first || g->w2 || g->b2))
        return;
    multiply((product){rows, p->basis, p->channels, s->by_kernel, w->channels, 1, w->w3, w->basis,
                       w->zero, 0, s->by_basis, w->basis});
    if (g->offsets && !isinf(p->radius))
        for (int64_t r = 0; r < count; r++) {
            REAL sum = dot(s->by_basis + r * w->basis, s->basis + r * w->basis, p->basis);
            s->by_window[r] = t->window[r] > 0 ? sum / t->window[r] : 0;
        }
    for (int64_t i = 0; i < rows * w->basis; i++)
        s->by_basis[i] *= s->basis_slope[i];
    for (int64_t r = 0; g->b2 && r < count; r++)
        for (int64_t k = 0; k < w->basis; k++)
            s->by_b2[k] += s->by_basis[r * w->basis + k];
    if (g->w2)
        multiply((product){p->basis, p->hidden, count, s->by_basis, 1, w->basis, s->hidden,
                           w->hidden, s->by_w2, w->hidden, s->by_w2, w->hidden});
    if (!by_first)
        return;
    multiply((product){rows, p->hidden, p->basis, s->by_basis, w->basis, 1, w->w2, w->hidden,
                       w->zero, 0, s->by_hidden, w->hidden});
    for (int64_t i = 0; i < rows * w->hidden; i++)
        s->by_hidden[i] *= s->hidden_slope[i];
    if (g->w1 || g->b1)
        multiply((product){features, p->hidden, count, t->features, TILE, 1, s->by_hidden,
                           w->hidden, s->by_w1, w->hidden, s->by_w1, w->hidden});
    if (by_features)
        multiply((product){rows, features, p->hidden, s->by_hidden, w->hidden, 1, w->w1,
                           w->features, w->zero, 0, s->by_features, w->features});
}
