"""Folding permutation frames into the batch: one graph with F orders becomes F graphs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from eqlib.frames.permutations.frames import PermutationFrames
from eqlib.frames.spans import list_spans
from eqlib.symmetry import BatchIndex, EdgeIndex, Representation


@dataclass(frozen=True)
class PermutationFold:
    """A batch of graphs with the orders of their nodes; each order is one graph for the backbone.

    In a dense batch all node axes are reordered; in a ragged batch, as in a single graph with edges
    but no ``batch``, rows of nodes are reordered and edges relabelled. Tensors without a node axis
    are repeated: there is one row per graph or one per edge.

    Args:
        frames: those of each graph.
        shape: batch axes and number of nodes of a dense batch, None for a ragged one.
        batch: graph of each node.
        edge_index: source and target of each edge of a ragged batch.
        mask: True for the nodes of a dense batch that exist.
        invariant: the frames serve for outputs that belong to graphs only.
    """

    frames: PermutationFrames
    shape: tuple[int, ...] | None
    batch: Tensor
    edge_index: Tensor | None = None
    mask: Tensor | None = None
    invariant: bool = False

    def __post_init__(self) -> None:
        if self.shape is not None and self.edge_index is not None:
            raise ValueError(
                "edge_index: the nodes of a dense batch are reordered graph by graph, so that "
                "graphs share no edges; give a ragged batch, with batch and edge_index"
            )

    @property
    def copies(self) -> int:
        """Number of orders of all graphs."""
        return len(self.frames.graph)

    def clouds(self, part: slice) -> int:
        """Number of graphs that the backbone sees for these copies."""
        return len(range(*part.indices(self.copies)))

    def express(
        self, name: str, values: Tensor, kind: Representation, level: str | None, part: slice
    ) -> Tensor:
        """Copies of an input, one after the other, each with its nodes in their order."""
        graph = self.frames.graph[part]
        if self.shape is not None:
            return self._express_dense(name, values, kind, part, self.shape)
        if isinstance(kind, EdgeIndex):
            return self._relabelled(part, values)
        if isinstance(kind, BatchIndex):
            entries = self._entries(part)
            return (self.frames.frame[entries] - part.indices(self.copies)[0]).to(values.dtype)
        rows = {"node": len(self.batch), "edge": self._edges, "graph": len(self.frames.exact)}
        level = _level(name, values, kind, level, rows)
        if level == "node":
            return values[self.frames.order[self._entries(part)]]
        return values[graph if level == "graph" else self._edges_of(part)]

    def collect(
        self, name: str, values: Tensor, kind: Representation, level: str | None, part: slice
    ) -> Tensor:
        """Sum of an output over copies, each weighted and with its nodes back in their slots."""
        if not values.is_floating_point():
            raise TypeError(
                f"{name}: expected floating-point numbers to average, got {values.dtype}"
            )
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        graph, weights = self.frames.graph[part], self.frames.weights[part].to(values.dtype)
        if self.shape is not None:
            return self._collect_dense(name, values, kind, part, self.shape)
        entries, edges = self._entries(part), self._edges_of(part)
        rows = {"node": _length(entries), "edge": len(edges), "graph": len(graph)}
        level = _level(name, values, kind, level, rows)
        self._require_invariant(name, level)
        if level == "node":
            weights = weights[self.frames.frame[entries] - part.indices(self.copies)[0]]
            return _add(values, weights, self.frames.order[entries], len(self.batch))
        if level == "graph":
            return _add(values, weights, graph, len(self.frames.exact))
        return _add(values, weights.repeat_interleave(self._degree[graph]), edges, self._edges)

    def finish(self, name: str, total: Tensor, kind: Representation, level: str | None) -> Tensor:
        """The sum of all copies is the average."""
        return total

    def _express_dense(
        self,
        name: str,
        values: Tensor,
        kind: Representation,
        part: slice,
        shape: tuple[int, ...],
    ) -> Tensor:
        if tuple(values.shape[: len(shape) - 1]) != shape[:-1]:
            raise ValueError(
                f"{name}: expected the batch axes {shape[:-1]} first, "
                f"got shape {tuple(values.shape)}"
            )
        axes = _node_axes(name, values, kind, shape)
        flat = values.reshape(len(self.frames.exact), *values.shape[len(shape) - 1 :])
        if self.mask is not None and values.is_floating_point():
            exists = self.mask.reshape(len(flat), -1)
            for axis in axes:
                flat = torch.where(_along(exists, flat, axis), flat, 0.0)
        return _reordered(flat[self.frames.graph[part]], self._order(part, shape[-1]), axes)

    def _collect_dense(
        self,
        name: str,
        values: Tensor,
        kind: Representation,
        part: slice,
        shape: tuple[int, ...],
    ) -> Tensor:
        graph = self.frames.graph[part]
        if values.shape[:1] != graph.shape:
            raise ValueError(
                f"{name}: expected the batch of {len(graph)} graphs (one per order) first in what "
                f"the backbone returns, got shape {tuple(values.shape)}"
            )
        self._require_invariant(name, "node" if kind.node_axes else "graph")
        back = self._order(part, shape[-1]).argsort(dim=-1)
        values = _reordered(values, back, _node_axes(name, values, kind, (1, shape[-1])))
        weights = self.frames.weights[part].to(values.dtype)
        total = _add(values, weights, graph, len(self.frames.exact))
        return total.reshape(*shape[:-1], *values.shape[1:])

    def _require_invariant(self, name: str, level: str) -> None:
        if self.invariant and level != "graph":
            raise ValueError(
                f"{name}: invariant=True promised outputs of graphs, but this one has a row per "
                f"{level}; leave it out, so that all orders are averaged"
            )

    def _order(self, part: slice, nodes: int) -> Tensor:
        """Slot of the node that goes to each slot of dense copies."""
        order = self.frames.order.view(self.copies, nodes)[part]
        return order - nodes * self.frames.graph[part][:, None]

    @cached_property
    def _width(self) -> Tensor:
        """Number of entries of each frame."""
        return torch.bincount(self.frames.frame, minlength=self.copies)

    @cached_property
    def _ends(self) -> list[int]:
        return [0, *self._width.cumsum(0).tolist()]

    def _entries(self, part: slice) -> slice:
        start, stop, _ = part.indices(self.copies)
        return slice(self._ends[start], self._ends[max(start, stop)])

    @property
    def _edges(self) -> int:
        return 0 if self.edge_index is None else self.edge_index.shape[1]

    @cached_property
    def _degree(self) -> Tensor:
        """Number of edges of each graph."""
        if self.edge_index is None:
            return torch.zeros_like(self.frames.exact, dtype=torch.int64)
        return torch.bincount(self.batch[self.edge_index[0]], minlength=len(self.frames.exact))

    def _edges_of(self, part: slice) -> Tensor:
        """The edges of each copy, one copy after the other."""
        graph = self.frames.graph[part]
        if self.edge_index is None:
            return graph.new_zeros(0)
        by_graph = self.batch[self.edge_index[0]].argsort(stable=True)
        first = self._degree.cumsum(0) - self._degree
        return by_graph[list_spans(first[graph], self._degree[graph])[1]]

    @cached_property
    def _slots(self) -> Tensor:
        """Entry at which each node of each copy stands, nodes in their first order."""
        first = self._width.cumsum(0) - self._width
        places = torch.empty_like(self.frames.order)
        number = torch.arange(len(places), device=places.device)
        places[first[self.frames.frame] + self._local(self.frames.order)] = number
        return places

    def _local(self, nodes: Tensor) -> Tensor:
        """Number of a node in its graph."""
        counts = torch.bincount(self.batch, minlength=len(self.frames.exact))
        return nodes - (counts.cumsum(0) - counts)[self.batch[nodes]]

    def _relabelled(self, part: slice, edge_index: Tensor) -> Tensor:
        """Edges of all copies; nodes are numbered on from copy to copy."""
        edges = edge_index[:, self._edges_of(part)]
        first = (self._width.cumsum(0) - self._width)[part]
        start = first.repeat_interleave(self._degree[self.frames.graph[part]])
        return (self._slots[start + self._local(edges)] - self._entries(part).start).to(
            edge_index.dtype
        )


def _node_axes(
    name: str, values: Tensor, kind: Representation, shape: tuple[int, ...]
) -> list[int]:
    """Node axes of values with batch axes, as numbered once these are merged into one."""
    named = (-1,) if name == "mask" else kind.node_axes
    merged = len(shape) - 2  # -1 where a single graph gets a batch axis
    axes = [axis % values.ndim - merged for axis in named]
    for axis, own in zip(axes, named, strict=True):
        if axis < 1 or values.shape[axis + merged] != shape[-1]:
            raise ValueError(
                f"{name}: expected {shape[-1]} nodes along axis {own} behind the batch axes, "
                f"got shape {tuple(values.shape)}"
            )
    return axes


def _level(
    name: str, values: Tensor, kind: Representation, level: str | None, rows: Mapping[str, int]
) -> str:
    """What the rows of a tensor are; without a node axis they are told by their number."""
    if kind.node_axes:
        if [axis % max(values.ndim, 1) for axis in kind.node_axes] != [0]:
            raise ValueError(
                f"{name}: the nodes of a ragged batch are its rows, but {kind!r} names the axes "
                f"{kind.node_axes} of shape {tuple(values.shape)}"
            )
        fitting = ["node"]
    else:
        fitting = ["graph", "edge"] if level is None else [level]
    found = [each for each in fitting if values.ndim and len(values) == rows[each]]
    if len(found) == 1 or (found and not rows[found[0]]):
        return found[0]
    expected = " or ".join(f"{rows[each]} ({each})" for each in fitting)
    ambiguous = f"; say which, such as levels={{{name!r}: 'graph'}}" if found else ""
    raise ValueError(
        f"{name}: expected rows for {expected}, got shape {tuple(values.shape)}{ambiguous}"
    )


def _length(entries: slice) -> int:
    return entries.stop - entries.start


def _add(values: Tensor, weights: Tensor, index: Tensor, rows: int) -> Tensor:
    weighted = values * weights.reshape(-1, *(1 for _ in values.shape[1:]))
    return weighted.new_zeros(rows, *values.shape[1:]).index_add(0, index, weighted)


def _along(slots: Tensor, values: Tensor, axis: int) -> Tensor:
    """A (graphs, nodes) tensor, broadcast along a node axis."""
    shape = [len(slots), *(1 for _ in values.shape[1:])]
    shape[axis] = slots.shape[1]
    return slots.reshape(shape)


def _reordered(values: Tensor, order: Tensor, axes: list[int]) -> Tensor:
    for axis in axes:
        values = torch.take_along_dim(values, _along(order, values, axis), dim=axis)
    return values
