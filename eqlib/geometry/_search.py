"""Search for pairs of near points: candidates from graphs or from a cell list, in chunks."""

import functools
import itertools
import math
import operator
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from eqlib.geometry._cloud import Cloud
from eqlib.geometry._images import SLACK, Sources, displacements, sources
from eqlib.geometry.segments import segment_max

Method = Literal["auto", "dense", "cells"]

_BINNED_AXES = 3
_CELLS_FROM = 150  # nodes per graph, see `python benchmarks/run.py radius_graph`


class Edges(NamedTuple):
    """Edges sorted by target."""

    target: Tensor
    source: Tensor
    offsets: Tensor | None

    def select(self, which: Tensor) -> "Edges":
        """Keep some edges."""
        offsets = None if self.offsets is None else self.offsets[which]
        return Edges(self.target[which], self.source[which], offsets)

    @staticmethod
    def concatenate(parts: Sequence["Edges"]) -> "Edges":
        """Join lists of edges of one search."""
        target, source, offsets = zip(*parts, strict=True)
        return Edges(
            torch.cat(target),
            torch.cat(source),
            None if offsets[0] is None else torch.cat(offsets),
        )


class _Bins(NamedTuple):
    """The ranges of sources that can neighbour the targets of each bin."""

    order: Tensor | None  # (sources,) source at each place; None where that is the place
    home: Tensor  # (targets,) bin of each target
    starts: Tensor  # (bins, ranges) first place
    lengths: Tensor  # (bins, ranges) number of places


class _Pairs(NamedTuple):
    target: Tensor
    image: Tensor
    squared: Tensor

    def select(self, which: Tensor) -> "_Pairs":
        return _Pairs(*(column.index_select(0, which) for column in self))


class _Table(NamedTuple):
    """The squared distances of each target in a row, filled up with infinity."""

    squared: Tensor  # (targets that have pairs, most pairs)
    row: Tensor  # (pairs,)
    first: Tensor  # (targets,) first pair of each
    number: Tensor  # (targets,) of pairs


def neighbours_within(
    cloud: Cloud,
    targets: Tensor,
    radius: Tensor,
    loop: bool,
    limit: int | None,
    method: Method,
    chunk: int,
) -> Edges:
    """Find the nodes (or images) within ``radius`` of each target.

    Args:
        cloud: where to search.
        targets: ascending nodes.
        radius: largest distance in each graph; infinite only without a cell.
        loop: whether a node neighbours itself.
        limit: how many of the nearest to keep, all by default.
        method: where candidates come from.
        chunk: how many candidate pairs to hold at once.

    Returns:
        Edges, sorted by target, then by distance where ``limit`` is given, then source and offset.
    """
    around = sources(cloud, radius)
    bins = _bins(cloud, around, radius, method)
    found = []
    for pairs in _near_pairs(cloud, around, bins, targets, radius, loop, chunk):
        if limit is not None:
            pairs = _prune(pairs, limit)
        if bins.order is not None:
            pairs = pairs.select((pairs.target * len(around.node) + pairs.image).argsort())
        found.append(pairs if limit is None else _nearest(pairs, limit))
    pairs = _Pairs(*(torch.cat(column) for column in zip(*found, strict=True)))
    offsets = around.offsets(pairs.target, pairs.image)
    return Edges(pairs.target, around.node[pairs.image], offsets)


def prefers_cells(pairs: int, nodes: int) -> bool:
    """Whether sorting nodes into cells pays, given how many pairs there are in all."""
    return pairs > _CELLS_FROM * nodes


def _bins(cloud: Cloud, around: Sources, radius: Tensor, method: Method) -> _Bins:
    sizes = torch.bincount(around.graph, minlength=cloud.num_graphs)
    if method == "auto":
        pairs = int((sizes * cloud.sizes()).sum())
        method = "cells" if prefers_cells(pairs, len(around.here)) else "dense"
    if method == "cells" and len(around.there) > 0:
        return _cell_bins(cloud, around, radius)
    return _Bins(None, cloud.graph, (sizes.cumsum(0) - sizes)[:, None], sizes[:, None])


def _cell_bins(cloud: Cloud, around: Sources, radius: Tensor) -> _Bins:
    """Sort sources into cubes a radius wide; those of 3 cubes in a row are consecutive."""
    axes = min(around.there.shape[1], _BINNED_AXES)
    here, there = (x[:, :axes].double() for x in (around.here, around.there))
    lowest = -segment_max(-there, around.graph, cloud.num_graphs)
    extent = segment_max(there, around.graph, cloud.num_graphs) - lowest
    # Cubes are wider where their numbers would lose precision or not fit into 63 bits.
    most = min(2.0**20, (2**62 / cloud.num_graphs) ** (1 / axes) - 4)
    width = torch.maximum(extent / most, radius.double()[:, None] * (1 + SLACK))
    width = torch.where(width > 0, width, 1.0)
    # One empty cube on each side keeps the neighbours of a row out of the next row.
    shape = [int(size) + 3 for size in (extent / width).amax(0)]
    strides = [math.prod(shape[axis + 1 :]) for axis in range(axes)]

    def cubes(positions: Tensor, graph: Tensor) -> Tensor:
        place = ((positions - lowest[graph]) / width[graph]).floor().long() + 1
        return graph * math.prod(shape) + (place * place.new_tensor(strides)).sum(1)

    keys, order = cubes(there, around.graph).sort()
    occupied = keys.unique_consecutive()
    steps = itertools.product((-1, 0, 1), repeat=axes - 1)
    jumps = [sum(map(operator.mul, step, strides)) for step in steps]
    middle = occupied[:, None] + occupied.new_tensor(jumps)
    first = torch.searchsorted(keys, middle - 1)
    count = torch.searchsorted(keys, middle + 1, right=True) - first
    home = torch.searchsorted(occupied, cubes(here, cloud.graph))
    return _Bins(order, home, first, count)


