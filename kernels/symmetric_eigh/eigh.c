/* Eigendecomposition of symmetric 2x2 and 3x3 matrices in closed form, and its guarded gradient.
 *
 * A tile is LANES matrices with each entry of all of them side by side, so that the compiler turns
 * every step of the straight-line code into vector instructions. BITS is 32 or 64, the size of a
 * number. The steps are explained in blocked.py.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if BITS == 32
typedef float real;
typedef uint32_t word;
#define SQRT sqrtf
#define ABS fabsf
#define EPSILON FLT_EPSILON
#define EXPONENT 0x7f800000u
#define ONE_STEP 0x00800000u
#else
typedef double real;
typedef uint64_t word;
#define SQRT sqrt
#define ABS fabs
#define EPSILON DBL_EPSILON
#define EXPONENT 0x7ff0000000000000u
#define ONE_STEP 0x0010000000000000u
#endif

/* Cubic near 2 cos(acos(t) / 3), to 7e-5: two steps of Newton's method give all digits. */
#define ROOT0 (real)1.73212376
#define ROOT1 (real)0.330808334
#define ROOT2 (real)-0.0817620091
#define ROOT3 (real)0.0188871079

enum { LANES = 32 };
typedef real lanes[LANES];

static inline real max(real a, real b) { return a > b ? a : b; }

/* A power of two near a positive number, and its reciprocal: scaling by them is exact. */
static inline void powers_of_two(real x, real *power, real *reciprocal)
{
    word bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= EXPONENT;
    bits = bits > ONE_STEP ? bits : ONE_STEP;
    bits = bits < EXPONENT - 2 * ONE_STEP ? bits : EXPONENT - 2 * ONE_STEP;
    memcpy(power, &bits, sizeof bits);
    bits = EXPONENT - ONE_STEP - bits;
    memcpy(reciprocal, &bits, sizeof bits);
}

/* The larger eigenvector of ((d, b), (b, -d)), (cosine, sine), and its eigenvalue. */
static inline void rotation(real d, real b, real *cosine, real *sine, real *height)
{
    real square = d * d + b * b, h = SQRT(square), along = ABS(d) + h;
    /* Below this the two are equal to rounding, and the square may have lost its digits. */
    int equal = square <= EPSILON * EPSILON * (real)0x1p-20;
    real length = SQRT(equal ? 1 : along * along + b * b);
    real across = equal ? 0 : b / length;
    along = equal ? 1 : along / length;
    *cosine = d > 0 ? along : across;
    *sine = d > 0 ? across : along;
    *height = h;
}

static inline void decompose2(const lanes *a, lanes *values, lanes *vectors, int i)
{
    real a00 = a[0][i], a01 = a[1][i], a10 = a[2][i], a11 = a[3][i];
    real scale, inverse, c, s, h;
    powers_of_two(max(max(ABS(a00), ABS(a11)), ABS(a10)), &scale, &inverse);
    real x = a00 * inverse, y = a11 * inverse;
    /* zero, or NaN where an entry is not finite */
    real poison = a00 * 0 + a01 * 0 + a10 * 0 + a11 * 0;
    rotation((x - y) / 2, a10 * inverse, &c, &s, &h);
    values[0][i] = scale * ((x + y) / 2 - h) + poison;
    values[1][i] = scale * ((x + y) / 2 + h) + poison;
    vectors[0][i] = s + poison;
    vectors[1][i] = c + poison;
    vectors[2][i] = poison - c;
    vectors[3][i] = s + poison;
}

/* Symmetric 3x3 matrices in registers. */
typedef struct {
    real a00, a10, a11, a20, a21, a22;
} symmetric;
typedef struct {
    real x, y, z;
} vector;

static inline real dot(vector a, vector b) { return a.x * b.x + a.y * b.y + a.z * b.z; }

static inline vector times(symmetric b, vector v)
{
    return (vector){b.a00 * v.x + b.a10 * v.y + b.a20 * v.z,
                    b.a10 * v.x + b.a11 * v.y + b.a21 * v.z,
                    b.a20 * v.x + b.a21 * v.y + b.a22 * v.z};
}

