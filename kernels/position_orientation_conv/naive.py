"""The definition: the kernel of every edge, orientation and channel in memory at once."""

from math import isinf

import torch
from torch import Tensor
from torch.nn.functional import gelu

from eqlib.kernels.position_orientation_conv import attributes
from eqlib.kernels.position_orientation_conv.arguments import Arguments
from eqlib.kernels.position_orientation_conv.derivatives import differentiate

__all__ = ["convolve", "differentiate"]


def convolve(arguments: Arguments) -> Tensor:
    """Sum the messages into each target; torch can differentiate this function."""
    x = arguments.x.to(arguments.w3.dtype)
    source, target, opposite = arguments.source, arguments.target, arguments.opposite
    filters = kernels(arguments)
    y = x.new_zeros(len(arguments.starts) - 1, *x.shape[1:])
    y = y.index_add(0, target, filters * x.index_select(0, source))
    if len(opposite):
        both_ways = (source != target)[:, None, None]
        filters = torch.where(both_ways, filters.index_select(1, opposite), 0.0)
        y = y.index_add(0, source, filters * x.index_select(0, target))
    return y.to(arguments.x.dtype)


def kernels(arguments: Arguments) -> Tensor:
    """Return the kernel K, (edges, orientations, channels)."""
    offsets, axes, scalars = arguments.offsets, arguments.axes, arguments.scalars
    axes = axes.index_select(0, arguments.frame) if len(arguments.frame) else axes[:1]
    values = attributes.evaluate(offsets, axes, arguments.attributes, arguments.softening)
    columns = [
        *attributes.monomials(values, arguments.degree),
        *scalars[:, None].expand(-1, axes.shape[1], -1).unbind(-1),
    ]
    shape = (len(offsets), axes.shape[1])
    inputs = torch.stack(columns, dim=-1) if columns else offsets.new_empty(*shape, 0)
    hidden = gelu(inputs @ arguments.w1.mT + arguments.b1)
    basis = gelu(hidden @ arguments.w2.mT + arguments.b2)
    basis = basis * window(offsets, arguments.radius)[:, None, None]
    return basis @ arguments.w3.mT


def window(offsets: Tensor, radius: float) -> Tensor:
    r"""Return :math:`1 - 28u^6 + 48u^7 - 21u^8` of :math:`u = |r| / R < 1`, else 0, (edges,)."""
    if isinf(radius):
        return offsets.new_ones(len(offsets))
    square = (offsets / radius).square().sum(-1).clamp(max=1.0)
    # Where the power of u is below rounding its square root has no finite derivative.
    near = square < 1e-12
    u = torch.where(near, 0.0, torch.where(near, 1.0, square).sqrt())
    return 1 + square**3 * (48 * u - 28 - 21 * square)
