"""Principal axes of clouds, and the choices of their signs that make frames of a group."""

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.frames.constructions.moments import positive
from eqlib.geometry import symmetric_eigh
from eqlib.symmetry.group import Group


def principal_axes(
    covariance: Float[Tensor, "*batch d d"], group: Group, guard: float
) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch d d"]]:
    """The variances, ascending, and the axes, column 0 that of the largest variance.

    Args:
        covariance: symmetric matrices.
        group: without reflections, the axes are right-handed.
        guard: that of :func:`~eqlib.geometry.symmetric_eigh`.
    """
    variances, axes = symmetric_eigh(covariance, guard=guard)
    axes = axes.flip(-1)
    if group.reflections:
        return variances, axes
    sign = _determinant(axes.detach()).sign()
    return variances, torch.cat([axes[..., :-1], axes[..., -1:] * sign[..., None, None]], dim=-1)


def guard_of(dtype: torch.dtype) -> float:
    """The guard of the derivatives of frames, for points of this dtype."""
    return 1e-6 if dtype == torch.float64 else 1e-3


def relative_gap(variances: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    """The smallest difference of neighbouring variances, divided by the sum of all."""
    return variances.diff(dim=-1).amin(-1) / positive(variances.sum(-1))


def sign_choices(group: Group, like: Float[Tensor, "*any"]) -> Float[Tensor, "signs d"]:
    """Signs of the columns of a frame that keep it one of the group: all, or those of product one.

    Args:
        group: acts on d dimensions.
        like: has their dtype and device.
    """
    free = (group.dimension or 0) - (not group.reflections)
    choice, axis = torch.arange(2**free, device=like.device), torch.arange(free, device=like.device)
    signs = (1 - 2 * (choice[:, None] >> axis & 1)).to(like.dtype)
    if group.reflections:
        return signs
    return torch.cat([signs, signs.prod(-1, keepdim=True)], dim=-1)


def inverse_of_scaled(
    axes: Float[Tensor, "*frames d d"], size: Float[Tensor, "*sizes 1 1"]
) -> Float[Tensor, "*frames d d"]:
    """Inverses of orthonormal axes times a size; zero where it is, and there is no inverse."""
    return torch.where(size == 0, 0.0, axes.mT / torch.where(size == 0, 1.0, size))


def _determinant(matrices: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch"]:
    if matrices.shape[-1] != 3:
        return torch.linalg.det(matrices)
    # Many small matrices take a factorisation ten times as long.
    first, second, third = matrices.unbind(-1)
    return (torch.linalg.cross(first, second) * third).sum(-1)
