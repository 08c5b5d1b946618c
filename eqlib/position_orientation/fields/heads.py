"""Read-outs of a network: scalars and vectors from the features of its layers."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.geometry import gather_nodes, safe_norm, segment_sum
from eqlib.position_orientation.edges.geometry import Geometry
from eqlib.position_orientation.fields.lift import lift_scalars, lift_vectors
from eqlib.position_orientation.fields.readout import dual_basis, read_scalars, read_vectors
from eqlib.position_orientation.grids import OrientationGrid

_FIRST_STEP = 0.1  # what a new read-out has of the usual size of weights that multiply offsets


class Counts(NamedTuple):
    """How many scalars and vectors each node has, and scalars each edge."""

    scalars_in: int
    vectors_in: int
    scalars_out: int
    vectors_out: int
    edge_scalars: int

    def on_edges(self, grid: OrientationGrid) -> int:
        """Number of scalars that kernels see, with the products of vectors of spaces of positions.

        Args:
            grid: orientations; it states the space.
        """
        return self.edge_scalars + (3 * self.vectors_in if grid.space.kind == "positions" else 0)


class Embedding(nn.Module):
    """Scalars and vectors of the nodes as functions on the grid, mixed to channels.

    Spaces of positions take the lengths of the vectors.

    Args:
        grid: orientations; it states the space.
        counts: of scalars and vectors that go in.
        channels: that come out.
    """

    def __init__(self, grid: OrientationGrid, counts: Counts, channels: int) -> None:
        super().__init__()
        self.space, self.counts = grid.space, counts
        self.frames = grid.space.kind == "frames"
        components = grid.space.dimension if self.frames else 1
        lifted = counts.scalars_in + components * counts.vectors_in
        self.linear = nn.Linear(max(lifted, 1), channels)

    def forward(
        self,
        scalars: Float[Tensor, "nodes scalars"],
        vectors: Float[Tensor, "nodes vectors n"],
        grid: OrientationGrid,
    ) -> Float[Tensor, "nodes grid channels"]:
        """The features.

        Args:
            scalars: of each node.
            vectors: of each node, in the axes of the grid.
            grid: orientations.
        """
        if self.space.kind == "positions":
            lifted = torch.cat([scalars, safe_norm(vectors)], -1).unsqueeze(1)
        else:
            orientations = grid.orientations.to(vectors.dtype)
            directed = lift_vectors(vectors, orientations, self.frames)
            lifted = torch.cat([lift_scalars(scalars, grid.size), directed], -1)
        if lifted.shape[-1] == 0:  # without inputs all nodes are alike
            lifted = lifted.new_ones(*lifted.shape[:-1], 1)
        features: Tensor = self.linear(lifted)
        return features


class Readout(nn.Module):
    """Scalars and vectors from the features of some layers, as the mean over these.

    Args:
        grid: orientations; it states the space.
        counts: of scalars and vectors.
        channels: of the features.
        layers: how many layers are read.
        hidden: width of the messages that make vectors of offsets.
    """

    def __init__(
        self, grid: OrientationGrid, counts: Counts, channels: int, layers: int, hidden: int
    ) -> None:
        super().__init__()
        self.counts = counts
        self.frames, positions = grid.space.kind == "frames", grid.space.kind == "positions"
        components = grid.space.dimension if self.frames else 1
        directed = 0 if positions else components * counts.vectors_out
        self.width = counts.scalars_out + directed
        # A layer without outputs could not be initialised.
        heads = layers if self.width else 0
        self.heads = nn.ModuleList(nn.Linear(channels, self.width) for _ in range(heads))
        offsets = positions and counts.vectors_out > 0
        self.offsets = OffsetReadout(channels, counts, hidden) if offsets else None

    def forward(
        self,
        total: Float[Tensor, "nodes grid outputs"],
        features: Float[Tensor, "nodes grid channels"],
        vectors: Float[Tensor, "nodes vectors_in n"],
        geometry: Geometry,
        grid: OrientationGrid,
    ) -> tuple[Float[Tensor, "nodes scalars"], Float[Tensor, "nodes vectors n"]]:
        """The scalars and vectors.

        Args:
            total: sum of what the heads made of the features of the layers.
            features: of the last layer.
            vectors: that went in.
            geometry: the edges.
            grid: orientations.
        """
        weights = grid.weights
        scalars, directed = total.split(
            [self.counts.scalars_out, total.shape[-1] - self.counts.scalars_out], -1
        )
        if self.offsets is not None:
            found = self.offsets(features.squeeze(1), vectors, geometry)
        elif self.counts.vectors_out == 0:
            found = vectors[:, :0]
        elif self.frames:
            found = read_vectors(directed, grid.orientations, weights, frames=True)
        else:
            found = directed.mT @ _dual(grid).to(directed.dtype)
        return read_scalars(scalars, weights), found


class OffsetReadout(nn.Module):
    r"""Vectors as sums of offsets and of given vectors, with learned scalars as coefficients.

    .. math:: u_i = \sum_j m(x_i, x_j, |r_{ij}|, e_{ij})\, r_{ij} + \sum_k a_k(x_i)\, v_{ik}

    Args:
        channels: of the features x.
        counts: of given vectors v and of vectors u, and of the scalars e of an edge.
        hidden: width of the network m, whose last weights start at a tenth of their usual size:
            the offsets of about twenty neighbours then add up to vectors of their own length.
    """

    def __init__(self, channels: int, counts: Counts, hidden: int) -> None:
        super().__init__()
        self.shape = (counts.vectors_out, counts.vectors_in)
        self.to_target = nn.Linear(channels, hidden)
        self.to_source = nn.Linear(channels, hidden, bias=False)
        self.to_edge = nn.Linear(
            1 + counts.edge_scalars + 3 * counts.vectors_in, hidden, bias=False
        )
        self.message = nn.Linear(hidden, counts.vectors_out, bias=False)
        mixed = counts.vectors_out * counts.vectors_in
        self.mix = nn.Linear(channels, mixed) if mixed else None
        with torch.no_grad():
            self.message.weight.mul_(_FIRST_STEP)

    def forward(
        self,
        features: Float[Tensor, "nodes channels"],
        vectors: Float[Tensor, "nodes vectors n"],
        geometry: Geometry,
    ) -> Float[Tensor, "nodes vectors_out n"]:
        """The vectors, in the units of rescaled offsets and of the given vectors.

        Args:
            features: of each node.
            vectors: those given.
            geometry: with one edge for each direction.
        """
        source, target, offsets = geometry.source, geometry.target, geometry.offsets
        hidden = gather_nodes(self.to_target(features), target)
        hidden = hidden + gather_nodes(self.to_source(features), source)
        hidden = hidden + self.to_edge(torch.cat([_soft_length(offsets), geometry.scalars], -1))
        message = self.message(nn.functional.gelu(hidden))
        nodes = features.shape[0]
        moved = segment_sum(message.unsqueeze(-1) * offsets.unsqueeze(1), target, nodes)
        if self.mix is None:
            return moved
        return moved + self.mix(features).unflatten(-1, self.shape) @ vectors


def vector_products(
    vectors: Float[Tensor, "nodes vectors n"], geometry: Geometry
) -> Float[Tensor, "edges products"]:
    """Invariants of the vectors at both ends of each edge and its offset: their products.

    Args:
        vectors: of each node.
        geometry: with one edge for each direction.
    """
    ends = [gather_nodes(vectors, index) for index in (geometry.source, geometry.target)]
    products = [(end * geometry.offsets.unsqueeze(1)).sum(-1) for end in ends]
    return torch.cat([*products, (ends[0] * ends[1]).sum(-1)], -1)


def _soft_length(offsets: Float[Tensor, "edges n"]) -> Float[Tensor, "edges 1"]:
    """Lengths, smooth at zero."""
    square = offsets.square().sum(-1, keepdim=True)
    return square / ((square + 0.01).sqrt() + 0.1)


def _dual(grid: OrientationGrid) -> Float[Tensor, "grid n"]:
    """What reads vectors from the grid."""
    if grid.strength >= 2:
        weights = grid.space.dimension * grid.weights
        return weights[:, None] * grid.orientations
    return dual_basis(grid.orientations, grid.weights)
