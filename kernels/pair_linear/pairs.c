/* Linear maps of pairs of nodes, ragged: sums of rows and columns, what is spread along them, and
 * two products with matrices. REAL is float or double.
 */
#include "spread.h"

/* y (rows, outputs). Returns whether memory ran out. */
int linear(const problem *q, const structure *p, REAL *y)
{
    char *is_root = 0;
    if (q->spread && p->root && !(is_root = mark_roots(p)))
        return 1;
    int failed = map_pairs(q, p, is_root, y);
    free(is_root);
    return failed;
}

/* The sums of one subgraph. */
static void reduce_subgraph(const problem *q, const structure *p, REAL *y, int64_t e)
{
    int64_t n = q->inputs, length = n * (p->root ? 5 : 3), first = p->starts[e];
    int64_t size = p->starts[e + 1] - first, pair = p->pair_starts[e];
    y += first * length;
    memset(y, 0, size * length * sizeof(REAL));
    for (int64_t i = 0; i < size; i++) {
        REAL *to = y + i * length;
        sum_pairs(q, p, to + n, y + 2 * n, length, pair + i * size, size);
        copy_pair(q, p, to, pair + i * size + i);
        if (!p->root)
            continue;
        int64_t root = p->root[e] - first;
        copy_pair(q, p, to + 3 * n, pair + i * size + root);
        copy_pair(q, p, to + 4 * n, pair + root * size + i);
    }
}

/* y (members, parts inputs). */
void reduce(const problem *q, const structure *p, REAL *y)
{
    int64_t pairs = p->pair_starts[p->subgraphs];
#pragma omp parallel for schedule(static, 1) num_threads(q->threads) if (q->threads > 1)
    for (int64_t share = 0; share < q->threads; share++) {
        int64_t last = share + 1 == q->threads ? p->subgraphs
                                               : first_subgraph(p, pairs * (share + 1) / q->threads);
        for (int64_t e = first_subgraph(p, pairs * share / q->threads); e < last; e++)
            reduce_subgraph(q, p, y, e);
    }
}

/* Sums of outer products over the pairs of one slice: of those x + z, then of those x - z. */
typedef struct {
    REAL *x_even, *x_odd, *y_even, *y_odd, *even, *odd;
    int64_t inputs, outputs;
} gradient;

static void lay_out_gradient(gradient *w, const problem *q, memory *m)
{
    w->inputs = row_length(q->inputs), w->outputs = row_length(q->outputs);
    w->x_even = take_matrix(m, TILE, w->inputs), w->x_odd = take_matrix(m, TILE, w->inputs);
    w->y_even = take_matrix(m, TILE, w->outputs), w->y_odd = take_matrix(m, TILE, w->outputs);
    w->even = take_matrix(m, q->inputs, w->outputs), w->odd = take_matrix(m, q->inputs, w->outputs);
}

static void add_tile(gradient *w, const problem *q, const tile *t, const REAL *y)
{
    fold(w->x_even, w->x_odd, w->inputs, q->x, q->inputs, t);
    fold(w->y_even, w->y_odd, w->outputs, y, q->outputs, t);
    for (int64_t u = 0; u < t->count; u++) /* a pair that counts once, not twice */
        for (int64_t c = 0; t->odd_row[u] < 0 && c < q->outputs; c++)
            w->y_even[u * w->outputs + c] /= 2;
    multiply((product){q->inputs, q->outputs, t->count, w->x_even, 1, w->inputs, w->y_even,
                       w->outputs, w->even, w->outputs, w->even, w->outputs});
    multiply((product){q->inputs, q->outputs, t->odd_count, w->x_odd, 1, w->inputs, w->y_odd,
                       w->outputs, w->odd, w->outputs, w->odd, w->outputs});
}

/* result (slices, 2, inputs, outputs), to be added up; y (rows, outputs) is the gradient by the
 * products. Which pairs are in a slice does not depend on the number of threads. Returns whether
 * memory ran out. */
int weight_gradient(const problem *q, const structure *p, const REAL *y, int64_t slices,
                    REAL *result)
{
    int failed = 0;
#pragma omp parallel for schedule(static, 1) num_threads(q->threads) if (q->threads > 1)
    for (int64_t slice = 0; slice < slices; slice++) {
        tile t;
        gradient w;
        memory m = {0};
        lay_out_gradient(&w, q, &m);
        if (!reserve(&m)) {
            failed = 1;
            continue;
        }
        lay_out_gradient(&w, q, &m);
        for (int64_t g = slice * BLOCK; fill(&t, p, &g, slices);)
            add_tile(&w, q, &t, y);
        REAL *to = result + 2 * slice * q->inputs * q->outputs;
        for (int64_t i = 0; i < q->inputs; i++)
            for (int64_t k = 0; k < q->outputs; k++) {
                REAL even = w.even[i * w.outputs + k] / 2, odd = w.odd[i * w.outputs + k] / 2;
                to[i * q->outputs + k] = even + odd;
                to[(q->inputs + i) * q->outputs + k] = even - odd;
            }
        free(m.start);
    }
    return failed;
}
