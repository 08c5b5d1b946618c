"""Classes of nodes that a sorting of a graph cannot tell apart."""

from collections import defaultdict
from collections.abc import Iterator
from math import factorial, log, prod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from eqlib.frames.permutations.input import (
    Graphs,
    check_batch,
    existing_rows,
    read_columns,
    read_graphs,
    require_tolerance,
)
from eqlib.frames.permutations.ranks import Links, gap_ranks, merge_ranks, refine, spectral_keys
from eqlib.geometry import segment_sum

_ENTRIES = 2**22  # of the adjacency matrices that are decomposed at once


class NodeClasses(NamedTuple):
    """Classes of the nodes of each graph of a batch; sorted by class, tied nodes in any order.

    ``classes`` numbers the classes of a graph from 0 in the order of their keys; -1 marks nodes of
    a dense batch that its mask excludes. ``batch`` is the graph of each node in the flattened
    batch. ``margin`` tells how safe the decisions of the tolerance are: it is the smallest distance
    of a difference of keys from the tolerance, relative to it and at most 1.
    """

    classes: Int[Tensor, "rows"]
    batch: Int[Tensor, "rows"]
    margin: Float[Tensor, "graphs"]

    @property
    def size(self) -> tuple[int, ...]:
        """Number of sorting permutations of each graph, the product of class sizes factorial."""
        found: dict[int, list[int]] = defaultdict(list)
        graph, counts = self._counts()
        for index, count in zip(graph.tolist(), counts.tolist(), strict=True):
            found[index].append(count)
        return tuple(prod(map(factorial, found[index])) for index in range(len(self.margin)))

    @property
    def log10_size(self) -> Float[Tensor, "graphs"]:
        """Decimal logarithm of ``size``."""
        graph, counts = self._counts()
        return segment_sum((counts + 1.0).double().lgamma() / log(10), graph, len(self.margin))

    def _counts(self) -> tuple[Tensor, Tensor]:
        """Graph and number of nodes of each class."""
        nodes = self.classes >= 0
        width = len(self.classes) + 1
        keys, counts = (self.batch * width + self.classes)[nodes].unique(return_counts=True)
        return keys // width, counts


