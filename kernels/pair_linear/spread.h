/* Two products with matrices, of a pair and of the same pair turned around, and what members spread
 * along rows and columns.
 *
 * With x a pair and z the same turned around, x W0 + z W1 = (x + z) P + (x - z) Q and
 * z W0 + x W1 = (x + z) P - (x - z) Q, where P and Q are half the sum and the difference of W0 and
 * W1: half of the products. Pairs of a node with itself, x = z, need no Q.
 */
#pragma once

#include "sums.h"

enum {
    TILE = 96,
    BLOCK = 512,  /* rows that a thread takes at a time */
    AT_ONCE = 16, /* rows that are added before the sum leaves the registers */
};

/* Pairs that are worked on at a time: their rows, those of the same turned around, and where the
 * difference of both is, or -1 where they are one. */
typedef struct {
    int64_t count, odd_count, first[TILE], second[TILE], odd_row[TILE];
} tile;

/* Weights, and sums and differences of a tile with their products; lengths are those of rows. */
typedef struct {
    int64_t inputs, outputs;
    REAL *even_weight, *odd_weight, *zero, *even, *odd, *even_out, *odd_out;
} state;

/* Take the next pairs that do not come after themselves turned around, of every so manieth block of
 * rows; g is the row to go on from. Returns whether there were any. */
static int fill(tile *t, const structure *p, int64_t *g, int64_t step)
{
    t->count = t->odd_count = 0;
    while (*g < p->rows && t->count < TILE) {
        int64_t turned = p->transpose[*g];
        if (turned >= *g) {
            t->first[t->count] = *g, t->second[t->count] = turned;
            t->odd_row[t->count++] = turned > *g ? t->odd_count++ : -1;
        }
        if (++*g % BLOCK == 0)
            *g += (step - 1) * BLOCK;
    }
    return t->count > 0;
}

/* Sums and differences of the rows of x that are in the tile. */
static void fold(REAL *even, REAL *odd, int64_t length, const REAL *x, int64_t columns,
                 const tile *t)
{
    for (int64_t u = 0; u < t->count; u++, even += length) {
        const REAL *a = x + t->first[u] * columns, *b = x + t->second[u] * columns;
        REAL *to = t->odd_row[u] < 0 ? 0 : odd + t->odd_row[u] * length;
        int64_t c = 0;
        for (; c + WIDTH <= columns; c += WIDTH) {
            vector one = load(a + c), other = load(b + c);
            store(even + c, one + other);
            if (to)
                store(to + c, one - other);
        }
        for (; c < columns; c++) {
            even[c] = a[c] + b[c];
            if (to)
                to[c] = a[c] - b[c];
        }
    }
}

static void lay_out(state *s, const problem *q, memory *m)
{
    s->inputs = row_length(q->inputs), s->outputs = row_length(q->outputs);
    s->even_weight = take_matrix(m, q->inputs, s->outputs);
    s->odd_weight = take_matrix(m, q->inputs, s->outputs);
    s->zero = take_matrix(m, 1, s->outputs);
    s->even = take_matrix(m, TILE, s->inputs), s->odd = take_matrix(m, TILE, s->inputs);
    s->even_out = take_matrix(m, TILE, s->outputs), s->odd_out = take_matrix(m, TILE, s->outputs);
}

static int make_state(state *s, const problem *q, memory *m)
{
    lay_out(s, q, m);
    if (!reserve(m))
        return 0;
    lay_out(s, q, m);
    for (int64_t i = 0; i < q->inputs; i++)
        for (int64_t k = 0; k < q->outputs; k++) {
            REAL a = q->weight[i * q->outputs + k];
            REAL b = q->weight[(q->inputs + i) * q->outputs + k];
            s->even_weight[i * s->outputs + k] = (a + b) / 2;
            s->odd_weight[i * s->outputs + k] = (a - b) / 2;
        }
    return 1;
}

/* One row of the result: (even + sign odd), or what it is already where even is null, plus the sum
 * of some rows. */
static void write_row(REAL *y, int64_t columns, const REAL *even, const REAL *odd, REAL sign,
                      const REAL *const *rows, int64_t count, REAL scale)
{
    int64_t c = 0;
    for (; c + WIDTH <= columns; c += WIDTH) {
        vector sum = {0}, first = load(even ? even + c : y + c);
        for (int64_t k = 0; k < count; k++)
            sum += load(rows[k] + c);
        if (odd)
            first += sign * load(odd + c);
        store(y + c, first + scale * sum);
    }
    for (; c < columns; c++) {
        REAL sum = 0, first = even ? even[c] : y[c];
        for (int64_t k = 0; k < count; k++)
            sum += rows[k][c];
        if (odd)
            first += sign * odd[c];
        y[c] = first + scale * sum;
    }
}

