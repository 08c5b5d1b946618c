/* Which pairs there are, and sums over those of a member, which read every pair once. */
#pragma once

#include "../memory.h"

/* Which pairs there are; root is null where none is marked, and slot (with slot_order and
 * slot_starts) where every pair has its own row. */
typedef struct {
    const int64_t *transpose, *starts, *pair_starts, *subgraph, *row, *column;
    const int64_t *root, *slot, *slot_order, *slot_starts;
    int64_t rows, members, subgraphs;
} structure;

/* The arguments: x (rows, inputs), weight (2, inputs, outputs), spread (members, parts outputs) and
 * scale (rows), which may be null; parts are row and column, with roots to and from these, and, where
 * their number is odd, the diagonal before them. */
typedef struct {
    const REAL *x, *weight, *spread, *scale;
    int64_t inputs, outputs, threads, parts;
} problem;

static inline const REAL *take_pair(const problem *q, const structure *p, int64_t pair,
                                    REAL *scale)
{
    int64_t g = p->slot ? p->slot[pair] : pair;
    *scale = q->scale ? q->scale[g] : 1;
    return q->x + g * q->inputs;
}

/* Row sums of the pairs of member i, which go to the column sums of their other members as well:
 * some vectors from column c on. */
INLINE void sum_vectors(const int vectors, const problem *q, const structure *p, REAL *row,
                        REAL *columns, int64_t length, int64_t pair, int64_t size, int64_t c)
{
    vector sum[PANEL];
    for (int v = 0; v < vectors; v++)
        sum[v] = (vector){0};
    for (int64_t j = 0; j < size; j++, pair++, columns += length) {
        REAL scale;
        const REAL *x = take_pair(q, p, pair, &scale) + c;
        for (int v = 0; v < vectors; v++) {
            vector value = scale * load(x + v * WIDTH);
            sum[v] += value;
            store(columns + c + v * WIDTH, load(columns + c + v * WIDTH) + value);
        }
    }
    for (int v = 0; v < vectors; v++)
        store(row + c + v * WIDTH, sum[v]);
}

static void sum_pairs(const problem *q, const structure *p, REAL *row, REAL *columns,
                      int64_t length, int64_t pair, int64_t size)
{
    int64_t c = 0, n = q->inputs;
    for (; c + PANEL * WIDTH <= n; c += PANEL * WIDTH)
        sum_vectors(PANEL, q, p, row, columns, length, pair, size, c);
    for (; c + WIDTH <= n; c += WIDTH)
        sum_vectors(1, q, p, row, columns, length, pair, size, c);
    for (int64_t j = 0; c < n && j < size; j++, pair++, columns += length) {
        REAL scale;
        const REAL *x = take_pair(q, p, pair, &scale);
        for (int64_t k = c; k < n; k++) {
            row[k] += scale * x[k];
            columns[k] += scale * x[k];
        }
    }
}

static void copy_pair(const problem *q, const structure *p, REAL *to, int64_t pair)
{
    REAL scale;
    const REAL *x = take_pair(q, p, pair, &scale);
    for (int64_t c = 0; c < q->inputs; c++)
        to[c] = scale * x[c];
}

/* The first subgraph whose pairs begin at this one or later. */
static int64_t first_subgraph(const structure *p, int64_t pair)
{
    int64_t low = 0, high = p->subgraphs;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (p->pair_starts[middle] < pair)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
