"""Wigner matrices: how rotations act on the harmonics of each degree."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.harmonics._recurrence import harmonics_by_degree, recurrence_table
from eqlib.harmonics._tables import Table, check_degree, constant, table
from eqlib.harmonics.spherical import harmonics_of_directions


def wigner_d(
    rotation: Float[Tensor, "*batch 3 3"], lmax: int
) -> list[Float[Tensor, "*batch coeffs coeffs"]]:
    r"""Wigner matrices of the degrees 0 to ``lmax``, with :math:`Y_l(R\,r) = D^l(R)\,Y_l(r)`.

    Fitted through the harmonics at fixed points :math:`r_g` and at the rotated ones:

    .. math:: D^l(R) = Y_l(R\,r_g)\,Y_l(r_g)^{+}

    Args:
        rotation: rotation matrices. For an improper one the matrix is that of natural parity,
            :math:`(-1)^l D^l(-R)`.
        lmax: the largest degree.

    Returns:
        One orthogonal matrix ``(2l+1, 2l+1)`` per degree and rotation, in the dtype of
        ``rotation``; half and bfloat16 are computed in float32. That of degree 1 is ``rotation``.

    Raises:
        TypeError: ``rotation`` is not floating point, or ``lmax`` not a whole number.
        ValueError: ``rotation`` is not of shape (..., 3, 3), or ``lmax`` is negative.

    Note:
        Without Euler angles no rotation is special, so the result is as precise as ``rotation``,
        and differentiable everywhere. Matrices that are not orthogonal are not refused; for them
        the result has no meaning. Where TF32 is switched on for matrix products in float32, it
        holds here too, with errors near 1e-3.
    """
    check_degree(lmax, "lmax")
    if not rotation.is_floating_point():
        raise TypeError(
            f"rotation has dtype {rotation.dtype}; expected floating point: "
            "convert it with .float()"
        )
    if rotation.shape[-2:] != (3, 3):
        raise ValueError(f"rotation has shape {tuple(rotation.shape)}; expected (..., 3, 3)")
    exact = rotation.to(torch.promote_types(rotation.dtype, torch.float32))
    with torch.autocast(rotation.device.type, enabled=False):
        matrices = [exact.new_ones((*exact.shape[:-2], 1, 1))]
        if lmax > 0:
            matrices.append(exact.clone(memory_format=torch.contiguous_format))
        if lmax > 1:
            matrices += _fitted(exact, len(range(lmax)))
    return [matrix.to(rotation.dtype) for matrix in matrices]


def _fitted(rotation: Tensor, lmax: int) -> list[Tensor]:
    """Wigner matrices of the degrees 2 to ``lmax``."""
    fit = constant("fit_table", lmax, rotation)
    degrees = harmonics_of_directions((rotation @ fit[:3]).movedim(-2, 0), lmax)
    inverses = fit[3:].split([2 * degree + 1 for degree in range(lmax + 1)])
    return [
        (values @ inverse.mT).movedim(0, -2).contiguous()
        for values, inverse in zip(degrees[2:], inverses[2:], strict=True)
    ]


@table
def fit_table(lmax: int) -> Table:
    """Components of the points in three rows, then each degree's pseudo-inverse, transposed."""
    points = fit_points(lmax)
    degrees = harmonics_by_degree(points, 1.0, recurrence_table(lmax), lmax)
    return np.concatenate([points, *(np.linalg.pinv(degree).T for degree in degrees)])


def fit_points(lmax: int) -> Table:
    """Unit vectors ``(3, 4 lmax + 1)`` that tell the harmonics of one degree up to lmax apart.

    They lie evenly on a half sphere along the golden-angle spiral, since points opposite to each
    other would tell nothing new. Being twice as many as a degree has harmonics, they leave a fit
    the condition number 6 at most, up to degree 30, so that float32 keeps its digits.
    """
    count = 4 * lmax + 1
    step = np.arange(count) + 0.5
    cosine = 1 - step / count
    sine = np.sqrt(1 - cosine**2)
    angle = np.pi * (3 - np.sqrt(5)) * step
    return np.stack([sine * np.sin(angle), cosine, sine * np.cos(angle)])
