"""Windows: factors that end the reach of kernels without a jump."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.geometry import safe_norm


def polynomial_window(
    offsets: Float[Tensor, "*edges n"], radius: float = math.inf
) -> Float[Tensor, "*edges"]:
    r"""A factor that falls from 1 at zero to 0 at a radius, where two derivatives vanish.

    .. math:: w = 1 - 28 u^6 + 48 u^7 - 21 u^8, \qquad u = |r| / R < 1, \quad \text{else } 0

    Where it is small, it is evaluated as :math:`(1 - u)^3 (1 + 3 u + 6 u^2 + 10 u^3 + 15 u^4 + 21
    u^5)`, so that neither values nor derivatives are differences of larger numbers.

    Args:
        offsets: vectors r, in the unit of ``radius``.
        radius: R; infinite for no window.

    Returns:
        Factors from 0 to 1, without unit, in the dtype of ``offsets``; computed in float32 at
        least.

    Raises:
        ValueError: ``radius`` is not positive.
        TypeError: ``offsets`` is not floating point.

    Note:
        First and second derivatives by the offset are right at zero too, where a norm has none.

    Source:
        Gasteiger, Gross and Guennemann, Directional Message Passing for Molecular Graphs, ICLR
        2020, with p = 6.
    """
    if not radius > 0:
        raise ValueError(f"radius: expected a positive length, or infinity, got {radius}")
    if not offsets.is_floating_point():
        raise TypeError(
            f"offsets: expected floating-point numbers, got {offsets.dtype}; "
            "convert with .to(torch.get_default_dtype())"
        )
    if radius == math.inf:
        return torch.ones_like(offsets[..., 0])
    exact = offsets.to(torch.promote_types(offsets.dtype, torch.float32))
    u = (safe_norm(exact) / radius).clamp(max=1)
    series = torch.full_like(u, 21.0)
    for coefficient in (15.0, 10.0, 6.0, 3.0, 1.0):
        series = series * u + coefficient
    inner = 1 - u**6 * (28 - 48 * u + 21 * u.square())
    return torch.where(u < 0.5, inner, (1 - u) ** 3 * series).to(offsets.dtype)
