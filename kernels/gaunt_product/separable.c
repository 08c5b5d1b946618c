/* Product of functions on the sphere in O(L^3): Legendre sums at Gauss-Legendre nodes, then a
 * convolution of the Fourier series in the azimuth. REAL is float or double.
 *
 * On the circle of a node f = A_0 / 2 + sum_m A_m cos(m phi) + B_m sin(m phi); the product has
 * C_k = sum over m + n = k and |m - n| = k. Nodes come in pairs theta, pi - theta, where sums over
 * even and over odd l + m are shared. The table (pairs, degrees, orders) serves all three operands:
 * it holds the cube root of every factor.
 */
#include <stdint.h>

#define UNROLL 2 /* the rows of a tile fit the first cache up to degree 6 */
#define MAX_DEGREE 20
#include "tiles.h"

#define MAX_ORDERS (MAX_DEGREE + 1)

/* Fourier coefficients on the circles of a pair: cosine and sine, of either node. */
typedef struct {
    tile_row cosine[2][MAX_ORDERS], sine[2][MAX_ORDERS];
} circles;

static inline void add(tile_row *to, REAL value, const tile_row *x)
{
    for (int u = 0; u < UNROLL; u++)
        to->v[u] += value * x->v[u];
}

/* Add the product of two complex numbers, or with the conjugate of the second or of the first. */
typedef enum { PLAIN, SECOND, FIRST } conjugate;

static inline void multiply_add(vector *c, vector *s, const tile_row *fc, const tile_row *fs,
                                const tile_row *gc, const tile_row *gs, conjugate which)
{
    for (int u = 0; u < UNROLL; u++) {
        vector a = fc->v[u], b = fs->v[u], p = gc->v[u], q = gs->v[u];
        c[u] += a * p;
        if (which == PLAIN)
            c[u] -= b * q;
        else
            c[u] += b * q;
        if (which == FIRST)
            s[u] -= b * p;
        else
            s[u] += b * p;
        if (which == SECOND)
            s[u] -= a * q;
        else
            s[u] += a * q;
    }
}

/* Add the product of a real and a complex number. */
static inline void scale_add(vector *c, vector *s, const tile_row *real, const tile_row *cosine,
                             const tile_row *sine)
{
    for (int u = 0; u < UNROLL; u++) {
        c[u] += real->v[u] * cosine->v[u];
        s[u] += real->v[u] * sine->v[u];
    }
}

static inline void sum_and_difference(const tile_row *a, const tile_row *b, tile_row *sum,
                                      tile_row *difference)
{
    for (int u = 0; u < UNROLL; u++) {
        vector even = a->v[u], odd = b->v[u];
        sum->v[u] = even + odd;
        difference->v[u] = even - odd;
    }
}

/* Sum over the degrees of one parity of l + m, from l = first on. */
static inline void sum_degrees(const tile_row *x, int lmax, const REAL *table, int stride, int m,
                               int first, tile_row *cosine, tile_row *sine)
{
    tile_row c = {0}, s = {0};
    for (int l = first; l <= lmax; l += 2) {
        REAL value = table[l * stride + m];
        add(&c, value, &x[l * l + l + m]);
        add(&s, value, &x[l * l + l - m]);
    }
    *cosine = c;
    *sine = s;
}

static inline void evaluate(const tile_row *x, int lmax, const REAL *table, int stride, circles *f)
{
    for (int m = 0; m <= lmax; m++) {
        tile_row cosine[2], sine[2];
        sum_degrees(x, lmax, table, stride, m, m, &cosine[0], &sine[0]);
        sum_degrees(x, lmax, table, stride, m, m + 1, &cosine[1], &sine[1]);
        sum_and_difference(&cosine[0], &cosine[1], &f->cosine[0][m], &f->cosine[1][m]);
        sum_and_difference(&sine[0], &sine[1], &f->sine[0][m], &f->sine[1][m]);
    }
}

/* The order 0 of a product of series up to the same order; its sine stays unused. */
static inline void convolve_constant(const tile_row *fc, const tile_row *fs, const tile_row *gc,
                                     const tile_row *gs, int orders, tile_row *cosine)
{
    vector c[UNROLL];
    for (int u = 0; u < UNROLL; u++)
        c[u] = (REAL)0.5 * fc[0].v[u] * gc[0].v[u];
    for (int m = 1; m <= orders; m++)
        for (int u = 0; u < UNROLL; u++) {
            c[u] += fc[m].v[u] * gc[m].v[u];
            c[u] += fs[m].v[u] * gs[m].v[u];
        }
    for (int u = 0; u < UNROLL; u++)
        cosine->v[u] = c[u];
}

/* Order k > 0 of a product of series of orders up to mf and mg, on one circle. */
static inline void convolve_order(const tile_row *fc, const tile_row *fs, const tile_row *gc,
                                  const tile_row *gs, int mf, int mg, int k, tile_row *cosine,
                                  tile_row *sine)
{
    vector c[UNROLL] = {0}, s[UNROLL] = {0};
    if (k <= mg)
        scale_add(c, s, &fc[0], &gc[k], &gs[k]);
    if (k <= mf)
        scale_add(c, s, &gc[0], &fc[k], &fs[k]);
    for (int m = k > mg ? k - mg : 1; m < k && m <= mf; m++)
        multiply_add(c, s, &fc[m], &fs[m], &gc[k - m], &gs[k - m], PLAIN);
    for (int n = 1; n <= mg && n + k <= mf; n++)
        multiply_add(c, s, &fc[n + k], &fs[n + k], &gc[n], &gs[n], SECOND);
    for (int m = 1; m <= mf && m + k <= mg; m++)
        multiply_add(c, s, &fc[m], &fs[m], &gc[m + k], &gs[m + k], FIRST);
    for (int u = 0; u < UNROLL; u++) {
        cosine->v[u] = c[u];
        sine->v[u] = s[u];
    }
}

