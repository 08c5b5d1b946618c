/* Features of pairs, members and subgraphs mixed on the levels of members and subgraphs: sums over
 * rows, columns and diagonal, their means over subgraphs, and a product with a matrix for each level,
 * while a block of subgraphs is in the cache. REAL is float or double.
 */
#include "sums.h"

enum { TILE = 96 }; /* members of a block, unless one subgraph has more */

/* Further arguments, of which those with a width of zero are not read: nodes (members, node_inputs),
 * scalars (subgraphs, scalar_inputs); vector_weight, from 3 inputs + node_inputs to 3 pair_outputs +
 * node_outputs; scalar_weight, from 2 inputs + node_inputs + scalar_inputs to 2 pair_outputs +
 * node_outputs + scalar_outputs, and its bias. Results: spread (members, 3 pair_outputs), and the
 * features of members and subgraphs. */
typedef struct {
    const REAL *nodes, *scalars, *vector_weight, *scalar_weight, *bias;
    REAL *spread, *node_out, *scalar_out;
    int64_t node_inputs, scalar_inputs, pair_outputs, node_outputs, scalar_outputs, normalised;
} mixture;

/* Weights, and the vectors and scalars of a block with what they give. */
typedef struct {
    int64_t vectors, scalars, vector_outs, scalar_outs, longest;
    int64_t vector_length, scalar_length, vector_out_length, scalar_out_length;
    REAL *vector_weight, *scalar_weight, *bias, *vector, *scalar, *vector_out, *scalar_out;
} state;

static void lay_out(state *s, memory *m)
{
    s->vector_length = row_length(s->vectors), s->scalar_length = row_length(s->scalars);
    s->vector_out_length = row_length(s->vector_outs);
    s->scalar_out_length = row_length(s->scalar_outs);
    s->vector_weight = take_matrix(m, s->vectors, s->vector_out_length);
    s->scalar_weight = take_matrix(m, s->scalars, s->scalar_out_length);
    s->bias = take_matrix(m, 1, s->scalar_out_length);
    s->vector = take_matrix(m, s->longest, s->vector_length);
    s->vector_out = take_matrix(m, s->longest, s->vector_out_length);
    s->scalar = take_matrix(m, TILE, s->scalar_length);
    s->scalar_out = take_matrix(m, TILE, s->scalar_out_length);
}

static int make_state(state *s, const problem *q, const structure *p, const mixture *x, memory *m)
{
    s->vectors = 3 * q->inputs + x->node_inputs;
    s->scalars = 2 * q->inputs + x->node_inputs + x->scalar_inputs;
    s->vector_outs = 3 * x->pair_outputs + x->node_outputs;
    s->scalar_outs = 2 * x->pair_outputs + x->node_outputs + x->scalar_outputs;
    s->longest = TILE;
    for (int64_t e = 0; e < p->subgraphs; e++)
        if (p->starts[e + 1] - p->starts[e] > s->longest)
            s->longest = p->starts[e + 1] - p->starts[e];
    lay_out(s, m);
    if (!reserve(m))
        return 0;
    lay_out(s, m);
    copy_rows(s->vector_weight, s->vector_out_length, x->vector_weight, s->vectors, s->vector_outs);
    copy_rows(s->scalar_weight, s->scalar_out_length, x->scalar_weight, s->scalars, s->scalar_outs);
    copy_rows(s->bias, 0, x->bias, 1, s->scalar_outs);
    return 1;
}

static inline void scale_row(REAL *row, int64_t count, REAL factor)
{
    for (int64_t c = 0; c < count; c++)
        row[c] *= factor;
}

static inline void add_row(REAL *restrict sum, const REAL *row, int64_t count, REAL factor)
{
    for (int64_t c = 0; c < count; c++)
        sum[c] += factor * row[c];
}

