"""Triton kernels of the closed form for d = 2 and 3 and of its guarded gradient.

A lane holds a whole matrix in registers, reads it once and writes its results once; the steps are
those of ``blocked.py``. Addresses have 64 bits.
"""
# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: N803, SIM108 - compile-time arguments are in capitals, and Triton wants statements

import triton.language as tl

from eqlib.kernels.triton_common import jit


@jit
def _sqrt(x):
    """Return the square root, rounded as IEEE asks: float32 would be approximate."""
    if x.dtype == tl.float64:
        root = tl.sqrt(x)
    else:
        root = tl.sqrt_rn(x)
    return root


@jit
def _divide(x, y):
    """Return the quotient of two tensors, likewise."""
    if x.dtype == tl.float64:
        quotient = x / y
    else:
        quotient = tl.div_rn(x, y)
    return quotient


@jit
def _powers_of_two(x):
    """Return a power of two near a positive number, and its reciprocal: scaling is exact."""
    if x.dtype == tl.float64:
        bits = x.to(tl.int64, bitcast=True) & 0x7FF0000000000000
        bits = tl.minimum(tl.maximum(bits, 0x0010000000000000), 0x7FD0000000000000)
        power = bits.to(tl.float64, bitcast=True)
        reciprocal = (0x7FE0000000000000 - bits).to(tl.float64, bitcast=True)
    else:
        bits = x.to(tl.int32, bitcast=True) & 0x7F800000
        bits = tl.minimum(tl.maximum(bits, 0x00800000), 0x7E800000)
        power = bits.to(tl.float32, bitcast=True)
        reciprocal = (0x7F000000 - bits).to(tl.float32, bitcast=True)
    return power, reciprocal


@jit
def _rotation(d, b, EPSILON: tl.constexpr):
    """Return the larger eigenvector of ((d, b), (b, -d)), (cosine, sine), and its eigenvalue."""
    square = d * d + b * b
    height = _sqrt(square)
    # Below this the two are equal to rounding, and the square may have lost its digits.
    equal = square <= EPSILON * EPSILON * 2**-20
    along = tl.where(equal, 1.0, tl.abs(d) + height)
    across = tl.where(equal, 0.0, b)
    length = _sqrt(along * along + across * across)
    along = _divide(along, length)
    across = _divide(across, length)
    return tl.where(d > 0, along, across), tl.where(d > 0, across, along), height


@jit
def _reduce(a00, a10, a11, a20, a21, a22, EPSILON: tl.constexpr):
    """Return q, p and B of q + p B, with B of trace 0 and norm sqrt(6), or p and B zero."""
    q = (a00 + a11 + a22) * (1.0 / 3.0)
    a00, a11, a22 = a00 - q, a11 - q, a22 - q
    off = a10 * a10 + a20 * a20 + a21 * a21
    p = _sqrt((a00 * a00 + a11 * a11 + a22 * a22 + 2 * off) * (1.0 / 6.0))
    triple = p <= 4 * EPSILON
    shrink = tl.where(triple, 0.0, _divide(tl.full(p.shape, 1.0, p.dtype), tl.maximum(p, EPSILON)))
    a00, a10, a11 = a00 * shrink, a10 * shrink, a11 * shrink
    a20, a21, a22 = a20 * shrink, a21 * shrink, a22 * shrink
    return q, tl.where(triple, 0.0, p), a00, a10, a11, a20, a21, a22


@jit
def _isolated(a00, a10, a11, a20, a21, a22):
    """Return the eigenvalue that is farthest from zero, and whether it is the largest."""
    minor = a10 * (a20 * a21 - a10 * a22) + a20 * (a10 * a21 - a11 * a20)
    half = (a00 * (a11 * a22 - a21 * a21) + minor) * 0.5
    t = tl.minimum(tl.abs(half), 1.0)
    root = 1.73212376 + t * (0.330808334 + t * (-0.0817620091 + t * 0.0188871079))
    for _ in tl.static_range(2):
        square = root * root
        root -= _divide(root * (square - 3) - 2 * t, 3 * (square - 1))
    return tl.where(half >= 0, root, -root), half >= 0


