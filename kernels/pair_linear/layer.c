/* A layer on pairs, nodes and scalars of subgraphs: sums over rows, columns and diagonal, products
 * with matrices on the levels of pairs, members, nodes and subgraphs, and means over subgraphs; and
 * the same transposed, which is its derivative. REAL is float or double.
 *
 * What all members of a node share, its features and its diagonal pair, is multiplied once for the
 * node, and what all members give to it once for their mean; only sums over rows and columns, and what
 * is spread along these, are products of members.
 */
#include "gather.h"

/* Vectors and scalars of a block, and what they give. */
typedef struct {
    memory m;
    int64_t vector_length, out_length, scalar_length, scalar_out_length;
    REAL *vector, *out, *scalar, *scalar_out, *zero;
} block;

static void lay_out_block(block *b, const work *w)
{
    b->vector_length = row_length(w->vectors), b->out_length = row_length(w->vector_places);
    b->scalar_length = row_length(w->scalars);
    b->scalar_out_length = row_length(w->scalar_places);
    b->vector = take_matrix(&b->m, w->longest, b->vector_length);
    b->out = take_matrix(&b->m, w->longest, b->out_length);
    b->scalar = take_matrix(&b->m, TILE, b->scalar_length);
    b->scalar_out = take_matrix(&b->m, TILE, b->scalar_out_length);
    b->zero = take_matrix(&b->m, 1, b->scalar_out_length);
}

static int make_block(block *b, const work *w)
{
    b->m = (memory){0};
    lay_out_block(b, w);
    if (!reserve(&b->m))
        return 0;
    lay_out_block(b, w);
    return 1;
}

/* out += vector weight, for so many rows, from an entry of the matrix of vectors on. */
static void add_product(const work *w, const block *b, int64_t rows, int64_t columns, int64_t depth,
                        int64_t row, int64_t column)
{
    multiply((product){round_up(rows, ROWS), columns, depth, b->vector, b->vector_length, 1,
                       w->weights.vector + row * w->weights.vector_length + column,
                       w->weights.vector_length, b->out, b->out_length, b->out, b->out_length});
}

/* Rows of a block without what is between them. */
static void copy_out(REAL *to, const REAL *from, int64_t length, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i++)
        memcpy(to + i * columns, from + i * length, columns * sizeof(REAL));
}

/* What the diagonal and the features of nodes give to rows and columns of their members. */
static void give_to_members(const work *w, block *b, int64_t first, int64_t last)
{
    int64_t n = w->from[0], k = w->from[1], columns = w->levels * w->to[0];
    for (int64_t node = first; node < last; node++) {
        REAL *row = b->vector + (node - first) * b->vector_length;
        int64_t begin = first_of(w->n, node);
        int empty = w->n->starts && w->n->starts[node + 1] == begin;
        REAL share = empty ? 0 : w->x->transposed ? share_of(w->n, node) : 1;
        int64_t g = empty || !n ? 0 : diagonal_of(w->p, member_at(w->n, begin));
        memset(row, 0, (n + k) * sizeof(REAL));
        if (!empty)
            copy_row(row, w->gather.x + g * n, n, share);
        copy_row(row + n, w->x->of_nodes + node * k, k, share);
        memset(b->out + (node - first) * b->out_length, 0, columns * sizeof(REAL));
    }
    add_product(w, b, last - first, columns, n + k, w->levels * n, 0);
    copy_out(w->given + first * columns, b->out, b->out_length, last - first, columns);
}

/* What the scalars of a subgraph give: to nodes, to its root, to the scalars of the result, and to the
 * rows of its members, where the products are added to. */
static void give_scalars(const work *w, const results *y, const REAL *from, int64_t e, REAL *out,
                         int64_t length)
{
    int64_t n = w->to[0], k = w->to[1], wide = w->levels * n, root = root_of(w, e);
    REAL *to = w->to_nodes + e * 2 * (n + k), factor = w->x->transposed ? mean_of(w, e) : 1;
    const REAL *of_nodes = from + count_sums(w->rooted) * n;
    copy_row(to, from, n, factor);
    copy_row(to + n, of_nodes, k, factor);
    if (w->rooted) {
        memcpy(to + n + k, from + 2 * n, n * sizeof(REAL));
        memcpy(to + 2 * n + k, of_nodes + k, k * sizeof(REAL));
    }
    memcpy(y->of_scalars + e * w->to[2], of_nodes + count_totals(w->rooted) * k,
           w->to[2] * sizeof(REAL));
    for (int64_t i = w->p->starts[e]; i < w->p->starts[e + 1]; i++, out += length) {
        memcpy(out, w->given + node_of(w->n, i) * wide, wide * sizeof(REAL));
        add_row(out, from + n, n, factor);
        if (i == root)
            add_row(out, from + 3 * n, 2 * n, 1);
    }
}

/* The subgraphs from e to before last, which are one block. */
static void mix_subgraphs(const work *w, const results *y, block *b, int64_t e, int64_t last)
{
    const int64_t *starts = w->p->starts;
    int64_t inputs = w->levels * w->from[0], columns = w->levels * w->to[0], first = starts[e];
    REAL *sums = w->sums_alone ? y->member_sources : w->sums;
    for (int64_t k = e; k < last; k++) {
        REAL *vector = b->vector + (starts[k] - first) * b->vector_length;
        gather_vectors(w, k, vector, b->vector_length);
        gather_scalars(w, k, vector, b->vector_length, b->scalar + (k - e) * b->scalar_length);
    }
    copy_out(sums + first * inputs, b->vector, b->vector_length, starts[last] - first, inputs);
    if (w->sums_alone) {
        copy_out(y->scalar_sources + e * w->scalars, b->scalar, b->scalar_length, last - e,
                 w->scalars);
        return;
    }
    multiply((product){round_up(last - e, ROWS), w->scalar_places, w->scalars, b->scalar,
                       b->scalar_length, 1, w->weights.scalar, w->weights.scalar_length, b->zero, 0,
                       b->scalar_out, b->scalar_out_length});
    for (int64_t k = e; k < last; k++)
        give_scalars(w, y, b->scalar_out + (k - e) * b->scalar_out_length, k,
                     b->out + (starts[k] - first) * b->out_length, b->out_length);
    add_product(w, b, starts[last] - first, columns, inputs, 0, 0);
    for (int64_t k = e; w->x->transposed && k < last; k++)
        for (int64_t i = starts[k]; i < starts[k + 1]; i++)
            scale_row(b->out + (i - first) * b->out_length, 2 * w->to[0], mean_of(w, k));
    copy_out(w->spread_out + first * columns, b->out, b->out_length, starts[last] - first, columns);
}

