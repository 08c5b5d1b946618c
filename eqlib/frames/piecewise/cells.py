"""Cells: the members of the parts into which clouds are divided, in hard and soft partitions."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from eqlib.frames.constructions.moments import check_layout, count_graphs, positive
from eqlib.geometry import gather_nodes, segment_sum


class Cells(NamedTuple):
    """The members of all cells of a batch of clouds, sorted by cell.

    ``point`` is the row of each member among the points of all clouds, ``cell`` its cell: number
    ``cloud * per_cloud + label``. The ``weight`` of a member is one in a hard partition; those of
    a point sum to one. Points without a cell, such as those that a mask excludes, are not members.
    ``slot`` is the place of each point in the cell of each label, -1 where it is no member;
    ``shape`` is that of the batch of clouds.
    """

    point: Int[Tensor, "members"]
    cell: Int[Tensor, "members"]
    weight: Float[Tensor, "members"]
    slot: Int[Tensor, "points labels"]
    shape: torch.Size

    @property
    def per_cloud(self) -> int:
        """Number of cells of a cloud, the empty ones included."""
        return self.slot.shape[1]

    @property
    def total(self) -> int:
        """Number of cells of all clouds, the empty ones included."""
        return self.shape.numel() * self.per_cloud

    def members_of_edges(
        self, edge_index: Int[Tensor, "2 edges"]
    ) -> tuple[Int[Tensor, "2 inner"], Int[Tensor, "inner"]]:
        """The edges inside cells, from member to member, and the edge that each one was.

        Args:
            edge_index: source and target of each edge, rows of points.
        """
        ends = self.slot[edge_index]  # (2, edges, labels)
        edge, label = (ends >= 0).all(0).nonzero(as_tuple=True)
        return ends[:, edge, label], edge


def list_cells(
    cells: Shaped[Tensor, "*shape"],
    points: Float[Tensor, "*clouds d"],
    mask: Bool[Tensor, "*clouds"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    cut: float = 0.0,
) -> Cells:
    r"""List the members of all cells.

    Args:
        cells: a label of each point, counted from zero in every cloud, (*batch, points) or
            (nodes,); or the weight of each label at each point, with one axis more.
        points: clouds: a dense batch, or with ``batch`` a ragged one.
        mask: True where a point of a dense batch exists.
        batch: graph of each node of a ragged batch.
        num_graphs: number of graphs of a ragged batch.
        cut: weights become :math:`\max(w - c, 0)`, divided by their sum at the point, so that few
            remain; less than one over the number of labels.

    Returns:
        The members; weights keep their gradient.

    Raises:
        ValueError: shapes do not fit, a label or a weight is negative or NaN, or ``cut`` is out of
            range.
        TypeError: labels are neither int64 nor floating-point, or another tensor has the wrong
            dtype.
    """
    check_layout(points, mask, batch, num_graphs)
    rows = points.shape[:-1]
    hard = not cells.is_floating_point()
    _check(cells, rows, cut)
    if batch is None:
        shape = rows[:-1]
        cloud = torch.arange(rows.numel(), device=cells.device) // max(rows[-1], 1)
    else:
        shape = torch.Size([count_graphs(batch, num_graphs)])
        cloud = batch
    exists = None if mask is None else mask.flatten()
    weights = _one_hot(cells.flatten(), exists) if hard else cells.flatten(0, len(rows) - 1)
    weights = weights if exists is None else torch.where(exists[:, None], weights, 0)
    if not bool(((weights >= 0) & weights.isfinite()).all()):
        raise ValueError("cells: expected finite weights of at least zero")
    weights = (weights.to(points.dtype if hard else cells.dtype) - cut).clamp(min=0)
    weights = weights / positive(weights.sum(-1, keepdim=True))
    label, cell_of, order = _sorted_members(weights, cloud)
    slot = torch.full_like(weights, -1, dtype=torch.int64)
    slot[order, label] = torch.arange(len(order), device=order.device)
    return Cells(order, cell_of, weights[order, label], slot, shape)


def weighted_points(
    points: Float[Tensor, "members d"], cells: Cells, centred: bool
) -> tuple[Float[Tensor, "members d"], Float[Tensor, "cells d"]]:
    r"""Clouds whose moments about the origin are the weighted ones of the cells, and the origins.

    The rows are :math:`\sqrt{w_i}\,(x_i - t)` with the weighted centroid t of the cell.

    Args:
        points: positions of the members.
        cells: the members.
        centred: whether origins are the centroids, otherwise zero.
    """
    weight = cells.weight.double()[:, None]
    total = positive(segment_sum(weight, cells.cell, cells.total))
    origin = points.new_zeros(cells.total, points.shape[1], dtype=torch.float64)
    moved = points.double()
    for _ in range(2 * centred):  # twice, as the sum over many members, one by one, is rounded
        shift = segment_sum(weight * moved, cells.cell, cells.total) / total
        moved = moved - gather_nodes(shift, cells.cell)
        origin = origin + shift
    return weight.sqrt() * moved, origin


def _one_hot(labels: Tensor, exists: Tensor | None) -> Tensor:
    """The weight one of the label of each point."""
    labels = labels if exists is None else torch.where(exists, labels, 0)
    if labels.numel() and int(labels.min()) < 0:
        raise ValueError(f"cells: expected labels from 0 on, got {int(labels.min())}")
    count = int(labels.max()) + 1 if labels.numel() else 0
    return labels.new_zeros(len(labels), count).scatter(1, labels[:, None], 1)


def _sorted_members(weights: Tensor, cloud: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Label, cell and point of each member, by cell."""
    point, label = (weights.detach() > 0).nonzero(as_tuple=True)
    cell = cloud[point] * weights.shape[1] + label
    order = cell.argsort(stable=True)
    return label[order], cell[order], point[order]


def _check(cells: Tensor, rows: torch.Size, cut: float) -> None:
    soft = cells.is_floating_point()
    if not soft and cells.dtype != torch.int64:
        raise TypeError(
            f"cells: expected labels in int64 or floating-point weights, got {cells.dtype}"
        )
    if cells.shape[: len(rows)] != rows or cells.ndim != len(rows) + soft:
        expected = ", ".join(map(str, (*rows, *(["labels"] if soft else []))))
        raise ValueError(
            f"cells: expected shape ({expected}), one row per point, got {tuple(cells.shape)}"
        )
    largest = 1 / max(cells.shape[-1], 1) if soft else 1.0
    if not 0 <= cut < largest:
        raise ValueError(
            f"cut: expected a weight from 0 to below 1 / {cells.shape[-1] if soft else 1}, the "
            f"largest one that every point has, got {cut}"
        )
