/* Sums over edges on a grid of the sphere: the CPU form of a convolution with filters of spherical
 * harmonics. REAL is float or double.
 *
 * A tile is TILE channels, held in registers. Grid values of a filter are never stored: each is
 * made from the radial weights, multiplied, and added to a sum that stays in the first cache.
 * Nodes have fields (copies, parts * points, channels); a filter (points, channels) meets every
 * copy and part.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define UNROLL 2
typedef REAL vector __attribute__((vector_size(64), aligned(sizeof(REAL))));
enum { WIDTH = 64 / sizeof(REAL), TILE = UNROLL * WIDTH };
typedef struct {
    vector v[UNROLL];
} tile;

/* Sizes; coeffs = degrees^2 of the filter, and one filter is a sum of terms. */
typedef struct {
    int64_t points, parts, copies, channels, terms, degrees;
} sizes;

static inline int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }

static inline tile load(const REAL *from, int64_t count)
{
    tile t = {0};
    if (count == TILE) /* of known size, so that no function is called */
        memcpy(&t, from, sizeof(t));
    else
        memcpy(&t, from, count * sizeof(REAL));
    return t;
}

static inline void store(REAL *to, tile t, int64_t count)
{
    if (count == TILE)
        memcpy(to, &t, sizeof(t));
    else
        memcpy(to, &t, count * sizeof(REAL));
}

static inline REAL sum(tile t)
{
    vector v = t.v[0];
    for (int u = 1; u < UNROLL; u++)
        v += t.v[u];
    REAL total = 0;
    for (int i = 0; i < WIDTH; i++)
        total += v[i];
    return total;
}

/* zonal (terms, degrees, points): harmonics of an edge (terms, coeffs) times those of the points,
 * values (coeffs, points), summed over the orders of each degree. */
static inline void make_zonal(REAL *restrict zonal, const REAL *restrict harmonics,
                              const REAL *restrict values, sizes n)
{
    for (int64_t t = 0; t < n.terms; t++, harmonics += n.degrees * n.degrees)
        for (int64_t l = 0; l < n.degrees; l++, zonal += n.points) {
            memset(zonal, 0, n.points * sizeof(REAL));
            for (int64_t b = l * l; b < (l + 1) * (l + 1); b++)
                for (int64_t g = 0; g < n.points; g++)
                    zonal[g] += harmonics[b] * values[b * n.points + g];
        }
}

/* result (nodes, copies, coeffs_out, channels): the fields of the sources times the filters, summed
 * over the edges order[starts[i]] .. order[starts[i + 1]] of node i, times project (parts * points,
 * coeffs_out). Without order, edges come in the order of their targets. */
int convolve(const REAL *field, const REAL *harmonics, const REAL *radial, const REAL *values,
             const REAL *project, const int64_t *source, const int64_t *order,
             const int64_t *starts, REAL *result, int64_t nodes, int64_t coeffs_out, sizes n,
             int threads)
{
    int64_t rows = n.copies * n.parts * n.points, filters = n.terms * n.degrees;
    int failed = 0;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        tile *restrict total = malloc(rows * sizeof(tile));
        tile *restrict weights = malloc(filters * sizeof(tile));
        REAL *restrict zonal = malloc(filters * n.points * sizeof(REAL));
        int ready = total && weights && zonal;
        if (!ready)
            failed = 1;
#pragma omp for schedule(dynamic, 8)
        for (int64_t i = 0; i < nodes; i++)
            for (int64_t c = 0; ready && c < n.channels; c += TILE) {
                int64_t count = minimum(TILE, n.channels - c);
                memset(total, 0, rows * sizeof(tile));
                for (int64_t j = starts[i]; j < starts[i + 1]; j++) {
                    int64_t e = order ? order[j] : j;
                    make_zonal(zonal, harmonics + e * n.terms * n.degrees * n.degrees, values, n);
                    for (int64_t l = 0; l < filters; l++)
                        weights[l] = load(radial + (e * filters + l) * n.channels + c, count);
                    const REAL *from = field + source[e] * rows * n.channels + c;
                    for (int64_t g = 0; g < n.points; g++) {
                        tile h = {0};
                        for (int64_t l = 0; l < filters; l++)
                            for (int u = 0; u < UNROLL; u++)
                                h.v[u] += zonal[l * n.points + g] * weights[l].v[u];
                        for (int64_t row = g; row < rows; row += n.points) {
                            tile f = load(from + row * n.channels, count);
                            for (int u = 0; u < UNROLL; u++)
                                total[row].v[u] += h.v[u] * f.v[u];
                        }
                    }
                }
                int64_t each = n.parts * n.points;
                for (int64_t k = 0; k < n.copies; k++)
                    for (int64_t o = 0; o < coeffs_out; o++) {
                        tile z = {0};
                        for (int64_t q = 0; q < each; q++)
                            for (int u = 0; u < UNROLL; u++)
                                z.v[u] += project[q * coeffs_out + o] * total[k * each + q].v[u];
                        store(result + ((i * n.copies + k) * coeffs_out + o) * n.channels + c, z,
                              count);
                    }
            }
        free(total), free(weights), free(zonal);
    }
    return failed;
}