static inline void convolve(const circles *f, const circles *g, circles *h, int mf, int mg, int mh)
{
    for (int node = 0; node < 2; node++) {
        const tile_row *fc = f->cosine[node], *fs = f->sine[node];
        const tile_row *gc = g->cosine[node], *gs = g->sine[node];
        convolve_constant(fc, fs, gc, gs, mf < mg ? mf : mg, &h->cosine[node][0]);
        for (int k = 1; k <= mh; k++) {
            if (k <= mf + mg)
                convolve_order(fc, fs, gc, gs, mf, mg, k, &h->cosine[node][k], &h->sine[node][k]);
            else
                h->cosine[node][k] = h->sine[node][k] = (tile_row){0};
        }
    }
}

/* Add to the degrees of one parity of l + m, from l = first on. */
static inline void add_degrees(tile_row *z, int lmax, const REAL *table, int stride, int m,
                               int first, const tile_row *cosine, const tile_row *sine)
{
    for (int l = first; l <= lmax; l += 2) {
        REAL value = table[l * stride + m];
        add(&z[l * l + l + m], value, cosine);
        if (m)
            add(&z[l * l + l - m], value, sine);
    }
}

static inline void project(const circles *h, int lmax, const REAL *table, int stride, tile_row *z)
{
    for (int m = 0; m <= lmax; m++) {
        tile_row cosine[2], sine[2] = {0};
        sum_and_difference(&h->cosine[0][m], &h->cosine[1][m], &cosine[0], &cosine[1]);
        if (m)
            sum_and_difference(&h->sine[0][m], &h->sine[1][m], &sine[0], &sine[1]);
        add_degrees(z, lmax, table, stride, m, m, &cosine[0], &sine[0]);
        add_degrees(z, lmax, table, stride, m, m + 1, &cosine[1], &sine[1]);
    }
}

static inline void clear(tile_row *z, int lmax)
{
    for (int s = 0; s < (lmax + 1) * (lmax + 1); s++)
        z[s] = (tile_row){0};
}

/* z = P(x, y), each with its factor or none. */
void product(const REAL *x, const REAL *y, REAL *z, const REAL *wx, const REAL *wy, const REAL *wz,
             int lx, int ly, int lz, int64_t rows, int64_t channels, const REAL *table, int pairs,
             int stride, int threads)
{
    int nx = (lx + 1) * (lx + 1), ny = (ly + 1) * (ly + 1), nz = (lz + 1) * (lz + 1);
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads) if (threads > 1)
    for (int64_t start = 0; start < rows; start += LANES) {
        tile_row a[MAX_COEFFS], b[MAX_COEFFS], c[MAX_COEFFS];
        circles f, g, h;
        int count = (int)minimum(LANES, rows - start);
        load(a, x, wx, start, count, nx, channels);
        load(b, y, wy, start, count, ny, channels);
        clear(c, lz);
        for (int p = 0; p < pairs; p++) {
            const REAL *own = table + p * stride * stride;
            evaluate(a, lx, own, stride, &f);
            evaluate(b, ly, own, stride, &g);
            convolve(&f, &g, &h, lx, ly, lz);
            project(&h, lz, own, stride, c);
        }
        store(z, c, wz, start, count, nz, channels);
    }
}

/* gx = P(y, gz) and gy = P(gz, x): both inputs and the cotangent are evaluated once. */
void gradients(const REAL *gz, const REAL *x, const REAL *y, REAL *gx, REAL *gy, const REAL *wx,
               const REAL *wy, const REAL *wz, int lx, int ly, int lz, int64_t rows,
               int64_t channels, const REAL *table, int pairs, int stride, int threads)
{
    int nx = (lx + 1) * (lx + 1), ny = (ly + 1) * (ly + 1), nz = (lz + 1) * (lz + 1);
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads) if (threads > 1)
    for (int64_t start = 0; start < rows; start += LANES) {
        tile_row a[MAX_COEFFS], b[MAX_COEFFS], c[MAX_COEFFS], to_a[MAX_COEFFS], to_b[MAX_COEFFS];
        circles f, g, h, product;
        int count = (int)minimum(LANES, rows - start);
        load(a, x, wx, start, count, nx, channels);
        load(b, y, wy, start, count, ny, channels);
        load(c, gz, wz, start, count, nz, channels);
        clear(to_a, lx);
        clear(to_b, ly);
        for (int p = 0; p < pairs; p++) {
            const REAL *own = table + p * stride * stride;
            evaluate(a, lx, own, stride, &f);
            evaluate(b, ly, own, stride, &g);
            evaluate(c, lz, own, stride, &h);
            convolve(&g, &h, &product, ly, lz, lx);
            project(&product, lx, own, stride, to_a);
            convolve(&h, &f, &product, lz, lx, ly);
            project(&product, ly, own, stride, to_b);
        }
        store(gx, to_a, wx, start, count, nx, channels);
        store(gy, to_b, wy, start, count, ny, channels);
    }
}