/* Write a matrix q + p B with B of trace 0 and norm sqrt(6); where all eigenvalues are q, p and B
 * are zero. */
static inline symmetric reduce(symmetric a, real *q, real *p)
{
    *q = (a.a00 + a.a11 + a.a22) * (real)(1.0 / 3);
    a.a00 -= *q, a.a11 -= *q, a.a22 -= *q;
    real off = a.a10 * a.a10 + a.a20 * a.a20 + a.a21 * a.a21;
    real square = a.a00 * a.a00 + a.a11 * a.a11 + a.a22 * a.a22 + 2 * off;
    real size = SQRT(square * (real)(1.0 / 6));
    real shrink = size <= 4 * EPSILON ? 0 : 1 / max(size, EPSILON);
    *p = shrink > 0 ? size : 0;
    a.a00 *= shrink, a.a10 *= shrink, a.a11 *= shrink;
    a.a20 *= shrink, a.a21 *= shrink, a.a22 *= shrink;
    return a;
}

/* The eigenvalue m of B that is farthest from zero: m^3 - 3m = det B. */
static inline real isolated(symmetric b)
{
    real minor = b.a10 * (b.a20 * b.a21 - b.a10 * b.a22) + b.a20 * (b.a10 * b.a21 - b.a11 * b.a20);
    real half = (b.a00 * (b.a11 * b.a22 - b.a21 * b.a21) + minor) / 2;
    real t = ABS(half);
    t = t > 1 ? 1 : t;
    real m = ROOT0 + t * (ROOT1 + t * (ROOT2 + t * ROOT3));
    m -= (m * (m * m - 3) - 2 * t) / (3 * (m * m - 1));
    m -= (m * (m * m - 3) - 2 * t) / (3 * (m * m - 1));
    return half >= 0 ? m : -m;
}

/* Its vector: the longest column of the adjugate of B - m. */
static inline vector vector_of(symmetric b, real m)
{
    real n00 = b.a00 - m, n11 = b.a11 - m, n22 = b.a22 - m;
    real c00 = n11 * n22 - b.a21 * b.a21, c10 = b.a21 * b.a20 - b.a10 * n22;
    real c11 = n00 * n22 - b.a20 * b.a20, c20 = b.a10 * b.a21 - b.a20 * n11;
    real c22 = n00 * n11 - b.a10 * b.a10, c21 = b.a10 * b.a20 - n00 * b.a21;
    int first = c00 > c11 && c00 > c22, second = c11 > c22;
    vector v = {first ? c00 : second ? c10 : c20, first ? c10 : second ? c11 : c21,
                first ? c20 : second ? c21 : c22};
    real length = SQRT(dot(v, v));
    return (vector){v.x / length, v.y / length, v.z / length};
}

static inline void store_row(lanes *vectors, int i, real low, real high, real v, int last)
{
    vectors[0][i] = last ? low : v;
    vectors[1][i] = last ? high : low;
    vectors[2][i] = last ? v : high;
}

static inline void decompose3(const lanes *a, lanes *values, lanes *vectors, int i)
{
    symmetric b = {a[0][i], a[3][i], a[4][i], a[6][i], a[7][i], a[8][i]};
    real poison = (a[1][i] * 0 + a[2][i] * 0 + a[5][i] * 0) +
                  (b.a00 * 0 + b.a11 * 0 + b.a22 * 0) + (b.a10 * 0 + b.a20 * 0 + b.a21 * 0);
    real diagonal = max(max(ABS(b.a00), ABS(b.a11)), ABS(b.a22)), scale, inverse, q, p, c, s, h;
    powers_of_two(max(max(max(ABS(b.a10), ABS(b.a20)), ABS(b.a21)), diagonal), &scale, &inverse);
    b.a00 *= inverse, b.a10 *= inverse, b.a11 *= inverse;
    b.a20 *= inverse, b.a21 *= inverse, b.a22 *= inverse;
    b = reduce(b, &q, &p);
    real m = isolated(b);
    vector v = vector_of(b, m);
    int last = m >= 0; /* whether the isolated eigenvalue is the largest */

    /* two vectors that complete it, with u x w = v, and the block of B on them */
    real sign = v.z < 0 ? -1 : 1, e = -1 / (sign + v.z), f = v.x * v.y * e;
    vector u = {1 + sign * v.x * v.x * e, sign * f, -sign * v.x};
    vector w = {f, sign + v.y * v.y * e, -v.y}, bu = times(b, u);
    real uu = dot(u, bu), ww = dot(w, times(b, w));
    rotation((uu - ww) / 2, dot(w, bu), &c, &s, &h);
    real low = (uu + ww) / 2 - h, high = (uu + ww) / 2 + h;

    values[0][i] = scale * (q + p * (last ? low : m)) + poison;
    values[1][i] = scale * (q + p * (last ? high : low)) + poison;
    values[2][i] = scale * (q + p * (last ? m : high)) + poison;
    c += poison, s += poison, v.x += poison, v.y += poison, v.z += poison;
    store_row(vectors, i, s * u.x - c * w.x, c * u.x + s * w.x, v.x, last);
    store_row(vectors + 3, i, s * u.y - c * w.y, c * u.y + s * w.y, v.y, last);
    store_row(vectors + 6, i, s * u.z - c * w.z, c * u.z + s * w.z, v.z, last);
}

