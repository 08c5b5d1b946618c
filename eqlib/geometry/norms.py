"""Norms and directions whose values and derivatives are defined at zero."""

import torch
from jaxtyping import Float
from torch import Tensor


def safe_norm(
    x: Float[Tensor, "*shape"], dim: int = -1, keepdim: bool = False
) -> Float[Tensor, "*reduced"]:
    r"""Euclidean norm :math:`\lVert x \rVert` with derivatives of every order 0 at :math:`x = 0`.

    Args:
        x: vectors along ``dim``.
        dim: axis of the components.
        keepdim: keep ``dim`` with size 1.

    Returns:
        Norms, in the unit of ``x``. Components are scaled by the largest before they are squared,
        so that no norm over- or underflows that the dtype can hold.

    Raises:
        TypeError: ``x`` is not floating point.

    Note:
        A vector with an infinite entry has norm infinity, one with NaN has norm NaN; other vectors
        are untouched. :math:`\lVert x \rVert^2` through this norm has second derivative 0 at zero:
        where the square is wanted, sum squares instead.
    """
    scaled, scale, zero = _scaled(x, dim)
    norm = torch.where(zero, 0.0, scale * scaled.square().sum(dim, keepdim=True).sqrt())
    return norm if keepdim else norm.squeeze(dim)


def safe_direction(x: Float[Tensor, "*shape"], dim: int = -1) -> Float[Tensor, "*shape"]:
    r"""Unit vector :math:`x / \lVert x \rVert`; value and derivatives are 0 at :math:`x = 0`.

    Args:
        x: vectors along ``dim``.
        dim: axis of the components.

    Returns:
        Directions, without unit; scaled as in :func:`safe_norm`.

    Raises:
        TypeError: ``x`` is not floating point.

    Note:
        A vector with an entry that is not finite has a direction with NaN; other vectors are
        untouched. The gradient grows like one over the norm.
    """
    scaled, _, zero = _scaled(x, dim)
    return torch.where(zero, 0.0, scaled / scaled.square().sum(dim, keepdim=True).sqrt())


def _scaled(x: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return x / scale (1 where x is 0), the scale and where x is 0.

    The scale is a constant for autograd: norm and direction are homogeneous, so the derivative
    through it vanishes.
    """
    if not x.is_floating_point():
        raise TypeError(f"x has dtype {x.dtype}; expected floating point: convert it with .float()")
    largest = x.detach().abs().amax(dim, keepdim=True)
    zero = largest == 0
    scale = torch.where(zero | ~largest.isfinite(), 1.0, largest)
    # A constant in place of x cuts the gradient where the square root has none.
    return torch.where(zero, 1.0, x) / scale, scale, zero
