/* Tiles of rows for the kernels of this folder. A row is one pair of batch entry and channel; a tile
 * is LANES of them, gathered so that a coefficient meets all of them in registers: UNROLL vectors
 * hide the latency of the multiply-adds. Every entry of the inputs is read from memory once, every
 * entry of the outputs written once. The including file may set UNROLL and MAX_DEGREE.
 */
#include <stdint.h>

#ifndef UNROLL
#define UNROLL 4
#endif
#ifndef MAX_DEGREE
#define MAX_DEGREE 10
#endif
#define MAX_COEFFS ((MAX_DEGREE + 1) * (MAX_DEGREE + 1))
typedef REAL vector __attribute__((vector_size(64)));
enum { WIDTH = 64 / sizeof(REAL), LANES = UNROLL * WIDTH };
typedef union {
    vector v[UNROLL];
    REAL lane[LANES];
} tile_row;

/* Gather rows start .. start + count of x (batch, coeffs, channels), times a factor (coeffs,
 * channels) where there is one; lanes beyond count are zero. */
static inline void load(tile_row *tile, const REAL *x, const REAL *factor, int64_t start, int count,
                        int coeffs, int64_t channels)
{
    for (int s = 0; count < LANES && s < coeffs; s++)
        for (int i = count; i < LANES; i++)
            tile[s].lane[i] = 0;
    int64_t entry = start / channels, channel = start % channels;
    for (int done = 0; done < count; entry++, channel = 0) {
        int64_t rest = channels - channel;
        int length = rest < count - done ? (int)rest : count - done;
        const REAL *from = x + entry * coeffs * channels + channel;
        for (int s = 0; s < coeffs; s++, from += channels) {
            REAL *to = tile[s].lane + done;
            if (factor) {
                const REAL *w = factor + s * channels + channel;
                for (int i = 0; i < length; i++)
                    to[i] = from[i] * w[i];
            } else
                for (int i = 0; i < length; i++)
                    to[i] = from[i];
        }
        done += length;
    }
}

static inline void store(REAL *z, const tile_row *tile, const REAL *factor, int64_t start, int count,
                         int coeffs, int64_t channels)
{
    int64_t entry = start / channels, channel = start % channels;
    for (int done = 0; done < count; entry++, channel = 0) {
        int64_t rest = channels - channel;
        int length = rest < count - done ? (int)rest : count - done;
        REAL *to = z + entry * coeffs * channels + channel;
        for (int s = 0; s < coeffs; s++, to += channels) {
            const REAL *from = tile[s].lane + done;
            if (factor) {
                const REAL *w = factor + s * channels + channel;
                for (int i = 0; i < length; i++)
                    to[i] = from[i] * w[i];
            } else
                for (int i = 0; i < length; i++)
                    to[i] = from[i];
        }
        done += length;
    }
}

static inline int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }
