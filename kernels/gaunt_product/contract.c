/* Trilinear contraction with a sparse coefficient tensor, the CPU form of a channelwise tensor
 * product: z[n,k,c] = sum K[i,j,k] x[n,i,c] y[n,j,c]. REAL is float or double.
 */
#include <stdint.h>
#ifdef _OPENMP
#include <omp.h>
#define THREAD omp_get_thread_num()
#else
#define THREAD 0
#endif

#include "tiles.h"

/* Terms of output k: groups outputs[k] .. outputs[k+1]; a group is one left component and the terms
 * groups[g] .. groups[g+1], each a right component and a coefficient. */
typedef struct {
    const int32_t *outputs, *groups, *left, *right;
    const REAL *values;
} terms;

static inline void contract(const tile_row *a, const tile_row *b, tile_row *out, int count,
                            const terms *t)
{
    for (int k = 0; k < count; k++) {
        vector sum[UNROLL] = {0};
        for (int32_t g = t->outputs[k]; g < t->outputs[k + 1]; g++) {
            vector inner[UNROLL] = {0};
            for (int32_t n = t->groups[g]; n < t->groups[g + 1]; n++)
                for (int u = 0; u < UNROLL; u++)
                    inner[u] += t->values[n] * b[t->right[n]].v[u];
            for (int u = 0; u < UNROLL; u++)
                sum[u] += inner[u] * a[t->left[g]].v[u];
        }
        for (int u = 0; u < UNROLL; u++)
            out[k].v[u] = sum[u];
    }
}

/* Add to sums (degrees, channels) the products of two tiles, summed over rows and orders. */
static inline void add_inner(double *sums, const tile_row *a, const tile_row *b, int64_t start,
                             int count, int coeffs, int64_t channels)
{
    int64_t channel = start % channels;
    for (int done = 0; done < count; channel = 0) {
        int64_t rest = channels - channel;
        int length = rest < count - done ? (int)rest : count - done;
        double *to = sums + channel;
        for (int l = 0; l * l < coeffs; l++, to += channels)
            for (int s = l * l; s < (l + 1) * (l + 1); s++)
                for (int i = 0; i < length; i++)
                    to[i] += (double)a[s].lane[done + i] * b[s].lane[done + i];
        done += length;
    }
}

/* z = P(x, y), each with its factor or none. */
void product(const REAL *x, const REAL *y, REAL *z, const REAL *wx, const REAL *wy, const REAL *wz,
             int nx, int ny, int nz, int64_t rows, int64_t channels, const terms *t, int threads)
{
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads) if (threads > 1)
    for (int64_t start = 0; start < rows; start += LANES) {
        tile_row a[MAX_COEFFS], b[MAX_COEFFS], c[MAX_COEFFS];
        int count = (int)minimum(LANES, rows - start);
        load(a, x, wx, start, count, nx, channels);
        load(b, y, wy, start, count, ny, channels);
        contract(a, b, c, nz, t);
        store(z, c, wz, start, count, nz, channels);
    }
}

/* gx = P(y, gz) and gy = P(gz, x): both inputs and the cotangent are read once. */
void gradients(const REAL *gz, const REAL *x, const REAL *y, REAL *gx, REAL *gy, const REAL *wx,
               const REAL *wy, const REAL *wz, int nx, int ny, int nz, int64_t rows,
               int64_t channels, const terms *to_x, const terms *to_y, int threads)
{
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads) if (threads > 1)
    for (int64_t start = 0; start < rows; start += LANES) {
        tile_row a[MAX_COEFFS], b[MAX_COEFFS], c[MAX_COEFFS], out[MAX_COEFFS];
        int count = (int)minimum(LANES, rows - start);
        load(a, x, wx, start, count, nx, channels);
        load(b, y, wy, start, count, ny, channels);
        load(c, gz, wz, start, count, nz, channels);
        contract(b, c, out, nx, to_x);
        store(gx, out, wx, start, count, nx, channels);
        contract(c, a, out, ny, to_y);
        store(gy, out, wy, start, count, ny, channels);
    }
}

/* Gradients as above, and those of the factors, which are given per degree here. The latter are
 * added, for each thread, to sums[thread] with room for all degrees of x, then y, then z. */
void weight_gradients(const REAL *gz, const REAL *x, const REAL *y, REAL *gx, REAL *gy,
                      const REAL *wx, const REAL *wy, const REAL *wz, int nx, int ny, int nz,
                      int64_t rows, int64_t channels, const terms *to_x, const terms *to_y,
                      const terms *to_z, double *sums, int64_t sums_size, int64_t sums_y,
                      int64_t sums_z, int threads)
{
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t start = 0; start < rows; start += LANES) {
        tile_row a[MAX_COEFFS], b[MAX_COEFFS], c[MAX_COEFFS], out[MAX_COEFFS], plain[MAX_COEFFS];
        double *own = sums + THREAD * sums_size;
        int count = (int)minimum(LANES, rows - start);
        load(a, x, wx, start, count, nx, channels);
        load(b, y, wy, start, count, ny, channels);
        load(c, gz, wz, start, count, nz, channels);
        contract(b, c, out, nx, to_x);
        store(gx, out, wx, start, count, nx, channels);
        load(plain, x, 0, start, count, nx, channels);
        add_inner(own, plain, out, start, count, nx, channels);
        contract(c, a, out, ny, to_y);
        store(gy, out, wy, start, count, ny, channels);
        load(plain, y, 0, start, count, ny, channels);
        add_inner(own + sums_y, plain, out, start, count, ny, channels);
        contract(a, b, out, nz, to_z);
        load(plain, gz, 0, start, count, nz, channels);
        add_inner(own + sums_z, plain, out, start, count, nz, channels);
    }
}