/* The results of nodes, and their diagonal. */
static void finish_nodes(const work *w, const results *y, block *b, int64_t first, int64_t last)
{
    int64_t n = w->to[0], k = w->to[1];
    REAL *sums = w->sums_alone ? y->member_sources : w->sums;
    for (int64_t node = first; node < last; node++)
        gather_node(w, sums, node, b->vector + (node - first) * b->vector_length,
                    w->sums_alone ? 0 : b->out + (node - first) * b->out_length);
    if (w->sums_alone) {
        copy_out(y->node_sources + first * w->vectors, b->vector, b->vector_length, last - first,
                 w->vectors);
        return;
    }
    add_product(w, b, last - first, n + k, w->vectors, 0, w->levels * n);
    copy_out(w->diagonal + first * n, b->out, b->out_length, last - first, n);
    copy_out(y->of_nodes + first * k, b->out + n, b->out_length, last - first, k);
}

/* Where the block of subgraphs ends that begins with e. */
static int64_t end_block(const structure *p, int64_t e, int64_t last)
{
    int64_t end = e + 1;
    while (end < last && end - e < TILE && p->starts[end + 1] - p->starts[e] <= TILE)
        end++;
    return end;
}

typedef enum { GIVE, MIX, FINISH } phase;

/* One phase on a share of the nodes or subgraphs; returns whether memory ran out. */
static int run_share(phase phase, const work *w, const results *y, int64_t share, int64_t shares)
{
    block b;
    if (!make_block(&b, w))
        return 1;
    int64_t begin = w->n->count * share / shares, end = w->n->count * (share + 1) / shares;
    if (phase == MIX) {
        int64_t pairs = w->p->pair_starts[w->p->subgraphs];
        begin = first_subgraph(w->p, pairs * share / shares);
        end = share + 1 == shares ? w->p->subgraphs
                                  : first_subgraph(w->p, pairs * (share + 1) / shares);
    }
    for (int64_t i = begin, next; i < end; i = next) {
        next = phase == MIX ? end_block(w->p, i, end) : i + TILE < end ? i + TILE : end;
        if (phase == GIVE)
            give_to_members(w, &b, i, next);
        else if (phase == MIX)
            mix_subgraphs(w, y, &b, i, next);
        else
            finish_nodes(w, y, &b, i, next);
    }
    free(b.m.start);
    return 0;
}

static int run_phase(phase phase, const work *w, const results *y, int64_t threads)
{
    int failed = 0;
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)
    for (int64_t share = 0; share < threads; share++)
        if (run_share(phase, w, y, share, threads))
            failed = 1;
    return failed;
}

static void add_diagonal(const work *w, REAL *y)
{
    int64_t n = w->to[0];
    for (int64_t node = 0; n && node < w->n->count; node++) {
        int64_t begin = first_of(w->n, node);
        if (!w->n->starts || w->n->starts[node + 1] > begin)
            add_row(y + diagonal_of(w->p, member_at(w->n, begin)) * n, w->diagonal + node * n, n, 1);
    }
}

/* Bytes of memory that apply, or gather, works in. */
int64_t measure(const problem *q, const structure *p, const nodes *n, const layer *x, int sums_alone)
{
    work w = {.x = x, .p = p, .n = n, .sums_alone = sums_alone};
    return prepare(&w, q, 0);
}

/* Of q only x and threads count. Returns whether memory ran out. */
int apply(const problem *q, const structure *p, const nodes *n, const layer *x, const results *y)
{
    work w = {.x = x, .p = p, .n = n};
    int failed = 0;
    prepare(&w, q, y->space);
    for (phase phase = GIVE; !failed && phase <= FINISH; phase++)
        failed = run_phase(phase, &w, y, q->threads);
    char *is_root = 0;
    if (!failed && w.to[0] && w.rooted)
        failed = !(is_root = mark_roots(p));
    if (!failed && w.to[0])
        failed = map_pairs(&w.spread, p, is_root, y->pairs);
    free(is_root);
    if (!failed)
        add_diagonal(&w, y->pairs);
    return failed;
}

/* The sums alone, which the gradients by weights are products of. */
int gather(const problem *q, const structure *p, const nodes *n, const layer *x, const results *y)
{
    work w = {.x = x, .p = p, .n = n, .sums_alone = 1};
    int failed = 0;
    prepare(&w, q, y->space);
    for (phase phase = MIX; !failed && phase <= FINISH; phase++)
        failed = run_phase(phase, &w, y, q->threads);
    return failed;
}

/* Gradients by the weights, out of those by the matrices. */
void give_weights(const layer *x, REAL *vector, REAL *scalar)
{
    const channels *c = &x->channels;
    matrices m = {count_vectors(c->to, c->rooted), count_scalars(c->to, c->rooted), vector, scalar};
    copy_weights(&m, c, x->weights, OUT);
}
