"""Coupling coefficients: integrals of three harmonics, and of a Poisson bracket and a harmonic."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eqlib.harmonics._recurrence import (
    derivative_table,
    gradients_by_degree,
    harmonics_by_degree,
    recurrence_table,
)
from eqlib.harmonics._tables import Table, check_degree, copy, read_only

_ROUNDING = 1e-13
"""Coefficients below are rounding errors of 0: up to degree 8 none lies between 1e-15 and 1e-4."""


def gaunt_coefficients(
    lmax1: int, lmax2: int, lmax3: int
) -> Float[Tensor, "coeffs1 coeffs2 coeffs3"]:
    r"""Gaunt coefficients :math:`G_{abc} = \int Y_a Y_b Y_c`, in float64 on the CPU.

    They are totally symmetric, and zero, exactly, unless :math:`|l_1 - l_2| \le l_3 \le l_1 + l_2`
    and :math:`l_1 + l_2 + l_3` is even. The product of the functions with coefficients x and y has
    the coefficients :math:`\sum_{ab} G_{abc} x_a y_b`.

    Args:
        lmax1: largest degree of the first index; ``lmax2`` and ``lmax3`` of the others.
        lmax2: largest degree of the second index.
        lmax3: largest degree of the third index.

    Returns:
        A tensor of one's own, to change at will.

    Raises:
        TypeError: a degree is not a whole number.
        ValueError: a degree is negative.

    Note:
        The tensor is dense: 4 MB at degree 8, 200 MB at degree 16.

    Source:
        Luo, Chen, Krishnapriyan, Enabling Efficient Equivariant Operations in the Fourier Basis
        via Gaunt Tensor Products, ICLR 2024. Here by exact quadrature.
    """
    _check(lmax1, lmax2, lmax3)
    return copy(_gaunt(lmax1, lmax2, lmax3))


def poisson_coefficients(
    lmax1: int, lmax2: int, lmax3: int
) -> Float[Tensor, "coeffs1 coeffs2 coeffs3"]:
    r"""Coefficients :math:`B_{abc} = \int \{Y_a, Y_b\} Y_c` of the Poisson bracket on the sphere.

    .. math:: \{f, h\} = \hat r \cdot (\nabla f \times \nabla h)

    They are totally antisymmetric, and zero, exactly, unless
    :math:`|l_1 - l_2| \le l_3 \le l_1 + l_2` and :math:`l_1 + l_2 + l_3` is odd: the
    Clebsch-Gordan paths that Gaunt coefficients leave out. For :math:`l = 1` the bracket is the
    cross product times :math:`\sqrt{3 / 4\pi}`.

    Args:
        lmax1: largest degree of the first index; ``lmax2`` and ``lmax3`` of the others.
        lmax2: largest degree of the second index.
        lmax3: largest degree of the third index.

    Returns:
        Float64 on the CPU; a tensor of one's own, to change at will.

    Raises:
        TypeError: a degree is not a whole number.
        ValueError: a degree is negative.
    """
    _check(lmax1, lmax2, lmax3)
    return copy(_poisson(lmax1, lmax2, lmax3))


@lru_cache(maxsize=8)
def _gaunt(lmax1: int, lmax2: int, lmax3: int) -> Table:
    meridians, weights = _meridians((lmax1, lmax2, lmax3))
    (p1, _), (p2, _), (p3, _) = meridians
    integral = np.einsum("an,bn,cn->abc", p1, p2, p3 * weights, optimize=True)
    orders = [_orders(lmax) for lmax in (lmax1, lmax2, lmax3)]
    return _selected(integral * _circle(orders), (lmax1, lmax2, lmax3), 0)


@lru_cache(maxsize=8)
def _poisson(lmax1: int, lmax2: int, lmax3: int) -> Table:
    r"""By :math:`\{f, h\} = (\partial_\theta f\,\partial_\varphi h - \dots) / \sin\theta`."""
    meridians, weights = _meridians((lmax1, lmax2, lmax3))
    (p1, d1), (p2, d2), (p3, _) = meridians
    m1, m2, m3 = (_orders(lmax) for lmax in (lmax1, lmax2, lmax3))
    # d/dphi takes the harmonic of order m to -m times that of order -m.
    first = np.einsum("an,bn,cn->abc", d1, -m2[:, None] * p2, p3 * weights, optimize=True)
    second = np.einsum("an,bn,cn->abc", -m1[:, None] * p1, d2, p3 * weights, optimize=True)
    bracket = first * _circle([m1, -m2, m3]) - second * _circle([-m1, m2, m3])
    return _selected(bracket, (lmax1, lmax2, lmax3), 1)


def _meridians(lmaxes: tuple[int, ...]) -> tuple[list[tuple[Table, Table]], Table]:
    """Harmonics of order |m| at phi = 0 and their slopes in theta over its sine, and weights.

    The nodes are those of the exact Gauss-Legendre rule in the cosine.
    """
    cosine, weights = np.polynomial.legendre.leggauss(sum(lmaxes) // 2 + 1)
    sine = np.sqrt(1 - cosine**2)
    points = np.stack([0 * cosine, cosine, sine])
    lmax = max(lmaxes)
    degrees = harmonics_by_degree(points, 1.0, recurrence_table(lmax), lmax)
    tables = [derivative_table(degree) for degree in range(1, lmax + 1)]
    gradients = np.concatenate(gradients_by_degree(points, degrees, tables), axis=1)
    slopes = (cosine * gradients[2] - sine * gradients[1]) / sine
    values = np.concatenate(degrees)
    result = []
    for each in lmaxes:
        degree = np.repeat(np.arange(each + 1), 2 * np.arange(each + 1) + 1)
        columns = degree**2 + degree + np.abs(_orders(each))
        result.append((values[columns], slopes[columns]))
    return result, weights


def _orders(lmax: int) -> NDArray[np.int64]:
    return np.concatenate([np.arange(-degree, degree + 1) for degree in range(lmax + 1)])


def _circle(orders: list[NDArray[np.int64]]) -> Table:
    """Integrals over the angle phi of three functions 1, cos or sin by their orders."""
    largest = [int(np.abs(order).max()) for order in orders]
    angle = 2 * np.pi * np.arange(sum(largest) + 1) / (sum(largest) + 1)
    first, second, third = (
        np.stack([_wave(m, angle) for m in range(-most, most + 1)]) for most in largest
    )
    table = np.einsum("an,bn,cn->abc", first, second, third, optimize=True)
    # All are multiples of pi / 2.
    table = np.round(table * 4 / (sum(largest) + 1)) * np.pi / 2
    rows = [order + most for order, most in zip(orders, largest, strict=True)]
    return table[np.ix_(*rows)]


def _wave(order: int, angle: Table) -> Table:
    return np.cos(order * angle) if order >= 0 else np.sin(-order * angle)


def _selected(table: Table, lmaxes: tuple[int, int, int], parity: int) -> Table:
    """Exact zeros where the selection rules say so."""
    one, two, three = (
        np.repeat(np.arange(lmax + 1), 2 * np.arange(lmax + 1) + 1) for lmax in lmaxes
    )
    one, two = one[:, None, None], two[:, None]
    allowed = (abs(one - two) <= three) & (three <= one + two) & ((one + two + three) % 2 == parity)
    return read_only(np.where(allowed & (np.abs(table) > _ROUNDING), table, 0.0))


def _check(lmax1: int, lmax2: int, lmax3: int) -> None:
    for number, lmax in enumerate((lmax1, lmax2, lmax3), start=1):
        check_degree(lmax, f"lmax{number}")
