/* Products of matrices, one for every channel: result[i, j, c] = sum_k a[k, i, c] b[k, j, c], where
 * channels are side by side in memory and stand side by side in registers. REAL is float or double.
 */
#include <string.h>

#include "../multiply.h"

enum { DEPTH = 32 }; /* what is added up before the sums leave the registers */

/* Operands with the distances of their first two axes in memory, and sizes. */
typedef struct {
    const REAL *a, *b;
    REAL *result;
    int64_t a_k, a_i, b_k, b_j;
    int64_t depth, rows, columns, channels, threads;
} problem;

static inline int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }

INLINE vector load_some(const REAL *from, int64_t count)
{
    vector v = {0};
    if (count == WIDTH) /* of known size, so that no function is called */
        return load(from);
    memcpy(&v, from, count * sizeof(REAL));
    return v;
}

INLINE void store_some(REAL *to, vector v, int64_t count)
{
    if (count == WIDTH)
        store(to, v);
    else
        memcpy(to, &v, count * sizeof(REAL));
}

/* Add a block of ROWS x PANEL sums, of some channels, over k = first .. last - 1; the first are not
 * added to anything. Beyond the last row and column it repeats them, and leaves them out in the
 * end. */
INLINE void add_block(const problem *p, int64_t first, int64_t last, int64_t row, int64_t column,
                      int64_t channel, int64_t count)
{
    const REAL *a[ROWS], *b[PANEL];
    vector sum[ROWS][PANEL];
    for (int i = 0; i < ROWS; i++)
        a[i] = p->a + first * p->a_k + minimum(row + i, p->rows - 1) * p->a_i + channel;
    for (int j = 0; j < PANEL; j++)
        b[j] = p->b + first * p->b_k + minimum(column + j, p->columns - 1) * p->b_j + channel;
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 8
        for (int j = 0; j < PANEL; j++)
            sum[i][j] = (vector){0};
    for (int64_t k = 0; k < last - first; k++) {
        vector right[PANEL];
#pragma GCC unroll 8
        for (int j = 0; j < PANEL; j++)
            right[j] = load_some(b[j] + k * p->b_k, count);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            vector left = load_some(a[i] + k * p->a_k, count);
#pragma GCC unroll 8
            for (int j = 0; j < PANEL; j++)
                sum[i][j] += left * right[j];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 8
        for (int j = 0; j < PANEL; j++)
            if (row + i < p->rows && column + j < p->columns) {
                int64_t place = (row + i) * p->columns + column + j;
                REAL *to = p->result + place * p->channels + channel;
                vector before = {0};
                if (first)
                    before = load_some(to, count);
                store_some(to, before + sum[i][j], count);
            }
}

/* Each share is a range of blocks of rows and of channels. */
void multiply_channels(const problem *p)
{
    int64_t vectors = (p->channels + WIDTH - 1) / WIDTH;
    int64_t items = (p->rows + ROWS - 1) / ROWS * vectors;
#pragma omp parallel for schedule(static, 1) num_threads(p->threads) if (p->threads > 1)
    for (int64_t share = 0; share < p->threads; share++)
        for (int64_t first = 0; first < p->depth; first += DEPTH)
            for (int64_t item = items * share / p->threads;
                 item < items * (share + 1) / p->threads; item++) {
                int64_t row = item / vectors * ROWS, channel = item % vectors * WIDTH;
                int64_t last = minimum(first + DEPTH, p->depth);
                for (int64_t column = 0; column < p->columns; column += PANEL)
                    if (channel + WIDTH <= p->channels)
                        add_block(p, first, last, row, column, channel, WIDTH);
                    else
                        add_block(p, first, last, row, column, channel, p->channels - channel);
            }
}