/* The derivatives by harmonics (edges, terms, coeffs) and by radial (edges, terms, degrees,
 * channels), either of which may be left out, of the product of the fields at both ends. */
int convolve_filter(const REAL *field, const REAL *other, const REAL *harmonics,
                    const REAL *radial, const REAL *values, const int64_t *source,
                    const int64_t *target, REAL *by_harmonics, REAL *by_radial, int64_t edges,
                    sizes n, int threads)
{
    int64_t rows = n.copies * n.parts * n.points, filters = n.terms * n.degrees;
    int64_t coeffs = n.degrees * n.degrees;
    int failed = 0;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        tile *restrict product = malloc(n.points * sizeof(tile));
        REAL *restrict zonal = malloc(filters * n.points * sizeof(REAL));
        REAL *restrict by_zonal = malloc(filters * n.points * sizeof(REAL));
        int ready = product && zonal && by_zonal;
        if (!ready)
            failed = 1;
#pragma omp for schedule(static)
        for (int64_t e = 0; e < edges; e++) {
            if (!ready)
                continue;
            make_zonal(zonal, harmonics + e * n.terms * coeffs, values, n);
            memset(by_zonal, 0, filters * n.points * sizeof(REAL));
            for (int64_t c = 0; c < n.channels; c += TILE) {
                int64_t count = minimum(TILE, n.channels - c);
                const REAL *first = field + source[e] * rows * n.channels + c;
                const REAL *second = other + target[e] * rows * n.channels + c;
                for (int64_t g = 0; g < n.points; g++) {
                    tile p = {0};
                    for (int64_t row = g; row < rows; row += n.points) {
                        tile a = load(first + row * n.channels, count);
                        tile b = load(second + row * n.channels, count);
                        for (int u = 0; u < UNROLL; u++)
                            p.v[u] += a.v[u] * b.v[u];
                    }
                    product[g] = p;
                }
                for (int64_t l = 0; l < filters; l++) {
                    int64_t place = (e * filters + l) * n.channels + c;
                    const REAL *z = zonal + l * n.points;
                    if (by_radial) {
                        tile r = {0};
                        for (int64_t g = 0; g < n.points; g++)
                            for (int u = 0; u < UNROLL; u++)
                                r.v[u] += z[g] * product[g].v[u];
                        store(by_radial + place, r, count);
                    }
                    if (by_harmonics) {
                        tile w = load(radial + place, count);
                        for (int64_t g = 0; g < n.points; g++) {
                            tile p = product[g];
                            for (int u = 0; u < UNROLL; u++)
                                p.v[u] *= w.v[u];
                            by_zonal[l * n.points + g] += sum(p);
                        }
                    }
                }
            }
            for (int64_t t = 0; by_harmonics && t < n.terms; t++)
                for (int64_t l = 0; l < n.degrees; l++)
                    for (int64_t b = l * l; b < (l + 1) * (l + 1); b++) {
                        const REAL *z = by_zonal + (t * n.degrees + l) * n.points;
                        REAL total = 0;
                        for (int64_t g = 0; g < n.points; g++)
                            total += z[g] * values[b * n.points + g];
                        by_harmonics[(e * n.terms + t) * coeffs + b] = total;
                    }
        }
        free(product), free(zonal), free(by_zonal);
    }
    return failed;
}
