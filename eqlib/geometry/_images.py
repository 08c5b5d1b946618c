"""The periodic images of nodes that can neighbour others."""

from dataclasses import dataclass

import torch
from torch import Tensor

from eqlib.geometry._cloud import Cloud

# Room for rounding, relative, in bounds that only preselect pairs.
SLACK = 1e-6


@dataclass(frozen=True)
class Sources:
    """Every copy of a node that can neighbour another, ordered by node, then lattice translation.

    Without a cell these are the nodes themselves.
    """

    here: Tensor  # (nodes, d) positions of the targets
    there: Tensor  # (images, d) positions of the copies
    node: Tensor  # (images,) which node each copies
    graph: Tensor  # (images,) sorted
    own: Tensor  # (nodes,) the copy of each node that is the node itself
    shift: Tensor | None = None  # (images, d) lattice translation from points[node] to the copy
    wrap: Tensor | None = None  # (nodes, d) lattice translation from here to points

    def offsets(self, target: Tensor, image: Tensor) -> Tensor | None:
        """Lattice translation of each image as seen from each target's own position."""
        if self.shift is None or self.wrap is None:
            return None
        return self.shift[image] + self.wrap[target]


def displacements(
    points: Tensor, source: Tensor, target: Tensor, offsets: Tensor | None, cell: Tensor | None
) -> Tensor:
    """Vectors from targets to sources; ``cell`` is one lattice, or one per edge."""
    vectors = points.index_select(0, source) - points.index_select(0, target)
    if offsets is None or cell is None:
        return vectors
    # Added last, so that the two directions of an edge are exact opposites.
    return vectors + (offsets.to(points.dtype)[:, :, None] * cell).sum(1)


def sources(cloud: Cloud, radius: Tensor) -> Sources:
    """Collect what can lie within the radius of a graph: its nodes, or their images in a lattice.

    Nodes are first wrapped into their cell. The images are those whose fractional coordinates
    leave it by no more than the radius, measured in heights of the cell.
    """
    if cloud.cell is None or cloud.pbc is None:
        nodes = torch.arange(len(cloud.points), device=cloud.points.device)
        return Sources(cloud.points, cloud.points, nodes, cloud.graph, nodes)
    cell = cloud.cell.double()
    inverse = torch.linalg.inv(cell)
    heights = 1 / torch.linalg.vector_norm(inverse, dim=1)
    margin = (radius[:, None] / heights * (1 + SLACK) + SLACK)[cloud.graph]
    fraction = torch.einsum("nd,ndk->nk", cloud.points.double(), inverse[cloud.graph])
    repeats = cloud.pbc[cloud.graph]
    wrap = torch.where(repeats, fraction.floor(), 0.0)
    fraction = fraction - wrap
    first = torch.where(repeats, (-margin - fraction).ceil(), 0.0).long()
    last = torch.where(repeats, (1 + margin - fraction).floor(), 0.0).long()
    node, shift = _lattice_box(first, last)
    here = torch.einsum("nd,ndk->nk", fraction, cell[cloud.graph])
    graph = cloud.graph[node]
    there = here[node] + torch.einsum("nd,ndk->nk", shift.double(), cell[graph])
    own = (shift == 0).all(1).nonzero().squeeze(1)
    wrap = wrap.long()
    return Sources(here, there, node, graph, own, shift - wrap[node], wrap)


def _lattice_box(first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """List the integer vectors from ``first`` to ``last`` (inclusive) of each row, in order.

    Returns:
        The row of each vector, and the vectors.
    """
    row = torch.arange(len(first), device=first.device)
    columns: list[Tensor] = []
    for low, high in zip(first.unbind(1), last.unbind(1), strict=True):
        count = (high - low + 1)[row]
        parent = torch.repeat_interleave(torch.arange(len(row), device=row.device), count)
        rank = torch.arange(len(parent), device=row.device) - (count.cumsum(0) - count)[parent]
        row = row[parent]
        columns = [*(column[parent] for column in columns), low[row] + rank]
    return row, torch.stack(columns, dim=1)