/* K(Delta) / 2, where the diagonal of K is zero and never asked for. */
static inline real half_inverse(real low, real high, real scale, real guard)
{
    real delta = (high - low) * scale;
    return delta / (delta * delta + guard * guard) * (scale / 2);
}

/* The reciprocal of the largest absolute value of ascending eigenvalues, one where all are zero. */
static inline real reciprocal_scale(real lowest, real highest)
{
    real scale = max(ABS(lowest), ABS(highest));
    return 1 / (scale > 0 ? scale : 1);
}

/* The gradient V S V^T, where S has diagonal g and K_ij (V^T G)_ij, symmetrised, beside it. A matrix
 * whose eigenvalues are NaN gets zero. */
static inline void differentiate2(const lanes *g, const lanes *G, const lanes *l, const lanes *V,
                                  real guard, lanes *out, int i)
{
    real v00 = V[0][i], v01 = V[1][i], v10 = V[2][i], v11 = V[3][i];
    real twist = v00 * G[1][i] + v10 * G[3][i] - v01 * G[0][i] - v11 * G[2][i];
    real k = half_inverse(l[0][i], l[1][i], reciprocal_scale(l[0][i], l[1][i]), guard);
    real s00 = g[0][i], s11 = g[1][i], s01 = k * twist;
    real t00 = v00 * s00 + v01 * s01, t01 = v00 * s01 + v01 * s11;
    real t10 = v10 * s00 + v11 * s01, t11 = v10 * s01 + v11 * s11;
    int good = l[0][i] == l[0][i];
    real off = good ? t00 * v10 + t01 * v11 : 0;
    out[0][i] = good ? t00 * v00 + t01 * v01 : 0;
    out[1][i] = off, out[2][i] = off;
    out[3][i] = good ? t10 * v10 + t11 * v11 : 0;
}

