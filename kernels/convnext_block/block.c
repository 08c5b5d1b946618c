/* Two layers on normalised rows, and their gradient: result = x + W2 GELU(W1 normal(z) + b1) + b2,
 * where normal has mean zero and variance one. REAL is float or double, and BITS its size.
 *
 * A tile of rows goes through both layers while it stays in the cache; the gradient makes the
 * hidden layer again. Each share has a range of rows, and its own copy of what is summed over them.
 */
#include <math.h>

#include "../gelu.h"
#include "../memory.h"

enum { TILE = 96 };

/* The arguments: x, z and by_y (rows, channels), w1 (hidden, channels), w2 (channels, hidden), and
 * whether to differentiate. */
typedef struct {
    const REAL *x, *z, *w1, *b1, *w2, *b2, *by_y;
    int64_t backward, rows, channels, hidden, shares, threads;
    double epsilon;
} problem;

/* Results: y of the block, or gradients. Those of the weights, both (hidden, channels), have a copy
 * for each share; they are null where not wanted. */
typedef struct {
    REAL *y, *z, *w1, *b1, *w2, *b2;
} results;

/* Weights and the values of a tile; lengths are those of rows. */
typedef struct {
    int64_t channels, hidden;
    REAL *w1_t, *w2_t, *w1, *w2, *b1, *b2, *zero;
    REAL *normal, *inverse, *middle, *slope, *out, *by_out, *by_middle;
    REAL *by_w1, *by_w2, *by_b1, *by_b2;
} state;

static void lay_out(state *s, const problem *p, memory *m)
{
    s->channels = row_length(p->channels), s->hidden = row_length(p->hidden);
    s->w1_t = take_matrix(m, p->channels, s->hidden), s->b1 = take_matrix(m, 1, s->hidden);
    s->w2_t = take_matrix(m, p->hidden, s->channels), s->b2 = take_matrix(m, 1, s->channels);
    s->normal = take_matrix(m, TILE, s->channels), s->inverse = take_matrix(m, 1, TILE);
    s->middle = take_matrix(m, TILE, s->hidden), s->out = take_matrix(m, TILE, s->channels);
    s->slope = 0;
    if (!p->backward)
        return;
    s->w1 = take_matrix(m, p->hidden, s->channels), s->w2 = take_matrix(m, p->channels, s->hidden);
    s->slope = take_matrix(m, TILE, s->hidden), s->by_middle = take_matrix(m, TILE, s->hidden);
    s->by_out = take_matrix(m, TILE, s->channels);
    s->zero = take_matrix(m, 1, s->hidden + s->channels);
    s->by_w1 = take_matrix(m, p->hidden, s->channels), s->by_b1 = take_matrix(m, 1, s->hidden);
    s->by_w2 = take_matrix(m, p->hidden, s->channels), s->by_b2 = take_matrix(m, 1, s->channels);
}

static int make_state(state *s, const problem *p, memory *m)
{
    lay_out(s, p, m);
    if (!reserve(m))
        return 0;
    lay_out(s, p, m);
    transpose(s->w1_t, s->hidden, p->w1, p->hidden, p->channels);
    transpose(s->w2_t, s->channels, p->w2, p->channels, p->hidden);
    copy_rows(s->b1, 0, p->b1, 1, p->hidden);
    copy_rows(s->b2, 0, p->b2, 1, p->channels);
    if (p->backward) {
        copy_rows(s->w1, s->channels, p->w1, p->hidden, p->channels);
        copy_rows(s->w2, s->hidden, p->w2, p->channels, p->hidden);
    }
    return 1;
}

/* Sum of the products of two rows of whole vectors; of one row where b is null. */
INLINE REAL sum_of(const REAL *a, const REAL *b, int64_t length)
{
    vector sum = {0};
    for (int64_t i = 0; i < length; i += WIDTH) {
        vector part = load(a + i);
        if (b)
            part *= load(b + i);
        sum += part;
    }
    REAL total = 0;
    for (int i = 0; i < WIDTH; i++)
        total += sum[i];
    return total;
}

/* Rows of mean zero and variance one; what fills up their last vectors stays zero. */
static void normalise(state *s, const problem *p, int64_t first, int64_t count)
{
    for (int64_t r = 0; r < count; r++) {
        REAL *row = s->normal + r * s->channels;
        copy_rows(row, 0, p->z + (first + r) * p->channels, 1, p->channels);
        REAL mean = sum_of(row, 0, s->channels) / p->channels;
        for (int64_t c = 0; c < p->channels; c++)
            row[c] -= mean;
        REAL variance = sum_of(row, row, s->channels) / p->channels;
        REAL inverse = 1 / (REAL)sqrt(variance + p->epsilon);
        s->inverse[r] = inverse;
        for (int64_t c = 0; c < p->channels; c++) /* zero times NaN would not stay zero */
            row[c] *= inverse;
    }
}