def node_classes(
    graph: Shaped[Tensor, "*batch rows columns"],
    features: Shaped[Tensor, "..."] | None = None,
    mask: Bool[Tensor, "*batch rows"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    edge_weight: Shaped[Tensor, "edges"] | None = None,
    normalised: bool = False,
    refine: bool = True,
    tolerance: float = 1e-4,
) -> NodeClasses:
    """Classes of nodes with the same keys; :func:`permutation_frames` explains the arguments.

    They depend on the graphs alone: compute them once for a data set, and draw orders from them in
    every step with :func:`sample_orders`.

    Raises:
        ValueError: as in :func:`permutation_frames`.
        TypeError: as in :func:`permutation_frames`.
    """
    return linked_classes(
        graph,
        features,
        mask,
        batch,
        num_graphs,
        edge_weight=edge_weight,
        normalised=normalised,
        refined=refine,
        tolerance=tolerance,
    )[0]


def linked_classes(
    graph: Tensor,
    features: Tensor | None,
    mask: Tensor | None,
    batch: Tensor | None,
    num_graphs: int | None,
    *,
    edge_weight: Tensor | None,
    normalised: bool,
    refined: bool,
    tolerance: float,
) -> tuple[NodeClasses, Links]:
    """Classes of nodes, and the pairs of nodes that an edge joins, classed by their weights."""
    require_tolerance(tolerance)
    rows, nodes, graphs = read_graphs(graph, mask, batch, num_graphs, edge_weight)
    if normalised and bool((graphs.weight < 0).any()):
        raise ValueError("normalised: degrees of negative weights have no root; set it to False")
    columns = read_columns(features, nodes, rows)
    classes, links, margin = _classes(graphs, columns, normalised, tolerance)
    if refined:
        classes = refine(classes, graphs.batch, links)
    if rows is not None:
        links = Links(rows[links.source], rows[links.target], links.label)
    return _all_rows(classes, graphs.batch, margin, rows, nodes), links


@torch.no_grad()
def row_classes(
    rows: Float[Tensor, "*rows coordinates"],
    features: Shaped[Tensor, "..."] | None = None,
    mask: Bool[Tensor, "*rows"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    tolerance: float = 1e-4,
) -> NodeClasses:
    """Classes of the points of clouds, sorted by features, then coordinate by coordinate.

    Args:
        rows: coordinates in one unit, dense (*batch, nodes, coordinates) or with ``batch`` ragged.
            Coordinates are equal where they differ by less than ``tolerance`` times the largest
            magnitude in the cloud. A cloud with one that is not finite keeps its order.
        features: (*batch, nodes[, channels]) or (nodes[, channels]), compared before coordinates.
        mask: True for the points of a dense batch that exist.
        batch: cloud of each point of a ragged batch, sorted.
        num_graphs: number of clouds of a ragged batch; by default up to the last one with a point.
        tolerance: see ``rows``.

    Raises:
        ValueError: as in :func:`permutation_frames`.
        TypeError: as in :func:`permutation_frames`.
    """
    require_tolerance(tolerance)
    if rows.ndim < 2 or not rows.shape[-1] or not rows.is_floating_point():
        raise ValueError(
            "rows: expected floating-point coordinates (*batch, nodes, coordinates), "
            f"got {rows.dtype} of shape {tuple(rows.shape)}"
        )
    if batch is None:
        existing, batch_of_rows, graphs = existing_rows(rows, mask, num_graphs)
    else:
        existing, batch_of_rows = None, batch
        graphs = check_batch(batch, mask, num_graphs)
    nodes = tuple(rows.shape[:-1])
    if batch is not None and nodes != tuple(batch.shape):
        raise ValueError(f"rows: expected ({len(batch)}, coordinates), got {tuple(rows.shape)}")
    columns = read_columns(features, nodes, existing)
    coordinates = rows.flatten(0, -2)
    coordinates = coordinates if existing is None else coordinates[existing]
    classes = torch.zeros_like(batch_of_rows)
    margin = classes.new_ones(graphs, dtype=torch.float64)
    for index, places in _rows_by_size(batch_of_rows, graphs):
        cloud = coordinates[places].double()
        finite = cloud.isfinite().all(-1).all(-1)
        cloud = torch.where(finite[:, None, None], cloud, 0.0)
        scale = tolerance * cloud.abs().flatten(1).amax(1)
        parts = _feature_ranks(columns, places, tolerance)
        parts.append(gap_ranks(cloud, scale[:, None].expand_as(cloud[:, 0])))
        colour = merge_ranks(torch.cat([ranks for ranks, _ in parts], -1))
        slots = torch.arange(colour.shape[1], device=colour.device)
        classes[places] = torch.where(finite[:, None], colour, slots)
        margin[index] = torch.stack([part for _, part in parts]).amin(0)
    return _all_rows(classes, batch_of_rows, margin, existing, nodes)


@torch.no_grad()
def _classes(
    graphs: Graphs, features: Tensor | None, normalised: bool, tolerance: float
) -> tuple[Tensor, Links, Tensor]:
    """Classes by keys alone, links, and margins."""
    classes = torch.zeros_like(graphs.batch)
    margin = classes.new_ones(graphs.num_graphs, dtype=torch.float64)
    links = [Links(*3 * [classes.new_zeros(0)])]
    for index, rows in _rows_by_size(graphs.batch, graphs.num_graphs):
        adjacency = _adjacency(graphs, index, rows)
        keys, safe = spectral_keys(adjacency, normalised, tolerance)
        scale = tolerance * adjacency.abs().flatten(1).amax(1)[:, None]
        parts = _feature_ranks(features, rows, tolerance)
        parts.append(gap_ranks(adjacency.diagonal(dim1=1, dim2=2)[..., None], scale))
        parts.append(gap_ranks(keys, torch.full_like(keys[:, 0], tolerance)))
        classes[rows] = merge_ranks(torch.cat([ranks for ranks, _ in parts], -1))
        labels, entries = gap_ranks(adjacency.flatten(1)[..., None], scale)
        links.append(_links(adjacency, labels.view_as(adjacency), rows))
        margin[index] = torch.stack([safe, entries, *(part for _, part in parts)]).amin(0)
    return classes, Links(*map(torch.cat, zip(*links, strict=True))), margin


def _links(adjacency: Tensor, labels: Tensor, rows: Tensor) -> Links:
    """Pairs of nodes with a weight in one direction or both, with the labels of both."""
    nothing = torch.where(adjacency == 0, labels, -1).flatten(1).amax(1)[:, None, None]
    joined = (labels != nothing) | (labels.mT != nothing)
    graph, source, target = joined.nonzero(as_tuple=True)
    both = labels * adjacency.shape[1] ** 2 + labels.mT
    return Links(rows[graph, source], rows[graph, target], both[graph, source, target])


def _feature_ranks(
    features: Tensor | None, rows: Tensor, tolerance: float
) -> list[tuple[Tensor, Tensor]]:
    if features is None:
        return []
    column = features[rows].double()
    limit = tolerance * column.abs().amax(1)
    return [gap_ranks(column, limit * features.is_floating_point())]


def _rows_by_size(batch: Tensor, num_graphs: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Graphs of one size at a time: their indices and rows (graphs, n)."""
    sizes = torch.bincount(batch, minlength=num_graphs)
    start = sizes.cumsum(0) - sizes
    for size in sizes.unique().tolist():
        if size == 0:
            continue
        for index in (sizes == size).nonzero()[:, 0].split(max(_ENTRIES // size**2, 1)):
            yield index, start[index, None] + torch.arange(size, device=index.device)


def _adjacency(graphs: Graphs, index: Tensor, rows: Tensor) -> Tensor:
    """Adjacency matrices (graphs, n, n) of some graphs with these rows."""
    slot = torch.full((graphs.num_graphs,), -1, device=index.device)
    slot[index] = torch.arange(len(index), device=index.device)
    graph = slot[graphs.batch[graphs.source]]
    here = graph >= 0
    first = rows[graph[here], 0]
    places = graph[here], graphs.source[here] - first, graphs.target[here] - first
    adjacency = graphs.weight.new_zeros(len(index), rows.shape[1], rows.shape[1])
    return adjacency.index_put_(places, graphs.weight[here], accumulate=True)


def _all_rows(
    classes: Tensor,
    batch: Tensor,
    margin: Tensor,
    rows: Tensor | None,
    nodes: tuple[int, ...],
) -> NodeClasses:
    """Classes of all rows, -1 for those that do not exist."""
    if rows is None:
        return NodeClasses(classes, batch, margin)
    slots = torch.arange(prod(nodes), device=classes.device)
    every = torch.full_like(slots, -1).index_copy_(0, rows, classes)
    return NodeClasses(every, slots // max(nodes[-1], 1), margin)
