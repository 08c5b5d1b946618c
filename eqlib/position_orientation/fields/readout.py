r"""Read-outs: scalars, vectors, matrices and harmonics from functions of an orientation.

Each is a left inverse of its lift: a vector :math:`v` comes back from :math:`v \cdot o` whatever
the grid, as long as its orientations span the space. Orientations are as for the lifts.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.harmonics import spherical_harmonics, wigner_d
from eqlib.position_orientation.fields.lift import Orientations


def read_scalars(
    features: Float[Tensor, "nodes grid channels"], weights: Float[Tensor, "grid"]
) -> Float[Tensor, "nodes channels"]:
    r"""The mean over orientations, :math:`\sum_o w_o s_o`.

    Args:
        features: functions of the orientation.
        weights: of the orientations; their sum is one.
    """
    return (weights.to(features.dtype) @ features).contiguous()


def read_vectors(
    features: Float[Tensor, "nodes grid channels"],
    orientations: Orientations,
    weights: Float[Tensor, "grid"],
    frames: bool = False,
) -> Float[Tensor, "nodes vectors n"]:
    r"""Vectors, :math:`v = G^{-1} \sum_o w_o\, s_o\, o` with :math:`G = \sum_o w_o\, o\, o^\top`.

    For designs of strength two :math:`G = I / n`, so that :math:`v = n \sum_o w_o s_o o`. Frames
    read n channels as a vector in their axes, :math:`v = \sum_o w_o R_o f_o`.

    Args:
        features: functions of the orientation.
        orientations: unit vectors (..., grid, n), or rotation matrices (..., grid, n, n).
        weights: of the orientations; their sum is one.
        frames: whether they are matrices.

    Returns:
        One vector per channel, or per n channels, in the unit of the features.

    Raises:
        ValueError: the channels of frames are no multiple of n.
    """
    if not frames:
        return features.mT @ dual_basis(orientations, weights).to(features.dtype)
    n = orientations.shape[-1]
    parts = _in_axes(features, n) * weights.to(features.dtype)[:, None, None]
    return (parts @ orientations.mT.to(features.dtype)).sum(1)


def read_matrices(
    features: Float[Tensor, "nodes grid channels"],
    orientations: Orientations,
    weights: Float[Tensor, "grid"],
    frames: bool = False,
) -> Float[Tensor, "nodes matrices n n"]:
    r"""Traceless symmetric matrices, the inverse of :math:`o^\top M o`.

    For designs of strength four :math:`M = \tfrac{n (n + 2)}{2} \sum_o w_o\, s_o\, (o\, o^\top - I
    / n)`. Frames read n^2 channels as a matrix in their axes, which may be any.

    Args:
        features: functions of the orientation.
        orientations: as in :func:`read_vectors`.
        weights: of the orientations; their sum is one.
        frames: whether they are matrices.

    Returns:
        One matrix per channel, or per n^2 channels, in the unit of the features.

    Raises:
        ValueError: the channels of frames are no multiple of n^2.

    Note:
        On grids with too few orientations the matrix is the smallest that fits, not the one that
        was lifted: those along the axes of an octahedron see no entry off the diagonal.
    """
    n = orientations.shape[-1]
    if frames:
        inside = _in_axes(features, n * n).unflatten(-1, (n, n))
        turn = orientations.unsqueeze(-3).to(features.dtype)
        parts = turn @ inside @ turn.mT
        return (parts * weights.to(features.dtype)[:, None, None, None]).sum(1)
    square = orientations.unsqueeze(-1) * orientations.unsqueeze(-2)
    traceless = square - torch.eye(n, dtype=square.dtype, device=square.device) / n
    dual = dual_basis(traceless.flatten(-2), weights).to(features.dtype)
    return (features.mT @ dual).unflatten(-1, (n, n))


def read_harmonics(
    features: Float[Tensor, "nodes grid channels"],
    orientations: Orientations,
    weights: Float[Tensor, "grid"],
    lmax: int,
    frames: bool = False,
) -> Float[Tensor, "nodes coeffs channels_out"]:
    r"""Coefficients :math:`c_{lm}` of the function on the sphere, up to a degree.

    They fit :math:`s_o \approx \sum_{lm} c_{lm} Y_{lm}(o)` with the weights of the grid, and equal
    :math:`4\pi \sum_o w_o s_o Y_{lm}(o)` on designs of strength :math:`2 L`.

    Args:
        features: functions of the orientation.
        orientations: in three dimensions, as in :func:`read_vectors`.
        weights: of the orientations; their sum is one.
        lmax: largest degree L.
        frames: whether they are matrices; (L + 1)^2 channels are then one spherical tensor in their
            axes.

    Returns:
        Spherical tensors in eqlib's basis.

    Raises:
        ValueError: the grid has fewer orientations than there are coefficients, or the channels of
            frames are no multiple of (L + 1)^2.
    """
    count = (lmax + 1) ** 2
    if not frames:
        if orientations.shape[-2] < count:
            raise ValueError(
                f"lmax: degree {lmax} has {count} coefficients, which {orientations.shape[-2]} "
                f"orientations do not determine; take at most {_largest(orientations.shape[-2])}"
            )
        dual = dual_basis(spherical_harmonics(orientations, lmax), weights)
        return (features.mT @ dual.to(features.dtype)).mT
    channels = features.shape[-1] // count
    _in_axes(features, count)
    inside = features.unflatten(-1, (count, channels))
    parts = inside.split([2 * degree + 1 for degree in range(lmax + 1)], dim=-2)
    matrices = wigner_d(orientations.to(features.dtype), lmax)
    turned = [matrix @ part for matrix, part in zip(matrices, parts, strict=True)]
    return (torch.cat(turned, -2) * weights.to(features.dtype)[:, None, None]).sum(1)


def dual_basis(
    basis: Float[Tensor, "*rows grid functions"], weights: Float[Tensor, "grid"]
) -> Float[Tensor, "*rows grid functions"]:
    r"""Functions dual to a basis on a grid: :math:`B^* = W B\,(B^\top W B)^{+}`.

    :math:`s^\top B^*` are the coefficients of the weighted least squares fit of :math:`s`, the
    smallest ones if the grid does not tell all functions of the basis apart.

    Args:
        basis: values on the grid.
        weights: of its points.

    Returns:
        In float64.
    """
    values = basis.double()
    weighted = weights.double()[:, None] * values
    return weighted @ torch.linalg.pinv(values.mT @ weighted, hermitian=True, rtol=1e-10)


def _in_axes(features: Tensor, size: int) -> Float[Tensor, "nodes grid tensors size"]:
    """Channels in groups, each of them the components of a tensor in the axes of a frame."""
    if features.shape[-1] % size:
        raise ValueError(
            f"features: {features.shape[-1]} channels are not a multiple of {size}, the number of "
            "components in the axes of a frame"
        )
    return features.unflatten(-1, (-1, size))


def _largest(orientations: int) -> int:
    return math.isqrt(orientations) - 1