@jit
def _vector(a00, a10, a11, a20, a21, a22, m):
    """Return the unit vector of an isolated eigenvalue."""
    n00, n11, n22 = a00 - m, a11 - m, a22 - m
    c00, c11, c22 = n11 * n22 - a21 * a21, n00 * n22 - a20 * a20, n00 * n11 - a10 * a10
    c10, c20, c21 = a21 * a20 - a10 * n22, a10 * a21 - a20 * n11, a10 * a20 - n00 * a21
    first = (c00 > c11) & (c00 > c22)
    second = c11 > c22
    x = tl.where(first, c00, tl.where(second, c10, c20))
    y = tl.where(first, c10, tl.where(second, c11, c21))
    z = tl.where(first, c20, tl.where(second, c21, c22))
    length = _sqrt(x * x + y * y + z * z)
    return _divide(x, length), _divide(y, length), _divide(z, length)


@jit
def _complement(x, y, z):
    """Return two vectors that complete a unit vector v: u and w, with u x w = v."""
    sign = tl.where(z < 0, -1.0, 1.0).to(z.dtype)
    e = _divide(tl.full(z.shape, -1.0, z.dtype), sign + z)
    f = x * y * e
    return (1 + sign * x * x * e, sign * f, -sign * x), (f, sign + y * y * e, -y)


@jit
def _times(a00, a10, a11, a20, a21, a22, v):
    """Return the product of a symmetric matrix and a vector."""
    x = a00 * v[0] + a10 * v[1] + a20 * v[2]
    y = a10 * v[0] + a11 * v[1] + a21 * v[2]
    return x, y, a20 * v[0] + a21 * v[1] + a22 * v[2]


@jit
def _dot(x, y):
    return x[0] * y[0] + x[1] * y[1] + x[2] * y[2]


@jit
def _load(tensor, row, ok, entry: tl.constexpr, ENTRIES: tl.constexpr):
    return tl.load(tensor + (row * ENTRIES + entry), mask=ok, other=0.0)


@jit
def _store(tensor, row, ok, entry: tl.constexpr, ENTRIES: tl.constexpr, value):
    tl.store(tensor + (row * ENTRIES + entry), value, mask=ok)


