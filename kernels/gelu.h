/* The function x Phi(x), where Phi is the normal distribution, and its slope.
 *
 * Phi(-t) = exp(-t^2 / 2) m(t) for t >= 0, where m falls slowly: a polynomial of it, fitted with
 * the weight exp(-t^2 / 2) max(1, t), serves both. Its error is 1.2e-7 in float, 1e-15 in double,
 * and what lies beyond END is less.
 */
#pragma once

#include "multiply.h"

/* MILLS(s): m at t = END (s + 1) / 2. POWER(f): 2^f for -1/2 <= f <= 1/2. Adding ROUND leaves the
 * nearest integer in the last bits, which shifted by FRACTION change an exponent. */
#if BITS == 32
typedef int32_t word;
#define END 6.0f
#define ROUND 0x1.8p23f
#define FRACTION 23
#define SIGN INT32_MIN
#define MILLS                                                                                    \
    0.121511095f, -0.103188209f, 0.0829355285f, -0.0603317007f, 0.0416454699f, -0.0634335391f,   \
        -0.0307956824f, 0.0155599645f, 0.178144259f, 0.179875976f, 0.0750416994f
#define POWER 1.00000007f, 0.693146967f, 0.240221198f, 0.0555071381f, 0.00967553995f, 0.00132762992f
#else
typedef int64_t word;
#define END 8.4
#define ROUND 0x1.8p52
#define FRACTION 52
#define SIGN INT64_MIN
#define MILLS                                                                                    \
    0.090327560960452808, -0.082179402351973576, 0.071866759824139979, -0.06063832661574234,     \
        0.049517378491938457, -0.039235526758779518, 0.030224982025063139,                       \
        -0.022698682890497188, 0.016699789365124015, -0.01154240860144405,                       \
        0.0085012226725760361, -0.0083322807422160585, -0.003438040132725128,                    \
        -0.0041345384951267313, 0.029480181539229169, 0.053905687242639923,                      \
        0.014637749565278619, -0.099305023686863798, -0.16178763244885313,                       \
        -0.073022628226769732, 0.086650248017127289, 0.15555559694598395, 0.10823170893034819,   \
        0.03833445959095979, 0.0057950166004701853
#define POWER                                                                                    \
    1.0, 0.69314718055994533, 0.24022650695910156, 0.055504108664819931, 0.0096181291075884417,  \
        0.0013333558146787428, 0.00015403530462390418, 1.5252733492563687e-5,                    \
        1.3215433148042855e-6, 1.0178196899027179e-7, 7.0740960623445999e-9,                     \
        4.4354568476677081e-10
#endif
#define HALF_LOG2_E (REAL)0.72134752044448170368
#define INVERSE_ROOT_2_PI (REAL)0.39894228040143267794

typedef word words __attribute__((vector_size(BYTES), may_alias));

#define POLYNOMIAL(name, ...)                                                                    \
    INLINE vector name(vector x)                                                                 \
    {                                                                                            \
        const REAL coefficients[] = {__VA_ARGS__};                                               \
        int last = sizeof coefficients / sizeof(REAL) - 1;                                       \
        vector total = x * coefficients[last] + coefficients[last - 1];                          \
        _Pragma("GCC unroll 32") for (int i = last - 2; i >= 0; i--)                             \
            total = total * x + coefficients[i];                                                 \
        return total;                                                                            \
    }
POLYNOMIAL(mills, MILLS)
POLYNOMIAL(power, POWER)

/* exp(-t^2 / 2) for 0 <= t <= END */
INLINE vector bell(vector t)
{
    vector exponent = t * t * -HALF_LOG2_E, rounded = exponent + ROUND;
    words value = (words)power(exponent - (rounded - ROUND));
    return (vector)(value + ((words)rounded << FRACTION));
}

/* The function of x, and its slope where that is wanted. */
INLINE vector gelu(vector x, vector *slope)
{
    words sign = (words)x & ((words){0} + SIGN);
    vector size = (vector)((words)x ^ sign);
    words inside = size < END;
    vector t = (vector)(((words)size & inside) | ((words)(x * 0 + END) & ~inside));
    vector e = bell(t), tail = e * mills(t * (2 / END) - 1);
    if (slope) {
        vector over = (REAL)0.5 - tail + t * e * INVERSE_ROOT_2_PI;
        *slope = (REAL)0.5 + (vector)((words)over ^ sign);
    }
    return (x + size) / 2 - t * tail;
}

/* Replace values by the function of them; slopes are filled unless there are none. */
static inline void apply_gelu(REAL *values, REAL *slopes, int64_t count)
{
    if (!slopes)
        for (int64_t i = 0; i < count; i += WIDTH)
            store(values + i, gelu(load(values + i), 0));
    else
        for (int64_t i = 0; i < count; i += WIDTH) {
            vector slope, value = gelu(load(values + i), &slope);
            store(values + i, value), store(slopes + i, slope);
        }
}