/* The rows that are spread to a pair of members i and j; returns their number, 5 at most. */
INLINE int64_t find_rows(const REAL **rows, const problem *q, const char *is_root, int64_t i,
                         int64_t j)
{
    int64_t n = q->outputs, length = n * q->parts, count = 2, row = q->parts % 2 ? n : 0;
    const REAL *from_i = q->spread + i * length, *from_j = q->spread + j * length;
    rows[0] = from_i + row, rows[1] = from_j + row + n;
    if (i == j && row)
        rows[count++] = from_i;
    if (is_root && is_root[j])
        rows[count++] = from_i + row + 2 * n;
    if (is_root && is_root[i])
        rows[count++] = from_j + row + 3 * n;
    return count;
}

/* Row g of the result: both products, and what all its pairs are given. */
static void deliver(REAL *y, const problem *q, const structure *p, const char *is_root,
                    const REAL *even, const REAL *odd, REAL sign, int64_t g)
{
    const REAL *rows[AT_ONCE];
    REAL scale = q->scale ? q->scale[g] : 1;
    int64_t count = 0;
    y += g * q->outputs;
    if (q->spread && !p->slot)
        count = find_rows(rows, q, is_root, p->row[g], p->column[g]);
    else if (q->spread)
        for (int64_t k = p->slot_starts[g]; k < p->slot_starts[g + 1]; k++) {
            int64_t pair = p->slot_order[k];
            count += find_rows(rows + count, q, is_root, p->row[pair], p->column[pair]);
            if (count + 5 > AT_ONCE) {
                write_row(y, q->outputs, even, odd, sign, rows, count, scale);
                even = odd = 0, count = 0;
            }
        }
    write_row(y, q->outputs, even, odd, sign, rows, count, scale);
}

static void multiply_tile(state *s, const problem *q, const tile *t)
{
    fold(s->even, s->odd, s->inputs, q->x, q->inputs, t);
    multiply((product){round_up(t->count, ROWS), q->outputs, q->inputs, s->even, s->inputs, 1,
                       s->even_weight, s->outputs, s->zero, 0, s->even_out, s->outputs});
    multiply((product){round_up(t->odd_count, ROWS), q->outputs, q->inputs, s->odd, s->inputs, 1,
                       s->odd_weight, s->outputs, s->zero, 0, s->odd_out, s->outputs});
}

static void deliver_tile(const state *s, const problem *q, const structure *p, const char *is_root,
                         const tile *t, REAL *y)
{
    for (int64_t u = 0; u < t->count; u++) {
        const REAL *even = s->even_out + u * s->outputs, *odd = 0;
        if (t->odd_row[u] >= 0)
            odd = s->odd_out + t->odd_row[u] * s->outputs;
        deliver(y, q, p, is_root, even, odd, 1, t->first[u]);
        if (odd)
            deliver(y, q, p, is_root, even, odd, -1, t->second[u]);
    }
}

/* That of a subgraph without members may be any number. */
static char *mark_roots(const structure *p)
{
    char *marks = calloc(p->members + 1, 1);
    for (int64_t e = 0; marks && e < p->subgraphs; e++)
        if (p->starts[e + 1] > p->starts[e])
            marks[p->root[e]] = 1;
    return marks;
}

/* y (rows, outputs), with marks of the members that are roots, or null. Returns whether memory ran
 * out. */
static int map_pairs(const problem *q, const structure *p, const char *is_root, REAL *y)
{
    int failed = 0;
#pragma omp parallel for schedule(static, 1) num_threads(q->threads) if (q->threads > 1)
    for (int64_t share = 0; share < q->threads; share++) {
        tile t;
        state s;
        memory m = {0};
        if (!make_state(&s, q, &m)) {
            failed = 1;
            continue;
        }
        for (int64_t g = p->rows * share / q->threads;
             !q->inputs && g < p->rows * (share + 1) / q->threads; g++)
            deliver(y, q, p, is_root, s.zero, 0, 1, g);
        for (int64_t g = share * BLOCK; q->inputs && fill(&t, p, &g, q->threads);) {
            multiply_tile(&s, q, &t);
            deliver_tile(&s, q, p, is_root, &t, y);
        }
        free(m.start);
    }
    return failed;
}
