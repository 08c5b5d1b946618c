r"""Coefficients of low degree as numbers known when a kernel is compiled.

The sparse form multiplies by constants that are part of its instructions, so they cannot arrive as
tensors. They are integrals of polynomials in x, y, z over the sphere, summed in integers:
:math:`\int x^i y^j z^k = 4\pi (i-1)!!\,(j-1)!!\,(k-1)!! / (i+j+k+1)!!` for even i, j, k, else 0.
"""

import hashlib
import math
from functools import cache
from itertools import product

Polynomial = dict[tuple[int, int, int], int]
Terms = tuple[tuple[tuple[int, tuple[tuple[int, float], ...]], ...], ...]

_COMMON = math.prod(range(1, 64, 2))
"""A multiple of every (i+j+k+1)!! that occurs, so that all moments are integers over it."""


@cache
def terms(lmax1: int, lmax2: int, lmax3: int, odd: bool) -> Terms:
    r"""Return the nonzero terms of :math:`z_c = \sum_a x_a \sum_b K_{abc} y_b`.

    Returns:
        for every output c a tuple of ``(a, ((b, K_abc), ...))``.
    """
    right = range((lmax2 + 1) ** 2)
    outputs = []
    for c in range((lmax3 + 1) ** 2):
        groups = []
        for a in range((lmax1 + 1) ** 2):
            values = ((b, _coefficient(a, b, c, odd)) for b in right)
            group = tuple((b, value) for b, value in values if value != 0.0)
            if group:
                groups.append((a, group))
        outputs.append(tuple(groups))
    return tuple(outputs)


@cache
def digest(lmax1: int, lmax2: int, lmax3: int, odd: bool) -> int:
    """Return a number that changes with the terms: it keeps caches of compiled kernels honest."""
    text = repr(terms(lmax1, lmax2, lmax3, odd)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:3], "big")


def _coefficient(a: int, b: int, c: int, odd: bool) -> float:
    """Return K_abc, with even permutations of one triple sharing one value."""
    return _canonical(*min((a, b, c), (b, c, a), (c, a, b)), odd)


@cache
def _canonical(a: int, b: int, c: int, odd: bool) -> float:
    degrees = sum(math.isqrt(index) for index in (a, b, c))
    if degrees % 2 != odd:
        return 0.0
    pair = _bracket(a, b) if odd else _times(_harmonic(a)[0], _harmonic(b)[0])
    total = sum(
        value * third * _moment(i + u, j + v, k + w)
        for ((i, j, k), value), ((u, v, w), third) in product(pair.items(), _harmonic(c)[0].items())
    )
    scales = math.prod(_harmonic(index)[1] for index in (a, b, c))
    return 4.0 * math.pi * math.sqrt(scales) * (total / _COMMON)


@cache
def _harmonic(index: int) -> tuple[Polynomial, float]:
    r"""Return Y_lm as a polynomial with integer coefficients and the square of its factor.

    With the polar axis y, :math:`Y_{lm} \propto P_l^{(|m|)}(y)` times the real (m >= 0) or
    imaginary (m < 0) part of :math:`(z + ix)^{|m|}`.
    """
    degree = math.isqrt(index)
    order = index - degree * degree - degree
    m = abs(order)
    polar: Polynomial = {}
    for k in range((degree - m) // 2 + 1):
        power = degree - 2 * k
        value = math.comb(degree, k) * math.comb(2 * degree - 2 * k, degree)
        polar[0, power - m, 0] = (-1) ** k * value * math.perm(power, m)
    around: Polynomial = {}
    for k in range(m + 1):
        if k % 2 == (order < 0):
            around[k, 0, m - k] = (-1) ** (k // 2) * math.comb(m, k)
    factorials = math.factorial(degree - m) / math.factorial(degree + m)
    square = (2 * degree + 1) / (4 * math.pi) * factorials * (2 if m else 1) / 4.0**degree
    return _times(polar, around), square


@cache
def _bracket(a: int, b: int) -> Polynomial:
    r"""Return :math:`r \cdot (\nabla f \times \nabla h)` without the factors."""
    result: Polynomial = {}
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        position = {tuple(int(axis == i) for axis in range(3)): 1}
        for first, second, sign in ((j, k, 1), (k, j, -1)):
            slopes = _times(_slope(_harmonic(a)[0], first), _slope(_harmonic(b)[0], second))
            for powers, value in _times(position, slopes).items():  # type: ignore[arg-type]
                result[powers] = result.get(powers, 0) + sign * value
    return result


def _slope(polynomial: Polynomial, axis: int) -> Polynomial:
    lower = [tuple(p - (n == axis) for n, p in enumerate(powers)) for powers in polynomial]
    factors = [value * powers[axis] for powers, value in polynomial.items()]
    return {powers: value for powers, value in zip(lower, factors, strict=True) if value}  # type: ignore[misc]


def _times(left: Polynomial, right: Polynomial) -> Polynomial:
    result: Polynomial = {}
    for ((i, j, k), first), ((u, v, w), second) in product(left.items(), right.items()):
        powers = (i + u, j + v, k + w)
        result[powers] = result.get(powers, 0) + first * second
    return result


@cache
def _moment(i: int, j: int, k: int) -> int:
    """Return the integral of a monomial over the sphere, over 4 pi, times the common multiple."""
    if i % 2 or j % 2 or k % 2:
        return 0
    above = math.prod(math.prod(range(1, power, 2)) for power in (i, j, k))
    return above * (_COMMON // math.prod(range(1, i + j + k + 2, 2)))
