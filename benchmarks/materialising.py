"""A position-orientation network with a tensor for each edge, orientation and channel in memory."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import gelu

from eqlib.position_orientation import PositionOrientationNet
from eqlib.position_orientation.convolution.kernel_network import polynomials
from eqlib.position_orientation.net import Prediction


class MaterialisingNet(PositionOrientationNet):
    r"""The function and the weights of :class:`PositionOrientationNet`, as it is commonly written.

    The basis [edges, orientations, basis] is computed once for all layers, and every layer makes of
    it its kernels [edges, orientations, channels] and their products with the features of the
    sources, which are summed into the targets. Plain operations of torch on whole tensors, and no
    copy that these do not need. For the plain grid of R3xS2 under E(3), edges that are given, and
    outputs of the nodes.

    Source:
        Bekkers et al., Fast, Expressive SE(n) Equivariant Networks through Weight-Sharing in
        Position-Orientation Space, ICLR 2024, whose order of operations and tensors these are.
    """

    def forward(
        self,
        points: Float[Tensor, "nodes n"],
        scalars: Float[Tensor, "nodes scalars"] | None = None,
        vectors: Float[Tensor, "nodes vectors n"] | None = None,
        edge_index: Int[Tensor, "2 edges"] | None = None,
        edge_scalars: Float[Tensor, "edges edge_scalars"] | None = None,
        batch: Tensor | None = None,
        num_graphs: int | None = None,
    ) -> Prediction:
        """Scalars and vectors of each node, and gaps of zero.

        Args:
            points: as for :class:`PositionOrientationNet`, as are all others.
            scalars: needed here.
            vectors: needed here.
            edge_index: needed here.
            edge_scalars: needed here.
            batch: graph of each node.
            num_graphs: number of graphs.

        Raises:
            ValueError: an input is missing.
        """
        if scalars is None or vectors is None or edge_index is None or edge_scalars is None:
            raise ValueError("inputs: expected scalars, vectors, edge_index and edge_scalars")
        grid = self.kernels.grid.orientations.to(points.dtype)
        weights = self.kernels.grid.weights.to(points.dtype)
        loops = torch.arange(len(points), device=points.device)
        source, target = torch.cat([edge_index, loops.expand(2, -1)], 1)
        by_edge = torch.cat(
            [edge_scalars, edge_scalars.new_zeros(len(points), len(edge_scalars.T))]
        )
        basis = self._spatial_basis(
            points.index_select(0, source) - points.index_select(0, target), by_edge, grid
        )
        fibre_basis = self._fibre_basis(grid) * weights[:, None, None]
        lifted = [scalars[:, None].expand(-1, len(grid), -1), grid @ vectors.mT]
        x = self.embedding.linear(torch.cat(lifted, -1))
        total = x.new_zeros(())
        layers: Any = self.layers
        for layer, head in zip(layers, self.readout.heads, strict=True):
            kernel = basis @ layer.spatial.weight.mT
            y = torch.zeros_like(x).index_add_(0, target, kernel * x.index_select(0, source))
            mixing = fibre_basis @ layer.fibre.weight.mT
            z = torch.einsum("noc,opc->npc", y, mixing) + layer.fibre.bias
            mixed = layer.block.narrow(gelu(layer.block.widen(layer.block.norm(z))))
            x = x + (mixed if layer.block.scale is None else mixed * layer.block.scale)
            total = total + head(x)
        total = total / len(self.layers)
        new_scalars, along = total.split([self.counts.scalars_out, self.counts.vectors_out], -1)
        new_vectors = along.mT @ (3 * weights[:, None] * grid)
        gap = points.new_zeros(num_graphs or 1)
        return Prediction(weights @ new_scalars, new_vectors, gap)

    def _spatial_basis(
        self,
        offsets: Float[Tensor, "edges 3"],
        scalars: Float[Tensor, "edges edge_scalars"],
        grid: Float[Tensor, "grid 3"],
    ) -> Float[Tensor, "edges grid basis"]:
        """The functions that all spatial kernels are sums of."""
        kernels = self.kernels.spatial
        offsets = offsets / self.edges.length
        if self.edges.reach is not None:
            square = (offsets / self.edges.reach).square().sum(-1, keepdim=True)
            offsets = offsets / (1 + square).sqrt()
        along = offsets @ grid.mT
        across = (offsets[:, None] - along[..., None] * grid).square().sum(-1)
        soft = (across + kernels.softening**2).sqrt() - kernels.softening
        monomials = polynomials(torch.stack([along, soft], -1), kernels.degree)
        by_edge = scalars[:, None].expand(-1, len(grid), -1)
        hidden = gelu(kernels.hidden(torch.cat([monomials, by_edge], -1)))
        return gelu(kernels.basis(hidden))

    def _fibre_basis(self, grid: Float[Tensor, "grid 3"]) -> Float[Tensor, "grid others basis"]:
        """The functions that all kernels on pairs of orientations are sums of."""
        kernels = self.kernels.fibre
        assert kernels is not None
        cosines = grid @ grid.mT
        hidden = gelu(kernels.hidden(polynomials(cosines[..., None], kernels.degree)))
        return gelu(kernels.basis(hidden))
