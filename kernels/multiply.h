/* Products of matrices that stay in the caches, in blocks of ROWS rows and PANEL vectors that stay
 * in registers. REAL is float or double. The memory of every matrix is whole blocks.
 */
#pragma once

#include <stdint.h>

#if defined(__AVX512F__)
enum { BYTES = 64, PANEL = 4 };
#elif defined(__AVX__)
enum { BYTES = 32, PANEL = 2 };
#elif defined(__aarch64__)
enum { BYTES = 16, PANEL = 4 };
#else
enum { BYTES = 16, PANEL = 2 };
#endif
enum { WIDTH = BYTES / sizeof(REAL), ROWS = 6 };
typedef REAL vector __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
#define INLINE static inline __attribute__((always_inline))

INLINE vector load(const REAL *from) { return *(const vector *)from; }

INLINE void store(REAL *to, vector v) { *(vector *)to = v; }

static inline int64_t round_up(int64_t count, int64_t step)
{
    return (count + step - 1) / step * step;
}

/* The length of a row of so many columns. More than one panel is an odd number of vectors, so that
 * the rows of a panel do not share a few sets of the cache. */
static inline int64_t row_length(int64_t columns)
{
    int64_t vectors = (columns + WIDTH - 1) / WIDTH;
    return (vectors > PANEL ? vectors | 1 : vectors) * WIDTH;
}

/* c = first + a b, where a[r * along + k * across] is the entry (r, k) of a. */
typedef struct {
    int64_t rows, columns, depth;
    const REAL *a;
    int64_t along, across;
    const REAL *b;
    int64_t b_row;
    const REAL *first;
    int64_t first_row;
    REAL *c;
    int64_t c_row;
} product;

INLINE void multiply_block(const int vectors, product p, int64_t along, int64_t across)
{
    vector sum[ROWS][PANEL];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[r][v] = load(p.first + r * p.first_row + v * WIDTH);
    for (int64_t k = 0; k < p.depth; k++, p.a += across, p.b += p.b_row) {
        vector right[PANEL];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            right[v] = load(p.b + v * WIDTH);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            REAL left = p.a[r * along];
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                sum[r][v] += left * right[v];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            store(p.c + r * p.c_row + v * WIDTH, sum[r][v]);
}

INLINE void multiply_rows(const int vectors, product p, int64_t along, int64_t across)
{
    for (int64_t r = 0; r < p.rows; r += ROWS) {
        multiply_block(vectors, p, along, across);
        p.a += ROWS * along, p.first += ROWS * p.first_row, p.c += ROWS * p.c_row;
    }
}

INLINE void multiply_panels(product p, int64_t along, int64_t across)
{
    for (int64_t rest = p.columns; rest > 0; rest -= PANEL * WIDTH) {
        int64_t vectors = (rest + WIDTH - 1) / WIDTH;
        if (vectors >= PANEL)
            multiply_rows(PANEL, p, along, across);
        else if (vectors == 1)
            multiply_rows(1, p, along, across);
        else if (vectors == 2)
            multiply_rows(2, p, along, across);
        else
            multiply_rows(PANEL - 1, p, along, across);
        p.b += PANEL * WIDTH, p.first += PANEL * WIDTH, p.c += PANEL * WIDTH;
    }
}

/* c = first + a b, or first + a^T b; rows of a have a_row entries, and first_row may be 0. */
static __attribute__((noinline)) void multiply(product p)
{
    if (p.across == 1)
        multiply_panels(p, p.along, 1);
    else
        multiply_panels(p, 1, p.across);
}
