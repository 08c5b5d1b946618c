/* Memory for the matrices of one call: whole vectors in a row and whole blocks of rows, all zero.
 * It is laid out twice, first to count it.
 */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "multiply.h"

/* Memory in use; it is counted while start is null. */
typedef struct {
    char *start;
    int64_t used;
} memory;

static inline void *take(memory *m, int64_t bytes)
{
    char *found = m->start ? m->start + m->used : 0;
    m->used += round_up(bytes, 64);
    return found;
}

/* A matrix, and room for a block that begins in its last row. */
static inline REAL *take_matrix(memory *m, int64_t rows, int64_t length)
{
    return take(m, (round_up(rows, ROWS) * length + ROWS * WIDTH) * sizeof(REAL));
}

static inline int reserve(memory *m)
{
    m->start = aligned_alloc(64, round_up(m->used, 64));
    if (m->start)
        memset(m->start, 0, m->used);
    m->used = 0;
    return m->start != 0;
}

static inline void copy_rows(REAL *to, int64_t length, const REAL *from, int64_t rows,
                             int64_t columns)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < columns; k++)
            to[i * length + k] = from[i * columns + k];
}

static inline void transpose(REAL *to, int64_t length, const REAL *from, int64_t rows,
                             int64_t columns)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < columns; k++)
            to[k * length + i] = from[i * columns + k];
}
