"""The convolution composed of torch's operations, for kernels that the fused one does not know."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from eqlib.position_orientation.edges.geometry import Geometry
from eqlib.position_orientation.spaces.windows import polynomial_window

Functions = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The basis (edges, grid, basis) from the offsets, axes and scalars of edges."""
_CHUNK = 4096
"""How many edges are treated at once, outside of compilers."""


def convolve_in_parts(
    features: Float[Tensor, "nodes grid channels"],
    weight: Float[Tensor, "channels basis"],
    geometry: Geometry,
    functions: Functions,
) -> Float[Tensor, "nodes grid channels"]:
    """Convolve with the kernels of a part of the edges at a time, made anew for derivatives.

    Args:
        features: of the sources; what the mask of the geometry excludes counts as zero.
        weight: which combines the basis to kernels.
        geometry: edges and orientations.
        functions: the basis.
    """
    mask = geometry.mask
    if mask is not None:
        features = torch.where(mask[:, None, None], features, 0.0)
    if torch.compiler.is_compiling() or geometry.target.shape[0] <= _CHUNK:
        y = _convolve(features, weight, geometry, functions)
    else:
        y = torch.zeros_like(features)
        for part in _parts(geometry):
            y = y + checkpoint(_convolve, features, weight, part, functions, use_reentrant=False)
    return y if mask is None else torch.where(mask[:, None, None], y, 0.0)


def _convolve(features: Tensor, weight: Tensor, geometry: Geometry, functions: Functions) -> Tensor:
    """Return the sums over all edges, in both directions where one stands for two."""
    g, source, target = geometry, geometry.source, geometry.target
    exact = torch.promote_types(features.dtype, torch.float32)
    offsets, scalars = g.offsets.to(exact), g.scalars.to(exact)
    axes = (g.axes.index_select(0, g.frame) if g.frame.numel() else g.axes[:1]).to(exact)
    basis = functions(offsets, axes, scalars) * polynomial_window(offsets, g.radius)[:, None, None]
    kernel = linear(basis, weight.to(exact))
    x = features.to(exact)
    y = torch.zeros_like(x).index_add(0, target, kernel * x.index_select(0, source))
    if g.opposite.numel():
        kernel = torch.where((source != target)[:, None, None], kernel[:, g.opposite], 0.0)
        y = y.index_add(0, source, kernel * x.index_select(0, target))
    return y.to(features.dtype)


def _parts(geometry: Geometry) -> list[Geometry]:
    """Return runs of edges; only what the sums over them need is cut."""
    fields = ("offsets", "scalars", "source", "target", "frame")
    columns = [getattr(geometry, name).split(_CHUNK) for name in fields]
    if not geometry.frame.numel():
        columns[-1] = (geometry.frame,) * len(columns[0])
    return [
        geometry._replace(**dict(zip(fields, part, strict=True)))
        for part in zip(*columns, strict=True)
    ]