@jit
def _program_rows(count, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return row, row < count


@jit
def _decompose2_kernel(
    matrices, values, vectors, count, EPSILON: tl.constexpr, BLOCK: tl.constexpr
):
    """Store eigenvalues, ascending, and eigenvectors of 2x2 matrices."""
    row, ok = _program_rows(count, BLOCK)
    a00 = _load(matrices, row, ok, 0, 4)
    a01 = _load(matrices, row, ok, 1, 4)
    a10 = _load(matrices, row, ok, 2, 4)
    a11 = _load(matrices, row, ok, 3, 4)
    scale, reciprocal = _powers_of_two(
        tl.maximum(tl.maximum(tl.abs(a00), tl.abs(a11)), tl.abs(a10))
    )
    poison = a00 * 0 + a01 * 0 + a10 * 0 + a11 * 0  # zero, or NaN where an entry is not finite
    x, y = a00 * reciprocal, a11 * reciprocal
    c, s, height = _rotation((x - y) * 0.5, a10 * reciprocal, EPSILON)
    _store(values, row, ok, 0, 2, scale * ((x + y) * 0.5 - height) + poison)
    _store(values, row, ok, 1, 2, scale * ((x + y) * 0.5 + height) + poison)
    _store(vectors, row, ok, 0, 4, s + poison)
    _store(vectors, row, ok, 1, 4, c + poison)
    _store(vectors, row, ok, 2, 4, poison - c)
    _store(vectors, row, ok, 3, 4, s + poison)


@jit
def _decompose3_kernel(
    matrices, values, vectors, count, EPSILON: tl.constexpr, BLOCK: tl.constexpr
):
    """Store eigenvalues, ascending, and eigenvectors of 3x3 matrices."""
    row, ok = _program_rows(count, BLOCK)
    a00 = _load(matrices, row, ok, 0, 9)
    a10 = _load(matrices, row, ok, 3, 9)
    a11 = _load(matrices, row, ok, 4, 9)
    a20 = _load(matrices, row, ok, 6, 9)
    a21 = _load(matrices, row, ok, 7, 9)
    a22 = _load(matrices, row, ok, 8, 9)
    upper = _load(matrices, row, ok, 1, 9) * 0 + _load(matrices, row, ok, 2, 9) * 0
    upper += _load(matrices, row, ok, 5, 9) * 0
    poison = upper + a00 * 0 + a10 * 0 + a11 * 0 + a20 * 0 + a21 * 0 + a22 * 0
    diagonal = tl.maximum(tl.maximum(tl.abs(a00), tl.abs(a11)), tl.abs(a22))
    others = tl.maximum(tl.maximum(tl.abs(a10), tl.abs(a20)), tl.abs(a21))
    scale, reciprocal = _powers_of_two(tl.maximum(diagonal, others))
    a00, a10, a11 = a00 * reciprocal, a10 * reciprocal, a11 * reciprocal
    a20, a21, a22 = a20 * reciprocal, a21 * reciprocal, a22 * reciprocal

    q, p, a00, a10, a11, a20, a21, a22 = _reduce(a00, a10, a11, a20, a21, a22, EPSILON)
    m, last = _isolated(a00, a10, a11, a20, a21, a22)
    x, y, z = _vector(a00, a10, a11, a20, a21, a22, m)

    u, w = _complement(x, y, z)
    Bu = _times(a00, a10, a11, a20, a21, a22, u)
    uu, ww = _dot(u, Bu), _dot(w, _times(a00, a10, a11, a20, a21, a22, w))
    c, s, height = _rotation((uu - ww) * 0.5, _dot(w, Bu), EPSILON)
    low, high = (uu + ww) * 0.5 - height, (uu + ww) * 0.5 + height

    _store(values, row, ok, 0, 3, scale * (q + p * tl.where(last, low, m)) + poison)
    _store(values, row, ok, 1, 3, scale * (q + p * tl.where(last, high, low)) + poison)
    _store(values, row, ok, 2, 3, scale * (q + p * tl.where(last, m, high)) + poison)
    _store_row(vectors, row, ok, 0, s * u[0] - c * w[0], c * u[0] + s * w[0], x, last, poison)
    _store_row(vectors, row, ok, 1, s * u[1] - c * w[1], c * u[1] + s * w[1], y, last, poison)
    _store_row(vectors, row, ok, 2, s * u[2] - c * w[2], c * u[2] + s * w[2], z, last, poison)


@jit
def _store_row(vectors, row, ok, axis: tl.constexpr, low, high, isolated, last, poison):
    """Store one component of all three eigenvectors."""
    _store(vectors, row, ok, 3 * axis, 9, tl.where(last, low, isolated) + poison)
    _store(vectors, row, ok, 3 * axis + 1, 9, tl.where(last, high, low) + poison)
    _store(vectors, row, ok, 3 * axis + 2, 9, tl.where(last, isolated, high) + poison)


@jit
def _half_inverse(low, high, scale, GUARD: tl.constexpr):
    """Return K / 2 for two eigenvalues."""
    delta = (high - low) * scale
    return _divide(delta, delta * delta + GUARD * GUARD) * (scale * 0.5)


@jit
def _reciprocal_scale(lowest, highest):
    """Return one over the largest absolute value, or one where all are zero."""
    scale = tl.maximum(tl.abs(lowest), tl.abs(highest))
    scale = tl.where(scale > 0, scale, 1.0)
    return _divide(tl.full(scale.shape, 1.0, scale.dtype), scale)


@jit
def _differentiate2_kernel(
    grad_values, grad_vectors, values, vectors, gradient, count, GUARD: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Store the guarded gradient of 2x2 matrices."""
    row, ok = _program_rows(count, BLOCK)
    l0, l1 = _load(values, row, ok, 0, 2), _load(values, row, ok, 1, 2)
    v00, v01 = _load(vectors, row, ok, 0, 4), _load(vectors, row, ok, 1, 4)
    v10, v11 = _load(vectors, row, ok, 2, 4), _load(vectors, row, ok, 3, 4)
    g00, g01 = _load(grad_vectors, row, ok, 0, 4), _load(grad_vectors, row, ok, 1, 4)
    g10, g11 = _load(grad_vectors, row, ok, 2, 4), _load(grad_vectors, row, ok, 3, 4)
    s00, s11 = _load(grad_values, row, ok, 0, 2), _load(grad_values, row, ok, 1, 2)
    twist = v00 * g01 + v10 * g11 - v01 * g00 - v11 * g10
    s01 = _half_inverse(l0, l1, _reciprocal_scale(l0, l1), GUARD) * twist
    t00, t01 = v00 * s00 + v01 * s01, v00 * s01 + v01 * s11
    t10, t11 = v10 * s00 + v11 * s01, v10 * s01 + v11 * s11
    good = l0 == l0
    off = tl.where(good, t00 * v10 + t01 * v11, 0.0)
    _store(gradient, row, ok, 0, 4, tl.where(good, t00 * v00 + t01 * v01, 0.0))
    _store(gradient, row, ok, 1, 4, off)
    _store(gradient, row, ok, 2, 4, off)
    _store(gradient, row, ok, 3, 4, tl.where(good, t10 * v10 + t11 * v11, 0.0))


@jit
def _vector_of(tensor, row, ok, axis: tl.constexpr):
    """Return one column of 3x3 matrices."""
    first = _load(tensor, row, ok, axis, 9)
    return first, _load(tensor, row, ok, axis + 3, 9), _load(tensor, row, ok, axis + 6, 9)


@jit
def _differentiate3_kernel(
    grad_values, grad_vectors, values, vectors, gradient, count, GUARD: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Store the guarded gradient of 3x3 matrices."""
    row, ok = _program_rows(count, BLOCK)
    v0 = _vector_of(vectors, row, ok, 0)
    v1 = _vector_of(vectors, row, ok, 1)
    v2 = _vector_of(vectors, row, ok, 2)
    g0 = _vector_of(grad_vectors, row, ok, 0)
    g1 = _vector_of(grad_vectors, row, ok, 1)
    g2 = _vector_of(grad_vectors, row, ok, 2)
    l0, l1 = _load(values, row, ok, 0, 3), _load(values, row, ok, 1, 3)
    l2 = _load(values, row, ok, 2, 3)
    scale = _reciprocal_scale(l0, l2)
    s01 = _half_inverse(l0, l1, scale, GUARD) * (_dot(v0, g1) - _dot(v1, g0))
    s02 = _half_inverse(l0, l2, scale, GUARD) * (_dot(v0, g2) - _dot(v2, g0))
    s12 = _half_inverse(l1, l2, scale, GUARD) * (_dot(v1, g2) - _dot(v2, g1))
    s00, s11 = _load(grad_values, row, ok, 0, 3), _load(grad_values, row, ok, 1, 3)
    s22 = _load(grad_values, row, ok, 2, 3)
    good = l0 == l0
    for i in tl.static_range(3):
        t0 = v0[i] * s00 + v1[i] * s01 + v2[i] * s02
        t1 = v0[i] * s01 + v1[i] * s11 + v2[i] * s12
        t2 = v0[i] * s02 + v1[i] * s12 + v2[i] * s22
        for j in tl.static_range(i + 1):
            entry = tl.where(good, t0 * v0[j] + t1 * v1[j] + t2 * v2[j], 0.0)
            _store(gradient, row, ok, 3 * i + j, 9, entry)
            if i != j:
                _store(gradient, row, ok, 3 * j + i, 9, entry)
