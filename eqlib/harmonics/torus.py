r"""Harmonics as Fourier series on the torus of the angles :math:`(\theta, \varphi)`."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eqlib.harmonics._recurrence import harmonics_by_degree, recurrence_table
from eqlib.harmonics._tables import Table, check_degree, copy, read_only


class FourierTables(NamedTuple):
    r"""The way to two-dimensional Fourier series and back, float64, indexed by order :math:`|m|`.

    Attributes:
        series: :math:`A_{|m|lu}`, of shape ``(lmax+1, lmax+1, lmax+1)``.
        projection: :math:`Z_{|m|lu}`, of shape ``(lmax+1, lmax+1, umax+1)``.
    """

    series: Float[Tensor, "orders degrees frequencies"]
    projection: Float[Tensor, "orders degrees all_frequencies"]


def fourier_tables(lmax: int, umax: int) -> FourierTables:
    r"""Tables between harmonics and Fourier series in both angles.

    With :math:`t_m(\varphi) = \sin|m|\varphi,\ 1,\ \cos m\varphi` for :math:`m < 0`,
    :math:`m = 0`, :math:`m > 0`, and :math:`s_{mu}(\theta) = \cos u\theta` for even,
    :math:`\sin u\theta` for odd m,

    .. math::
        Y_{lm} = t_m(\varphi) \sum_{u \le l} A_{|m|lu}\, s_{mu}(\theta), \qquad
        \int Y_{lm}\, t_m(\varphi) \sum_u F_{mu}\, s_{mu}(\theta) = \sum_u Z_{|m|lu} F_{mu}.

    A function on the sphere, continued to :math:`\theta \in [0, 2\pi)`, is such a series; that of
    the product of two functions of degrees :math:`l_1, l_2` has frequencies up to
    :math:`l_1 + l_2`, and **all** of them contribute to each degree of the projection.

    Args:
        lmax: the largest degree; tables of lower degrees are leading parts.
        umax: the largest frequency in :math:`\theta` to project, at least 0.

    Returns:
        Tables that are zero, exactly, unless :math:`l \ge |m|` and :math:`u \equiv l` modulo 2.
        Tensors of one's own, on the CPU.

    Raises:
        TypeError: a degree is not a whole number.
        ValueError: a degree is negative.

    Source:
        Luo, Chen, Krishnapriyan, Enabling Efficient Equivariant Operations in the Fourier Basis
        via Gaunt Tensor Products, ICLR 2024; here in real form.
    """
    check_degree(lmax, "lmax")
    check_degree(umax, "umax")
    series, projection = _tables(lmax, umax)
    return FourierTables(copy(series), copy(projection))


@lru_cache(maxsize=32)
def _tables(lmax: int, umax: int) -> tuple[Table, Table]:
    series = _series(lmax)
    order = np.arange(lmax + 1)[:, None, None]
    one, two = np.arange(lmax + 1)[:, None], np.arange(umax + 1)
    sums, differences = _sine_moment(one + two), _sine_moment(one - two)
    overlap = np.where(order % 2 == 0, differences + sums, differences - sums) / 2
    norm = np.where(order == 0, 2 * np.pi, np.pi)
    return series, read_only(norm * (series @ overlap))


def _series(lmax: int) -> Table:
    """Fourier coefficients along the great circle phi = 0, theta from 0 to 2 pi."""
    count = 2 * lmax + 2
    theta = 2 * np.pi * np.arange(count) / count
    points = np.stack([0.0 * theta, np.cos(theta), np.sin(theta)])
    degrees = harmonics_by_degree(points, 1.0, recurrence_table(lmax), lmax)
    frequency = np.arange(lmax + 1)
    cosines, sines = (wave(frequency * theta[:, None]) / (lmax + 1) for wave in (np.cos, np.sin))
    cosines[:, 0] /= 2
    table = np.zeros((lmax + 1, lmax + 1, lmax + 1))
    for degree, values in enumerate(degrees):
        # Only these frequencies occur; the others are rounding errors.
        occurs = (frequency <= degree) & (frequency % 2 == degree % 2)
        for order, row in enumerate(values[degree:]):
            wave = cosines if order % 2 == 0 else sines
            table[order, degree] = np.where(occurs, row @ wave, 0.0)
    return read_only(table)


def _sine_moment(frequency: NDArray[np.int64]) -> Table:
    r"""Integral of :math:`\cos(n\theta) \sin\theta` from 0 to :math:`\pi`."""
    even = frequency % 2 == 0
    return np.where(even, 2 / (1 - np.where(even, frequency, 0) ** 2), 0.0)