/* Vectors and scalars of a subgraph; vector and scalar are their first rows. */
static void gather(const state *s, const problem *q, const structure *p, const mixture *x,
                   int64_t e, REAL *vector, REAL *scalar)
{
    int64_t n = q->inputs, first = p->starts[e], size = p->starts[e + 1] - first;
    int64_t length = s->vector_length, pair = p->pair_starts[e];
    REAL factor = x->normalised && size ? (REAL)1 / size : 1;
    memset(scalar, 0, s->scalars * sizeof(REAL));
    for (int64_t i = 0; i < size; i++)
        memset(vector + i * length, 0, 3 * n * sizeof(REAL));
    for (int64_t i = 0; n && i < size; i++) {
        REAL *row = vector + i * length;
        sum_pairs(q, p, row + n, vector + 2 * n, length, pair + i * size, size);
        copy_pair(q, p, row, pair + i * size + i);
    }
    for (int64_t i = 0; i < size; i++) {
        REAL *row = vector + i * length;
        scale_row(row + n, 2 * n, factor);
        add_row(scalar, row, 2 * n, factor);
        memcpy(row + 3 * n, x->nodes + (first + i) * x->node_inputs, x->node_inputs * sizeof(REAL));
        add_row(scalar + 2 * n, row + 3 * n, x->node_inputs, factor);
    }
    memcpy(scalar + 2 * n + x->node_inputs, x->scalars + e * x->scalar_inputs,
           x->scalar_inputs * sizeof(REAL));
}

/* What the scalars of a subgraph give to each of its members, where the products are added to. */
static void place(const state *s, const mixture *x, const REAL *from, int64_t size, REAL *to)
{
    int64_t n = x->pair_outputs;
    for (int64_t i = 0; i < size; i++, to += s->vector_out_length) {
        memcpy(to, from, 2 * n * sizeof(REAL));
        memset(to + 2 * n, 0, n * sizeof(REAL));
        memcpy(to + 3 * n, from + 2 * n, x->node_outputs * sizeof(REAL));
    }
}

static void deliver(const state *s, const mixture *x, int64_t first, int64_t count)
{
    int64_t n = 3 * x->pair_outputs, k = x->node_outputs;
    for (int64_t i = 0; i < count; i++) {
        const REAL *from = s->vector_out + i * s->vector_out_length;
        memcpy(x->spread + (first + i) * n, from, n * sizeof(REAL));
        memcpy(x->node_out + (first + i) * k, from + n, k * sizeof(REAL));
    }
}

/* The subgraphs from e to before last, which are one block. */
static void mix_block(const state *s, const problem *q, const structure *p, const mixture *x,
                      int64_t e, int64_t last)
{
    int64_t first = p->starts[e], members = p->starts[last] - first;
    for (int64_t k = e; k < last; k++)
        gather(s, q, p, x, k, s->vector + (p->starts[k] - first) * s->vector_length,
               s->scalar + (k - e) * s->scalar_length);
    multiply((product){round_up(last - e, ROWS), s->scalar_outs, s->scalars, s->scalar,
                       s->scalar_length, 1, s->scalar_weight, s->scalar_out_length, s->bias, 0,
                       s->scalar_out, s->scalar_out_length});
    for (int64_t k = e; k < last; k++) {
        const REAL *from = s->scalar_out + (k - e) * s->scalar_out_length;
        place(s, x, from, p->starts[k + 1] - p->starts[k],
              s->vector_out + (p->starts[k] - first) * s->vector_out_length);
        memcpy(x->scalar_out + k * x->scalar_outputs, from + 2 * x->pair_outputs + x->node_outputs,
               x->scalar_outputs * sizeof(REAL));
    }
    multiply((product){round_up(members, ROWS), s->vector_outs, s->vectors, s->vector,
                       s->vector_length, 1, s->vector_weight, s->vector_out_length, s->vector_out,
                       s->vector_out_length, s->vector_out, s->vector_out_length});
    deliver(s, x, first, members);
}

/* Where the block of subgraphs ends that begins with e. */
static int64_t end_block(const structure *p, int64_t e, int64_t last)
{
    int64_t end = e + 1;
    while (end < last && end - e < TILE && p->starts[end + 1] - p->starts[e] <= TILE)
        end++;
    return end;
}

/* Of q only x, scale and inputs count. Returns whether memory ran out. */
int mix(const problem *q, const structure *p, const mixture *x)
{
    int64_t pairs = p->pair_starts[p->subgraphs];
    int failed = 0;
#pragma omp parallel for schedule(static, 1) num_threads(q->threads) if (q->threads > 1)
    for (int64_t share = 0; share < q->threads; share++) {
        state s;
        memory m = {0};
        int64_t last = share + 1 == q->threads ? p->subgraphs
                                               : first_subgraph(p, pairs * (share + 1) / q->threads);
        if (!make_state(&s, q, p, x, &m)) {
            failed = 1;
            continue;
        }
        for (int64_t e = first_subgraph(p, pairs * share / q->threads), end; e < last; e = end) {
            end = end_block(p, e, last);
            mix_block(&s, q, p, x, e, end);
        }
        free(m.start);
    }
    return failed;
}
