r"""Lifts: scalars, vectors, matrices and harmonics as functions of an orientation.

Orientations are directions (..., grid, n), rotation matrices (..., grid, n, n), whose columns are
the axes, or the one empty orientation (1, 0) of a space of positions. Axes in front of the grid, if
any, are those of the nodes, and every node then has orientations of its own.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.harmonics import spherical_harmonics, wigner_d
from eqlib.harmonics.layouts import largest_degree

Orientations = Float[Tensor, "*orientations"]


def lift_scalars(
    scalars: Float[Tensor, "nodes channels"], size: int
) -> Float[Tensor, "nodes grid channels"]:
    """Scalars, the same at every orientation.

    Args:
        scalars: of each node, in any unit.
        size: number of orientations.
    """
    return scalars.unsqueeze(1).expand(-1, size, -1)


def lift_vectors(
    vectors: Float[Tensor, "nodes channels n"],
    orientations: Orientations,
    frames: bool = False,
) -> Float[Tensor, "nodes grid lifted"]:
    r"""Vectors by their components: :math:`v \cdot o`, or :math:`R^\top v` for frames.

    Args:
        vectors: of each node, in any unit.
        orientations: unit vectors (..., grid, n), or rotation matrices (..., grid, n, n).
        frames: whether they are matrices.

    Returns:
        One number for each vector, or n, those of a vector next to each other.

    Raises:
        ValueError: the dimensions differ, as they do for the empty orientation of positions, which
            sees no direction: give the lengths of the vectors as scalars there.
    """
    orientations = orientations.to(vectors.dtype)
    directions = directions_of(orientations, frames)
    if vectors.shape[-1] != directions.shape[-1]:
        raise ValueError(
            f"vectors: {vectors.shape[-1]} components do not fit orientations with "
            f"{directions.shape[-1]}; spaces of positions have none and see no vector, only "
            "scalars such as its length"
        )
    if not frames:
        return directions @ vectors.mT
    return (vectors[:, None] @ orientations).flatten(-2)


def lift_matrices(
    matrices: Float[Tensor, "nodes channels n n"],
    orientations: Orientations,
    frames: bool = False,
) -> Float[Tensor, "nodes grid lifted"]:
    r"""Matrices by :math:`o^\top M o`, or :math:`R^\top M R` for frames.

    Args:
        matrices: of each node; directions see their symmetric part only.
        orientations: as in :func:`lift_vectors`.
        frames: whether they are matrices.

    Returns:
        One number for each matrix, or n^2, those of a matrix next to each other.

    Raises:
        ValueError: the dimensions differ.
    """
    orientations = orientations.to(matrices.dtype)
    directions = directions_of(orientations, frames)
    n = directions.shape[-1]
    if matrices.ndim < 3 or matrices.shape[-2:] != (n, n):
        raise ValueError(
            f"matrices: shape {tuple(matrices.shape)} does not fit orientations with {n} "
            f"components; expected (nodes, channels, {n}, {n})"
        )
    if frames:
        turned = orientations.mT.unsqueeze(-3) @ matrices.unsqueeze(1) @ orientations.unsqueeze(-3)
        return turned.flatten(-3)
    squares = (directions.unsqueeze(-1) * directions.unsqueeze(-2)).flatten(-2)
    return squares @ matrices.flatten(-2).mT


def lift_harmonics(
    coefficients: Float[Tensor, "nodes coeffs channels"],
    orientations: Orientations,
    frames: bool = False,
) -> Float[Tensor, "nodes grid lifted"]:
    r"""Spherical tensors as the functions :math:`\sum_{lm} c_{lm} Y_{lm}(o)`.

    For frames the coefficients in the axes of each, :math:`D^l(R)^\top c_l`.

    Args:
        coefficients: in eqlib's basis, of all degrees up to a largest one L.
        orientations: in three dimensions, as in :func:`lift_vectors`.
        frames: whether they are matrices.

    Returns:
        One number for each channel, or (L + 1)^2, those of an order next to each other.

    Raises:
        ValueError: the number of coefficients is not a square, or the space has other dimensions.
    """
    lmax = largest_degree(coefficients, "coefficients")
    if not frames:
        return spherical_harmonics(orientations, lmax).to(coefficients.dtype) @ coefficients
    parts = coefficients.unsqueeze(1).split([2 * degree + 1 for degree in range(lmax + 1)], dim=-2)
    matrices = wigner_d(orientations, lmax)
    turned = [matrix.mT.to(part.dtype) @ part for matrix, part in zip(matrices, parts, strict=True)]
    return torch.cat(turned, dim=-2).flatten(-2)


def directions_of(orientations: Orientations, frames: bool) -> Float[Tensor, "*directions"]:
    """The directions themselves, or the first axes of frames."""
    return orientations[..., 0] if frames else orientations
