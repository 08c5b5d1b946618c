"""The polynomial of a many-body product: its terms, and the variances of its projections."""

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eqlib.kernels.gaunt_many_body.terms import SLOTS, Term

# Number of the fields: the function of either parity, and those of the two bracket operands.
FUNCTION, FIRST, SECOND = 0, 2, 4
BRACKET_FIELDS = 6

Values = NDArray[np.float64]


class Part(NamedTuple):
    r"""A product :math:`n^i p^j`, times a bracket if there is one, with a weight of its own.

    Attributes:
        powers: exponents of the natural and of the other function.
        bracket: parity of the bracket, 0 natural, 1 the other; None without a bracket.
    """

    powers: tuple[int, int]
    bracket: int | None = None

    @property
    def parity(self) -> int:
        """Parity of the product: that of the output it adds to."""
        return (self.powers[1] + (self.bracket or 0)) % 2


def parts(order: int, complete: bool) -> list[Part]:
    """All products of up to ``order`` functions; with brackets, of at most one."""
    if not complete:
        return [Part((i, 0)) for i in range(1, order + 1)]
    powers = [(i, j) for i, j in product(range(order + 1), repeat=2) if i + j <= order]
    plain = [Part(power) for power in powers if sum(power) > 0]
    short = [power for power in powers if sum(power) <= order - 2]
    return [*plain, *(Part(power, bracket) for bracket in (0, 1) for power in short)]


def terms(found: list[Part], complete: bool) -> list[Term]:
    """The products as terms, in which the weight of the i-th is the i-th field after the functions.

    A bracket flips the parity: operands of equal parity give parity 1, of different parity 0.
    """
    weights = BRACKET_FIELDS if complete else 1
    result = []
    for place, part in enumerate(found):
        factors = [SLOTS * FUNCTION] * part.powers[0] + [SLOTS * (FUNCTION + 1)] * part.powers[1]
        factors.append(SLOTS * (weights + place))
        for sign, pair in _bracket(part.bracket):
            result.append(Term(sign, SLOTS * part.parity, (*factors, *pair)))
    return result


def _bracket(parity: int | None) -> list[tuple[int, tuple[int, ...]]]:
    """Sign and factors of the products of slopes in the brackets of one parity."""
    if parity is None:
        return [(1, ())]
    pairs = [(one, (one + parity + 1) % 2) for one in (0, 1)]
    return [
        (sign, (SLOTS * (FIRST + one) + slot, SLOTS * (SECOND + two) + 3 - slot))
        for one, two in pairs
        for sign, slot in ((1, 1), (-1, 2))
    ]


def input_scale(lmax: int) -> Values:
    """Factors of each degree that give white noise of variance 1 values of variance 1.

    Each degree then has the same share in the values.
    """
    degrees = np.arange(lmax + 1)
    return np.sqrt(4 * np.pi / ((lmax + 1) * (2 * degrees + 1)))


def part_scale(found: list[Part], lmax: int) -> Values:
    """Factors that give each product a mean square of 1 on the sphere."""
    return np.array([_covariance(part, lmax, np.ones(1))[0] ** -0.5 for part in found])


def output_scale(found: list[Part], lmax: int, lmax_out: int) -> Values:
    r"""Factors of each parity and degree that give outputs a mean square of 1.

    The products are taken for independent stationary Gaussian functions on the sphere, with mean
    square 1 and weights of variance 1. The coefficients of degree l of a stationary function with
    covariance :math:`K(\cos\alpha)` have the mean square :math:`2\pi \int_{-1}^1 P_l(t) K(t) dt`.
    """
    degree = max(sum(part.powers) + 2 for part in found) * lmax + lmax_out
    t, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    harmonics = np.polynomial.legendre.legvander(t, lmax_out).T * weights * 2 * np.pi
    scales = part_scale(found, lmax) ** 2
    squares = np.zeros((1 + max(part.parity for part in found), lmax_out + 1))
    for part, scale in zip(found, scales, strict=True):
        squares[part.parity] += scale * (harmonics @ _covariance(part, lmax, t))
    return squares**-0.5


def _covariance(part: Part, lmax: int, t: Values) -> Values:
    r"""Covariance of a product at two points at an angle of cosine t.

    For a Gaussian function of covariance :math:`\rho`, by Wick's theorem; the slopes along and
    across the great circle through both points have the covariances :math:`t\rho' - (1-t^2)\rho''`
    and :math:`\rho'`.
    """
    rho = np.polynomial.Legendre(np.full(lmax + 1, 1 / (lmax + 1)))
    values = np.prod([_power(exponent, rho(t)) for exponent in part.powers], axis=0)
    if part.bracket is None:
        return values
    across = rho.deriv()(t)
    along = t * across - (1 - t**2) * rho.deriv(2)(t)
    return values * 4 * along * across  # two brackets, each of two products


def _power(exponent: int, rho: Values) -> Values:
    """Covariance of a power of a standard normal variable at correlation ``rho``."""
    return (
        np.ones_like(rho),
        rho,
        1 + 2 * rho**2,
        9 * rho + 6 * rho**3,
        9 + 72 * rho**2 + 24 * rho**4,
    )[exponent]
