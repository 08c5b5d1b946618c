"""Coefficients in the basis of physics, with the polar axis z, real or complex, and back."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from eqlib.harmonics._recurrence import harmonics_by_degree, recurrence_table
from eqlib.harmonics._tables import Table, constant, table
from eqlib.harmonics.layouts import largest_degree
from eqlib.harmonics.wigner import fit_points

_PLACES = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
"""Takes (x, y, z) to (y, z, x): the z-polar harmonics are those of eqlib there."""


def to_z_polar(
    features: Float[Tensor, "*batch coeffs channels"], form: Literal["real", "complex"] = "real"
) -> Float[Tensor, "*batch coeffs channels"] | Complex[Tensor, "*batch coeffs channels"]:
    r"""Coefficients of the same functions in harmonics with the polar axis z.

    .. math::
        \sum_{lm} x_{lm} Y_{lm}(r) = \sum_{lm} a_{lm} Y^z_{lm}(r) = \sum_{lm} c_{lm} Y_l^m(r)

    :math:`Y^z_{lm}(x, y, z) = Y_{lm}(y, z, x)` is real; degree 1 is (y, z, x).
    :math:`Y_l^m` is complex with the Condon-Shortley sign, as ``scipy.special.sph_harm_y``, and
    :math:`c_{lm} = (-1)^m (a_{lm} - i a_{l,-m}) / \sqrt 2` for :math:`m > 0`,
    :math:`c_{l,-m} = (-1)^m \bar c_{lm}`, :math:`c_{l0} = a_{l0}`.

    Args:
        features: coefficients x in eqlib's basis, polar axis y.
        form: "real" for a, "complex" for c.

    Returns:
        Coefficients in the order :math:`l^2 + l + m`; a in the dtype of ``features``, c in the
        complex dtype of at least its precision.

    Raises:
        TypeError: ``features`` is not real floating point.
        ValueError: the number of coefficients is not a square, or ``form`` has another value.
    """
    if form not in ("real", "complex"):
        raise ValueError(f"form: expected 'real' or 'complex', got {form!r}")
    if not features.is_floating_point():
        raise TypeError(
            f"features has dtype {features.dtype}; expected real floating point: coefficients in "
            "eqlib's basis are real"
        )
    lmax = largest_degree(features, "features")
    real = _turned(features.to(torch.promote_types(features.dtype, torch.float32)), lmax, False)
    if form == "real":
        return real.to(features.dtype)
    same, other, imaginary, crossed = constant("order_table", lmax, real)[:4, :, None]
    opposite = _opposite(real, lmax)
    return torch.complex(same * real + other * opposite, imaginary * real + crossed * opposite)


def from_z_polar(
    coefficients: Float[Tensor, "*batch coeffs channels"]
    | Complex[Tensor, "*batch coeffs channels"],
) -> Float[Tensor, "*batch coeffs channels"]:
    r"""Coefficients in eqlib's basis: the inverse of :func:`to_z_polar`.

    Args:
        coefficients: real ones a or complex ones c, told apart by the dtype. Complex ones are taken
            as those of real functions: orders :math:`m < 0` follow from the others and are not
            read, nor is the imaginary part of order 0.

    Returns:
        Real coefficients of the same functions.

    Raises:
        TypeError: ``coefficients`` is neither floating point nor complex.
        ValueError: the number of coefficients is not a square.
    """
    lmax = largest_degree(coefficients, "coefficients")
    if coefficients.is_complex():
        real, imaginary = coefficients.real, _opposite(coefficients.imag, lmax)
        factors = constant("order_table", lmax, real)[..., None]
        return _turned(factors[4] * real + factors[5] * imaginary, lmax, True)
    if not coefficients.is_floating_point():
        raise TypeError(
            f"coefficients has dtype {coefficients.dtype}; expected floating point or complex: "
            "convert it with .float()"
        )
    exact = coefficients.to(torch.promote_types(coefficients.dtype, torch.float32))
    return _turned(exact, lmax, True).to(coefficients.dtype)


def _turned(features: Tensor, lmax: int, inverse: bool) -> Tensor:
    """Each degree times the Wigner matrix of the change of axes, or its inverse."""
    turn = constant("turn_table", lmax, features)
    parts = []
    with torch.autocast(features.device.type, enabled=False):
        for degree in range(lmax + 1):
            rows = slice(degree**2, (degree + 1) ** 2)
            matrix = turn[rows, : 2 * degree + 1]
            parts.append((matrix.mT if inverse else matrix) @ features[..., rows, :])
    return torch.cat(parts, dim=-2)


def _opposite(features: Tensor, lmax: int) -> Tensor:
    """Coefficients of order -m in the place of those of order m."""
    parts = features.split([2 * degree + 1 for degree in range(lmax + 1)], dim=-2)
    return torch.cat([part.flip(-2) for part in parts], dim=-2)


@table
def turn_table(lmax: int) -> Table:
    """Wigner matrices of the change of axes, degree under degree, filled up with zeros."""
    points = fit_points(lmax)
    before, after = (
        harmonics_by_degree(directions, 1.0, recurrence_table(lmax), lmax)
        for directions in (points, _PLACES @ points)
    )
    stacked = np.zeros(((lmax + 1) ** 2, 2 * lmax + 1))
    for degree in range(lmax + 1):
        fitted = after[degree] @ np.linalg.pinv(before[degree])
        matrix = _PLACES if degree == 1 else fitted
        stacked[degree**2 : (degree + 1) ** 2, : 2 * degree + 1] = matrix
    return stacked


@table
def order_table(lmax: int) -> Table:
    """Factors by order: complex from real (same order, opposite, each re and im), and back."""
    order = np.concatenate([np.arange(-degree, degree + 1) for degree in range(lmax + 1)])
    sign, root = (-1.0) ** order, np.sqrt(2)
    zero, positive, negative = (order == 0) * 1.0, (order > 0) * sign, (order < 0) * 1.0
    return np.stack(
        [
            zero + positive / root,
            negative / root,
            negative / root,
            -positive / root,
            zero + positive * root,
            -negative * sign * root,
        ]
    )