def _near_pairs(
    cloud: Cloud,
    around: Sources,
    bins: _Bins,
    targets: Tensor,
    radius: Tensor,
    loop: bool,
    chunk: int,
) -> Iterator[_Pairs]:
    """Yield the pairs within the radius, sorted by target."""
    there, own = around.there, around.own
    if bins.order is not None:
        there = there[bins.order]
        own = bins.order.argsort()[own]
    here_axes, there_axes = around.here.T.contiguous(), there.T.contiguous()
    bound = _preselection(cloud, radius).square()
    for some in _chunks(bins, targets, chunk):
        row, place = _candidates(bins, some)
        target = some.repeat_interleave(bins.starts.shape[1])
        squared = _sum_of_squares(
            t.index_select(0, place) - h.index_select(0, target).index_select(0, row)
            for h, t in zip(here_axes, there_axes, strict=True)
        )
        near = squared <= bound[cloud.graph[target]].index_select(0, row)
        if not loop:
            near &= place != own[target].index_select(0, row)
        kept = near.nonzero().squeeze(1)
        place = place.index_select(0, kept)
        image = place if bins.order is None else bins.order.index_select(0, place)
        target = target.index_select(0, row.index_select(0, kept))
        yield _exact(cloud, around, _Pairs(target, image, squared.index_select(0, kept)), radius)


def _preselection(cloud: Cloud, radius: Tensor) -> Tensor:
    """Widen the radius by what wrapping nodes into their cell may have rounded."""
    if cloud.cell is None:
        return radius
    reach = segment_max(cloud.points.abs().amax(1), cloud.graph, cloud.num_graphs)
    extent = torch.maximum(reach, cloud.cell.abs().amax((1, 2))) + radius
    slack = 64 * torch.finfo(cloud.points.dtype).eps * extent
    return (radius * (1 + SLACK) + slack).double()


def _exact(cloud: Cloud, around: Sources, pairs: _Pairs, radius: Tensor) -> _Pairs:
    """Remove the pairs of a lattice whose displacement, in the dtype of points, is too long."""
    offsets = around.offsets(pairs.target, pairs.image)
    if offsets is None or cloud.cell is None:
        return pairs
    graph, source = cloud.graph[pairs.target], around.node[pairs.image]
    vectors = displacements(cloud.points, source, pairs.target, offsets, cloud.cell[graph])
    pairs = pairs._replace(squared=_sum_of_squares(vectors.unbind(1)))
    return pairs.select((pairs.squared <= radius.square()[graph]).nonzero().squeeze(1))


def _chunks(bins: _Bins, targets: Tensor, budget: int) -> Iterator[Tensor]:
    """Split targets so that (targets of a chunk) x (most candidates of one) is within budget."""
    counts = bins.lengths.sum(1)[bins.home[targets]].cpu()
    start = 0
    while start < len(counts):
        window = counts[start : start + budget // max(int(counts[start]), 1) + 1]
        cost = window.cummax(0).values * torch.arange(1, len(window) + 1)
        stop = start + max(int(torch.searchsorted(cost, budget, right=True)), 1)
        yield targets[start:stop]
        start = stop
    if len(counts) == 0:
        yield targets


def _candidates(bins: _Bins, targets: Tensor) -> tuple[Tensor, Tensor]:
    """List the candidate pairs: their row among (targets x ranges), and their place."""
    home = bins.home[targets]
    start, length = bins.starts[home].flatten(), bins.lengths[home].flatten()
    row = torch.repeat_interleave(length)
    shift = start - (length.cumsum(0) - length)
    return row, shift.index_select(0, row) + torch.arange(len(row), device=row.device)


def _prune(pairs: _Pairs, limit: int) -> _Pairs:
    """Drop the pairs that are farther than the nearest ``limit`` of their target."""
    table = _table(pairs)
    columns = min(max(limit, 1), table.squared.shape[1])
    farthest = table.squared.topk(columns, largest=False).values[:, -1]
    near = pairs.squared <= farthest.index_select(0, table.row)
    return pairs.select(near.nonzero().squeeze(1))


def _nearest(pairs: _Pairs, limit: int) -> _Pairs:
    """Keep the nearest of each target in order of distance, ties as they come."""
    table = _table(pairs)
    ranked = table.squared.argsort(dim=1, stable=True)[:, :limit]
    order = table.first[:, None] + ranked
    return pairs.select(order[ranked < table.number[:, None]])


def _table(pairs: _Pairs) -> _Table:
    _, row, count = pairs.target.unique_consecutive(return_inverse=True, return_counts=True)
    start = count.cumsum(0) - count
    width = int(count.max()) if len(count) > 0 else 1
    place = row * width + torch.arange(len(row), device=row.device) - start[row]
    squared = pairs.squared.new_full((len(count) * width,), torch.inf)
    squared = squared.scatter_(0, place, pairs.squared).view(len(count), width)
    return _Table(squared, row, start, count)


def _sum_of_squares(components: Iterator[Tensor] | tuple[Tensor, ...]) -> Tensor:
    # Elementwise, one component after the other: both directions of an edge round alike.
    return functools.reduce(torch.add, (component.square() for component in components))