/* The hidden layer of a tile, with its slope where there is room for it. */
static void widen(state *s, const problem *p, int64_t first, int64_t count)
{
    int64_t rows = round_up(count, ROWS);
    normalise(s, p, first, count);
    multiply((product){rows, p->hidden, p->channels, s->normal, s->channels, 1, s->w1_t, s->hidden,
                       s->b1, 0, s->middle, s->hidden});
    apply_gelu(s->middle, s->slope, rows * s->hidden);
}

static void narrow(state *s, const problem *p, const results *to, int64_t first, int64_t count)
{
    multiply((product){round_up(count, ROWS), p->channels, p->hidden, s->middle, s->hidden, 1,
                       s->w2_t, s->channels, s->b2, 0, s->out, s->channels});
    for (int64_t r = 0; r < count; r++) {
        const REAL *x = p->x + (first + r) * p->channels, *out = s->out + r * s->channels;
        REAL *y = to->y + (first + r) * p->channels;
        for (int64_t c = 0; c < p->channels; c++)
            y[c] = x[c] + out[c];
    }
}

INLINE void add_rows(REAL *sum, const REAL *rows, int64_t length, int64_t count)
{
    for (int64_t r = 0; r < count; r++)
        for (int64_t i = 0; i < length; i += WIDTH)
            store(sum + i, load(sum + i) + load(rows + r * length + i));
}

/* The gradient of the normalised rows, in s->out, and those of the weights where wanted. */
static void differentiate_layers(state *s, const problem *p, int weights, int64_t first,
                                 int64_t count)
{
    int64_t rows = round_up(count, ROWS);
    for (int64_t r = 0; r < count; r++)
        copy_rows(s->by_out + r * s->channels, 0, p->by_y + (first + r) * p->channels, 1,
                  p->channels);
    multiply((product){rows, p->hidden, p->channels, s->by_out, s->channels, 1, s->w2, s->hidden,
                       s->zero, 0, s->by_middle, s->hidden});
    for (int64_t i = 0; i < rows * s->hidden; i += WIDTH)
        store(s->by_middle + i, load(s->by_middle + i) * load(s->slope + i));
    multiply((product){rows, p->channels, p->hidden, s->by_middle, s->hidden, 1, s->w1,
                       s->channels, s->zero, 0, s->out, s->channels});
    if (!weights)
        return;
    multiply((product){p->hidden, p->channels, count, s->middle, 1, s->hidden, s->by_out,
                       s->channels, s->by_w2, s->channels, s->by_w2, s->channels});
    add_rows(s->by_b2, s->by_out, s->channels, count);
    multiply((product){p->hidden, p->channels, count, s->by_middle, 1, s->hidden, s->normal,
                       s->channels, s->by_w1, s->channels, s->by_w1, s->channels});
    add_rows(s->by_b1, s->by_middle, s->hidden, count);
}

/* From the gradient of the normalised rows to that of z. */
static void differentiate_normal(const state *s, const problem *p, REAL *by_z, int64_t first,
                                 int64_t count)
{
    for (int64_t r = 0; r < count; r++) {
        const REAL *by = s->out + r * s->channels, *normal = s->normal + r * s->channels;
        REAL *to = by_z + (first + r) * p->channels, inverse = s->inverse[r];
        REAL mean = sum_of(by, 0, s->channels) / p->channels;
        REAL along = sum_of(by, normal, s->channels) / p->channels;
        for (int64_t c = 0; c < p->channels; c++)
            to[c] = inverse * (by[c] - mean - along * normal[c]);
    }
}

static void deliver(const state *s, const problem *p, const results *to, int64_t share)
{
    int64_t size = p->hidden * p->channels;
    for (int64_t i = 0; i < p->hidden; i++)
        for (int64_t c = 0; c < p->channels; c++) {
            to->w1[share * size + i * p->channels + c] = s->by_w1[i * s->channels + c];
            to->w2[share * size + i * p->channels + c] = s->by_w2[i * s->channels + c];
        }
    copy_rows(to->b1 + share * p->hidden, 0, s->by_b1, 1, p->hidden);
    copy_rows(to->b2 + share * p->channels, 0, s->by_b2, 1, p->channels);
}

/* The block, or its gradients. Returns whether memory ran out. */
int run(const problem *p, const results *to)
{
    int failed = 0;
#pragma omp parallel for schedule(static, 1) num_threads(p->threads) if (p->threads > 1)
    for (int64_t share = 0; share < p->shares; share++) {
        state s;
        memory m = {0};
        int64_t last = p->rows * (share + 1) / p->shares;
        if (!make_state(&s, p, &m)) {
            failed = 1;
            continue;
        }
        for (int64_t first = p->rows * share / p->shares; first < last; first += TILE) {
            int64_t count = last - first < TILE ? last - first : TILE;
            widen(&s, p, first, count);
            if (!p->backward) {
                narrow(&s, p, to, first, count);
                continue;
            }
            differentiate_layers(&s, p, to->w1 != 0, first, count);
            differentiate_normal(&s, p, to->z, first, count);
        }
        if (to->w1)
            deliver(&s, p, to, share);
        free(m.start);
    }
    return failed;
}
