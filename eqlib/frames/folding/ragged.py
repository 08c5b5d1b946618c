"""Folding where each cloud has a number of frames of its own."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eqlib.frames.folding.express import apply_matrices, component_of
from eqlib.frames.folding.fold import LEVELS, Layout
from eqlib.frames.folding.projection import project_on_axis
from eqlib.frames.spans import list_spans, sorted_spans
from eqlib.frames.types import RaggedFrames
from eqlib.geometry import gather_nodes, segment_sum
from eqlib.symmetry import BatchIndex, EdgeIndex, Point, Representation, Scalar
from eqlib.symmetry.representations import spread


@dataclass(frozen=True)
class RaggedFold:
    """A batch of clouds in which each stands once for each of its own frames; a copy is one cloud.

    A dense batch becomes (copies, nodes, ...). In a ragged batch the nodes, edges and graphs of
    the copies stand one after the other, with ``batch`` and ``edge_index`` numbered anew.

    Args:
        frames: those of all clouds.
        layout: what the rows of tensors are.
    """

    frames: RaggedFrames
    layout: Layout
    _listed: dict[tuple[str, int, int], tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """The rows of the last part that was asked for."""

    @property
    def copies(self) -> int:
        """Number of frames of all clouds."""
        return len(self.frames.cloud)

    def clouds(self, part: slice) -> int:
        """Number of clouds that the backbone sees in a part."""
        return part.stop - part.start

    def express(
        self, name: str, values: Tensor, kind: Representation, level: str | None, part: slice
    ) -> Tensor:
        """The copies of an input, each in its frame."""
        layout = self.layout
        if layout.is_shared(values, kind):
            return values
        cloud = self.frames.cloud[part]
        if layout.nodes is None:
            if not isinstance(kind, EdgeIndex | BatchIndex):
                layout.check_input(name, values, kind, level)
                values = layout.without_padding(values, kind, self.frames.centroid)
            copies = _flat(values, len(layout.clouds)).index_select(0, cloud)
            return self._moved_in(copies, kind, part, None)
        if isinstance(kind, EdgeIndex):
            return self._edges(values, part)
        if isinstance(kind, BatchIndex):
            return self._rows("node", part)[1]
        layout.check_input(name, values, kind, level)
        level = self._level(name, len(values), kind, level, self._row_counts)
        source, copy = self._rows(level, part)
        return self._moved_in(values.index_select(0, source), kind, part, copy)

    def collect(
        self, name: str, values: Tensor, kind: Representation, level: str | None, part: slice
    ) -> Tensor:
        """Weighted sum of an output over some copies, without the centroid."""
        if not values.is_floating_point():
            raise TypeError(f"{name}: expected floating-point numbers, got {values.dtype}")
        layout, copies = self.layout, part.stop - part.start
        if layout.nodes is None:
            if values.shape[:1] != (copies,):
                raise ValueError(
                    f"{name}: expected {copies} clouds, one per frame, first in what the backbone "
                    f"returns, got shape {tuple(values.shape)}"
                )
            moved = self._moved_out(values, kind, part, None)
            total = segment_sum(moved, self.frames.cloud[part], layout.clouds.numel())
            return total.reshape(*layout.clouds, *total.shape[1:])
        cloud = self.frames.cloud[part]
        counts = {known: int(self._spans[known][2][cloud].sum()) for known in LEVELS}
        level = self._level(name, _length(values), kind, level, counts)
        source, copy = self._rows(level, part)
        moved = self._moved_out(values, kind, part, copy)
        return segment_sum(moved, source, self._row_counts[level])

    def finish(self, name: str, total: Tensor, kind: Representation, level: str | None) -> Tensor:
        """The average: projected where a rotation is undetermined; points get their centroid."""
        frames, layout = self.frames, self.layout
        parts = [frames.centroid, frames.axis, frames.spread]
        if layout.nodes is not None and not kind.contains(Scalar):
            graph = layout.graph_of_rows(level)
            parts = [
                part if part is None or graph is None else gather_nodes(part, graph)
                for part in parts
            ]
        centroid, axis, extent = parts
        if axis is not None and extent is not None:
            component = component_of(kind, total, frames.frames.shape[-1])
            total = project_on_axis(total, component, axis, extent)
        if kind.contains(Point) and centroid is not None:
            total = total + spread(centroid, total, own_axes=1)
        return total

    @cached_property
    def _graph_of_nodes(self) -> Int[Tensor, "nodes"]:
        """Graph of each node; a single graph needs no index."""
        if self.layout.batch is not None:
            return self.layout.batch
        device = self.frames.cloud.device
        return torch.zeros(self.layout.nodes or 0, dtype=torch.int64, device=device)

    @cached_property
    def _row_counts(self) -> dict[str, int]:
        """Number of rows of a tensor of each level."""
        edges = self.layout.edge_index
        return {
            "node": self.layout.nodes or 0,
            "edge": 0 if edges is None else edges.shape[-1],
            "graph": self.layout.clouds.numel(),
        }

    @cached_property
    def _spans(self) -> dict[str, tuple[Tensor | None, Tensor, Tensor]]:
        """Rows sorted by graph (None if they are), and start and size of each graph's, by level."""
        graphs = self.layout.clouds.numel()
        nodes, edges = self._graph_of_nodes, self.layout.edge_index
        of_rows = {"node": nodes, "graph": torch.arange(graphs, device=nodes.device)}
        of_rows["edge"] = nodes[:0] if edges is None else nodes.index_select(0, edges[0])
        return {level: sorted_spans(graph, graphs) for level, graph in of_rows.items()}

    def _rows(self, level: str, part: slice) -> tuple[Int[Tensor, "rows"], Int[Tensor, "rows"]]:
        """Source row and copy, counted from the first of the part, of each row of the copies."""
        if any(known[1:] != (part.start, part.stop) for known in self._listed):
            self._listed.clear()
        key = (level, part.start, part.stop)
        if key not in self._listed:
            order, start, size = self._spans[level]
            cloud = self.frames.cloud[part]
            copy, row = list_spans(start[cloud], size[cloud])
            self._listed[key] = row if order is None else order[row], copy
        return self._listed[key]

    def _edges(self, edge_index: Tensor, part: slice) -> Tensor:
        """The edges of all copies of a part, between the nodes of these copies."""
        source, copy = self._rows("edge", part)
        _, start, size = self._spans["node"]
        cloud = self.frames.cloud[part]
        counts = size[cloud]
        shift = counts.cumsum(0) - counts - start[cloud]
        return edge_index.gather(1, source.expand(2, -1)) + shift.index_select(0, copy)

    def _level(
        self,
        name: str,
        rows: int,
        kind: Representation,
        level: str | None,
        counts: dict[str, int],
    ) -> str:
        """The level of a tensor with so many rows, where each level has the rows in ``counts``."""
        if level is None and kind.contains(Scalar):
            fitting = [known for known, count in counts.items() if count == rows]
            if len(fitting) > 1 and rows > 0:
                raise ValueError(
                    f"{name}: its {rows} rows may be those of a {' or a '.join(fitting)}; name "
                    f"its level, such as levels={{{name!r}: {fitting[0]!r}}}"
                )
            level = fitting[0] if fitting else "node"
        level = level or "node"
        if rows != counts[level]:
            raise ValueError(
                f"{name}: expected {counts[level]} rows, one per {level} in each frame, got "
                f"{rows}; if its rows are others, name them, such as levels={{{name!r}: 'graph'}}"
            )
        return level

    def _moved_in(
        self, values: Tensor, kind: Representation, part: slice, copy: Tensor | None
    ) -> Tensor:
        """Express rows in the frame of their copy."""
        component = component_of(kind, values, self.frames.frames.shape[-1])
        if isinstance(component, Scalar):
            return values
        frames = self.frames.frames[part]
        inverse = frames.mT if self.frames.inverse is None else self.frames.inverse[part]
        with torch.autocast(values.device.type, enabled=False):
            exact = values.to(torch.promote_types(values.dtype, frames.dtype))
            if isinstance(component, Point):
                centroid = _flat(self.frames.centroid, len(self.layout.clouds))
                centroid = _per_row(centroid.index_select(0, self.frames.cloud[part]), copy)
                exact = exact - spread(centroid, exact, own_axes=1)
            exact = apply_matrices(component, _per_row(inverse, copy), exact)
        return exact.to(values.dtype)

    def _moved_out(
        self, values: Tensor, kind: Representation, part: slice, copy: Tensor | None
    ) -> Float[Tensor, "*shape"]:
        """Bring rows back from the frame of their copy, and multiply them by its weight."""
        frames, weights = self.frames.frames[part], self.frames.weights[part]
        component = component_of(kind, values, frames.shape[-1])
        with torch.autocast(values.device.type, enabled=False):
            exact = values.to(torch.promote_types(values.dtype, frames.dtype))
            exact = exact * spread(_per_row(weights, copy), exact, own_axes=0)
            if isinstance(component, Scalar):
                return exact
            return apply_matrices(component, _per_row(frames, copy), exact)


def _flat(values: Tensor, axes: int) -> Tensor:
    """The batch axes as one; a single cloud gets one."""
    return values.flatten(0, axes - 1) if axes else values.unsqueeze(0)


def _per_row(part: Tensor, copy: Tensor | None) -> Tensor:
    return part if copy is None else gather_nodes(part.contiguous(), copy)


def _length(values: Tensor) -> int:
    return len(values) if values.ndim else 0
