"""The recurrences behind the spherical harmonics, alike for arrays and for tensors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqlib.harmonics._tables import Table, table


@table
def recurrence_table(lmax: int) -> Table:
    r"""Coefficients of the recurrence, of shape ``(2, (lmax+1)^2)``.

    Row 0 holds :math:`a_{lm} = \sqrt{(4l^2-1)/(l^2-m^2)}` for :math:`|m| < l` and the factor from
    the sectoral harmonic of degree :math:`l-1` to that of degree :math:`l` for :math:`|m| = l`;
    row 1 holds :math:`a_{lm}/a_{l-1,m}`.
    """
    coefficients = np.zeros((2, (lmax + 1) ** 2))
    for degree in range(1, lmax + 1):
        order = np.abs(np.arange(-degree, degree + 1))
        inner = order[1:-1]
        block = coefficients[:, degree**2 : (degree + 1) ** 2]
        block[0, 1:-1] = np.sqrt((4 * degree**2 - 1) / (degree**2 - inner**2))
        # sqrt(2) enters once, with the first harmonic of order other than 0.
        block[0, [0, -1]] = np.sqrt((2 * degree + 1) / (2 * degree) * (2 if degree == 1 else 1))
        below = (degree - 1) ** 2
        block[1, 1:-1] = np.sqrt(
            (2 * degree + 1)
            * (below - inner**2)
            / ((degree**2 - inner**2) * max(2 * degree - 3, 1))
        )
    return coefficients


def harmonics_by_degree(directions: Any, square: Any, coefficients: Any, lmax: int) -> list[Any]:
    r"""Solid harmonics :math:`r^l Y_{lm}`, one array ``(2l+1, *batch)`` per degree.

    With :math:`R_{l,\pm l}` from :math:`(z + ix)^l` and, for :math:`|m| < l`,

    .. math:: R_{lm} = a_{lm}\, y\, R_{l-1,m} - \frac{a_{lm}}{a_{l-1,m}}\, r^2 R_{l-2,m}.

    Args:
        directions: array or tensor, components first: ``(3, *batch)``.
        square: :math:`r^2`, 1 for directions and 0 for the zero vector.
        coefficients: :func:`recurrence_table`, of the kind of ``directions``.
        lmax: the largest degree.
    """
    concatenate: Any = torch.cat if isinstance(directions, Tensor) else np.concatenate
    x, y, z = directions
    coefficients = coefficients.reshape(2, -1, *(1 for _ in x.shape))
    constant = (0.0 * x + (4 * np.pi) ** -0.5)[None]
    # Degree 1 has no r^2, and in higher degrees it comes from degree 0 alone.
    degrees = [constant * square]
    for degree in range(1, lmax + 1):
        factor, ratio = coefficients[:, degree**2 : (degree + 1) ** 2]
        last = degrees[-1]
        sine, cosine = (last[:1], last[-1:]) if degree > 1 else (0.0 * last, last)
        inner = factor[1:-1] * (y * last)
        if degree > 1:
            middle = inner[1:-1] - ratio[2:-2] * degrees[-2]
            parts = [inner[:1], middle, inner[-1:]]
        else:
            parts = [inner]
        first = factor[:1] * (z * sine + x * cosine)
        parts = [first, *parts, factor[-1:] * (z * cosine - x * sine)]
        degrees.append(concatenate(parts))
    return [constant, *degrees[1:]]


@table
def derivative_table(degree: int) -> Table:
    r"""Matrices :math:`T` with :math:`\partial_k R_{lm} = \sum_n T_{kmn} R_{l-1,n}`.

    The derivatives of a solid harmonic are solid harmonics of the degree below:
    :math:`\partial_y` keeps the order, :math:`\partial_z \pm i \partial_x` shift it by one.
    """
    matrices = np.zeros((3, 2 * degree + 1, 2 * degree - 1))
    norm = (2 * degree + 1) / (2 * degree - 1)
    for order in range(degree + 1):
        root = np.sqrt(2.0) if order == 0 else 1.0
        up = root * np.sqrt(norm * (degree - order) * (degree - order - 1)) / 2
        down = np.sqrt(norm * (degree + order) * (degree + order - 1)) / 2
        down *= np.sqrt(2.0) if order == 1 else 1.0
        for sign in (1, -1) if order > 0 else (1,):
            row = matrices[:, degree + sign * order]
            _add(row[1], sign, order, np.sqrt(norm * (degree**2 - order**2)))
            _add(row[2], sign, order + 1, -up)
            _add(row[0], -sign, order + 1, -sign * up)
            if order > 0:
                _add(row[2], sign, order - 1, down)
                _add(row[0], -sign, order - 1, -sign * down)
    return matrices


def _add(row: Table, sign: int, order: int, value: float) -> None:
    """Add to the entry of one order, where there is such an order (no sine of order 0)."""
    centre = len(row) // 2
    if order <= centre and (order > 0 or sign > 0):
        row[centre + sign * order] += value


def gradients_by_degree(directions: Any, degrees: list[Any], matrices: list[Any]) -> list[Any]:
    r"""Tangential gradients :math:`\nabla R_{lm} - l \hat r Y_{lm}`, each ``(3, 2l+1, *batch)``.

    Args:
        directions: unit vectors, components first: ``(3, *batch)``.
        degrees: what :func:`harmonics_by_degree` returned for them.
        matrices: :func:`derivative_table` of the degrees 1 to lmax.
    """
    einsum: Any = torch.einsum if isinstance(directions, Tensor) else np.einsum
    gradients = [0.0 * directions[:, None]]
    for degree, matrix in enumerate(matrices, start=1):
        solid = einsum("kmn,n...->km...", matrix, degrees[degree - 1])
        gradients.append(solid - degree * directions[:, None] * degrees[degree][None])
    return gradients