static inline void differentiate3(const lanes *g, const lanes *G, const lanes *l, const lanes *V,
                                  real guard, lanes *out, int i)
{
    real v00 = V[0][i], v01 = V[1][i], v02 = V[2][i];
    real v10 = V[3][i], v11 = V[4][i], v12 = V[5][i];
    real v20 = V[6][i], v21 = V[7][i], v22 = V[8][i];
    real g00 = G[0][i], g01 = G[1][i], g02 = G[2][i];
    real g10 = G[3][i], g11 = G[4][i], g12 = G[5][i];
    real g20 = G[6][i], g21 = G[7][i], g22 = G[8][i];
    real scale = reciprocal_scale(l[0][i], l[2][i]);
    real twist01 = v00 * g01 + v10 * g11 + v20 * g21 - v01 * g00 - v11 * g10 - v21 * g20;
    real twist02 = v00 * g02 + v10 * g12 + v20 * g22 - v02 * g00 - v12 * g10 - v22 * g20;
    real twist12 = v01 * g02 + v11 * g12 + v21 * g22 - v02 * g01 - v12 * g11 - v22 * g21;
    real s00 = g[0][i], s11 = g[1][i], s22 = g[2][i];
    real s01 = half_inverse(l[0][i], l[1][i], scale, guard) * twist01;
    real s02 = half_inverse(l[0][i], l[2][i], scale, guard) * twist02;
    real s12 = half_inverse(l[1][i], l[2][i], scale, guard) * twist12;
    real t00 = v00 * s00 + v01 * s01 + v02 * s02, t01 = v00 * s01 + v01 * s11 + v02 * s12;
    real t02 = v00 * s02 + v01 * s12 + v02 * s22, t10 = v10 * s00 + v11 * s01 + v12 * s02;
    real t11 = v10 * s01 + v11 * s11 + v12 * s12, t12 = v10 * s02 + v11 * s12 + v12 * s22;
    real t20 = v20 * s00 + v21 * s01 + v22 * s02, t21 = v20 * s01 + v21 * s11 + v22 * s12;
    real t22 = v20 * s02 + v21 * s12 + v22 * s22;
    int good = l[0][i] == l[0][i];
    real r01 = good ? t00 * v10 + t01 * v11 + t02 * v12 : 0;
    real r02 = good ? t00 * v20 + t01 * v21 + t02 * v22 : 0;
    real r12 = good ? t10 * v20 + t11 * v21 + t12 * v22 : 0;
    out[0][i] = good ? t00 * v00 + t01 * v01 + t02 * v02 : 0;
    out[4][i] = good ? t10 * v10 + t11 * v11 + t12 * v12 : 0;
    out[8][i] = good ? t20 * v20 + t21 * v21 + t22 * v22 : 0;
    out[1][i] = r01, out[2][i] = r02, out[3][i] = r01;
    out[5][i] = r12, out[6][i] = r02, out[7][i] = r12;
}

/* Bring count rows of a few entries into lanes; those beyond count are zero. */
static inline void load(lanes *tile, const real *from, int count, int entries)
{
    for (int k = 0; count < LANES && k < entries; k++)
        for (int i = count; i < LANES; i++)
            tile[k][i] = 0;
    for (int i = 0; i < count; i++)
        for (int k = 0; k < entries; k++)
            tile[k][i] = from[i * entries + k];
}

static inline void store(real *to, const lanes *tile, int count, int entries)
{
    for (int i = 0; i < count; i++)
        for (int k = 0; k < entries; k++)
            to[i * entries + k] = tile[k][i];
}

#define TILES(body)                                                                 \
    _Pragma("omp parallel for schedule(static) num_threads(threads) if (threads > 1)") \
    for (int64_t start = 0; start < matrices; start += LANES) {                     \
        int count = matrices - start < LANES ? (int)(matrices - start) : LANES;     \
        body                                                                        \
    }

#define DECOMPOSE(D)                                                                          \
    void decompose##D##d(const real *a, real *values, real *vectors, int64_t matrices,        \
                         int threads)                                                         \
    {                                                                                         \
        TILES(lanes in[D * D]; lanes l[D]; lanes v[D * D];                                    \
              load(in, a + start * D * D, count, D * D);                                      \
              for (int i = 0; i < LANES; i++) decompose##D(in, l, v, i);                      \
              store(values + start * D, l, count, D);                                         \
              store(vectors + start * D * D, v, count, D * D);)                               \
    }

#define DIFFERENTIATE(D)                                                                      \
    void differentiate##D##d(const real *grad_values, const real *grad_vectors,               \
                             const real *values, const real *vectors, real *out, double guard, \
                             int64_t matrices, int threads)                                   \
    {                                                                                         \
        TILES(lanes g[D]; lanes G[D * D]; lanes l[D]; lanes v[D * D]; lanes result[D * D];    \
              load(g, grad_values + start * D, count, D);                                     \
              load(G, grad_vectors + start * D * D, count, D * D);                            \
              load(l, values + start * D, count, D);                                          \
              load(v, vectors + start * D * D, count, D * D);                                 \
              for (int i = 0; i < LANES; i++)                                                 \
                  differentiate##D(g, G, l, v, (real)guard, result, i);                       \
              store(out + start * D * D, result, count, D * D);)                              \
    }

DECOMPOSE(2)
DECOMPOSE(3)
DIFFERENTIATE(2)
DIFFERENTIATE(3)
