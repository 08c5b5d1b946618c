"""Attention over positions, orientation by orientation."""

from bisect import bisect_right
from collections.abc import Iterator
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from eqlib.geometry._checks import check_count
from eqlib.position_orientation.convolution.kernel_network import Kernels
from eqlib.position_orientation.convolution.spatial import SpatialConv
from eqlib.position_orientation.edges.geometry import Geometry
from eqlib.position_orientation.spaces.windows import polynomial_window


class SpatialAttention(nn.Module):
    r"""Convolution over positions whose edges are weighted by what they join.

    .. math::
        y_{ioc} = \sum_{e \to i} \alpha_{eo}\, (W B_{eo})_c\, x_{s_e o c}, \qquad
        \alpha_{eo} = \frac{w_e \exp l_{eo}}{1 + \sum_{e' \to i} w_{e'} \exp l_{e'o}}, \qquad
        l_{eo} = \frac{\langle Q x_{io}, K x_{s_e o} \rangle}{\sqrt d} + u \cdot B_{eo}

    with the basis B and the window w of :class:`SpatialKernels`, and one :math:`\alpha` for each
    head, which weighs its share of the channels. The 1 stands for a neighbour that says nothing:
    with it, what comes from an edge vanishes smoothly at the end of the window, also where the edge
    is the last one of its node, and a node without edges has zeros.

    It takes the place of :class:`SpatialConv`, is as equivariant, and costs more: Q, K and the
    kernels of a part of the edges stand in memory.

    Args:
        channels: number of channels, a multiple of ``heads``.
        kernels: what the layers share; it is passed again to every call, and not part of the layer.
        heads: number of heads.
        chunk: how many edges to treat at once; their values are not kept for the backward pass, but
            computed anew. None, or a compiler, takes all edges at once. The number of edges of each
            node is read, for which a GPU has to be waited for.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is not positive, or ``heads`` does not divide ``channels``.
    """

    def __init__(
        self, channels: int, kernels: Kernels, heads: int = 4, chunk: int | None = 4096
    ) -> None:
        super().__init__()
        check_count("channels", channels, 1)
        check_count("heads", heads, 1)
        if chunk is not None:
            check_count("chunk", chunk, 1)
        if channels % heads:
            raise ValueError(f"heads is {heads}; expected a divisor of channels = {channels}")
        self.channels, self.heads, self.chunk = channels, heads, chunk
        basis = kernels.spatial.basis.out_features
        self.weight = nn.Parameter(torch.empty(channels, basis))
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.logit = nn.Linear(basis, heads, bias=False)
        self.reset_parameters(kernels)

    def reset_parameters(self, kernels: Kernels, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew, normal; W with variance 1 / (basis * mean of B^2).

        Args:
            kernels: what the layers share, with weights already drawn.
            generator: source of the weights; by default the global one, as in torch's layers.
        """
        square = kernels.spatial.mean_square(kernels.grid, kernels.group)
        for weight, variance in (
            (self.weight, 1 / (self.weight.shape[1] * square)),
            (self.query.weight, 1 / self.channels),
            (self.key.weight, 1 / self.channels),
            (self.logit.weight, 1 / (self.weight.shape[1] * square)),
        ):
            nn.init.normal_(weight, std=sqrt(variance), generator=generator)

    def forward(
        self,
        features: Float[Tensor, "nodes grid channels"],
        geometry: Geometry,
        kernels: Kernels,
    ) -> Float[Tensor, "nodes grid channels"]:
        """The weighted sums; a node without edges has zeros.

        Args:
            features: of each node and orientation.
            geometry: edges, one for each direction, and orientations.
            kernels: what the layers share.

        Raises:
            ValueError: an edge stands for both directions; make the geometry with ``paired=False``.
        """
        if geometry.opposite.numel():
            raise ValueError(
                "geometry has one edge for both directions, whose weights differ; make it with "
                "paired=False"
            )
        mask = geometry.mask
        if mask is not None:
            features = torch.where(mask[:, None, None], features, 0.0)
        projected = [layer(features) for layer in (self.query, self.key)]
        queries, keys = (part.unflatten(-1, (self.heads, -1)) for part in projected)
        y = self._attend_in_parts(features, queries, keys, geometry, kernels)
        return y if mask is None else torch.where(mask[:, None, None], y, 0.0)

    def extra_repr(self) -> str:
        """Channels and options."""
        return f"{self.channels}, heads={self.heads}, chunk={self.chunk}"

    def _attend_in_parts(
        self, features: Tensor, queries: Tensor, keys: Tensor, geometry: Geometry, kernels: Kernels
    ) -> Tensor:
        chunk = None if torch.compiler.is_compiling() else self.chunk
        if chunk is None or geometry.target.numel() <= chunk:
            return self._attend(features, queries, keys, geometry, kernels)
        parts = [
            checkpoint(self._attend, features, rows, keys, part, kernels, use_reentrant=False)
            for rows, part in _parts(queries, geometry, chunk)
        ]
        return torch.cat(parts)

    def _attend(
        self, features: Tensor, queries: Tensor, keys: Tensor, geometry: Geometry, kernels: Kernels
    ) -> Tensor:
        """Return the sums for the targets of the queries, which the edges enter."""
        g, source, target = geometry, geometry.source, geometry.target
        functions = _functions(g, kernels, features.dtype)
        pairs = (queries.index_select(0, target) * keys.index_select(0, source)).sum(-1)
        logits = pairs / sqrt(queries.shape[-1]) + self.logit(functions).to(pairs.dtype)
        window = polynomial_window(g.offsets, g.radius)
        if g.mask is not None:
            window = window * g.mask.index_select(0, source)
        alpha = _weights(logits, window.to(logits.dtype), target, queries.shape[0])
        kernel = linear(functions, self.weight.to(functions.dtype)).to(features.dtype)
        values = (kernel * features.index_select(0, source)).unflatten(-1, (self.heads, -1))
        messages = (alpha.to(features.dtype).unsqueeze(-1) * values).flatten(-2)
        y = messages.new_zeros(queries.shape[0], *messages.shape[1:])
        return y.index_add(0, target, messages)


def make_spatial(
    channels: int, kernels: Kernels, attention: int, neighbours: float
) -> SpatialConv | SpatialAttention:
    """A convolution over positions, or attention in its place.

    Args:
        channels: number of channels.
        kernels: what the layers share.
        attention: number of heads; 0 for the convolution.
        neighbours: how many edges enter a node, about; for the convolution.
    """
    if attention:
        return SpatialAttention(channels, kernels, attention)
    return SpatialConv(channels, kernels, neighbours)


def _functions(geometry: Geometry, kernels: Kernels, dtype: torch.dtype) -> Tensor:
    """Return the basis on all edges, in float32 at least."""
    g, exact = geometry, torch.promote_types(dtype, torch.float32)
    axes = g.axes.index_select(0, g.frame) if g.frame.numel() else g.axes[:1]
    return kernels.spatial.functions(*(part.to(exact) for part in (g.offsets, axes, g.scalars)))


def _weights(logits: Tensor, window: Tensor, target: Tensor, count: int) -> Tensor:
    """Return the weights of edges among those of their target and the neighbour that is silent."""
    index = target[:, None, None].expand_as(logits)
    largest = logits.new_zeros(count, *logits.shape[1:])
    # The shift cancels, and so does its derivative.
    largest = largest.scatter_reduce(0, index, logits.detach(), "amax", include_self=True)
    parts = window[:, None, None] * (logits - largest.index_select(0, target)).exp()
    total = (-largest).exp().index_add(0, target, parts)
    return parts / total.index_select(0, target)


def _parts(queries: Tensor, geometry: Geometry, chunk: int) -> Iterator[tuple[Tensor, Geometry]]:
    """Yield targets and their edges, of about ``chunk`` edges or those of one target."""
    starts, nodes = geometry.starts.tolist(), queries.shape[0]
    first = 0
    while first < nodes:
        last = max(bisect_right(starts, starts[first] + chunk) - 1, first + 1)
        edges = slice(starts[first], starts[last])
        yield (
            queries[first:last],
            geometry._replace(
                offsets=geometry.offsets[edges],
                scalars=geometry.scalars[edges],
                source=geometry.source[edges],
                target=geometry.target[edges] - first,
                frame=geometry.frame[edges],
            ),
        )
        first = last
