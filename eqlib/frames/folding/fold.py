"""Folding frames into the batch: one cloud with F frames becomes F clouds for the backbone."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from eqlib.frames.folding.express import sum_over_frames, to_frames
from eqlib.frames.types import Frames
from eqlib.geometry import gather_nodes
from eqlib.symmetry import BatchIndex, EdgeIndex, Point, Representation, Scalar
from eqlib.symmetry.representations import spread

LEVELS = ("node", "edge", "graph")


@runtime_checkable
class Folding(Protocol):
    """How the copies of a batch, one per frame, reach a backbone and come back.

    Tensors are known by their name and the representation that the signature gives them; their
    level, None if the user named none, is what their rows are in a ragged batch. A part is a slice
    of the copies, the share of one call of the backbone.
    """

    @property
    def copies(self) -> int:
        """Number of copies that parts are slices of."""

    def clouds(self, part: slice) -> int:
        """Number of clouds that the backbone sees in a part."""

    def express(
        self, name: str, values: Tensor, kind: Representation, level: str | None, part: slice
    ) -> Tensor:
        """What the backbone gets of an input: its copies in their frames, merged with the batch."""

    def collect(
        self, name: str, values: Tensor, kind: Representation, level: str | None, part: slice
    ) -> Tensor:
        """Weighted sum of an output of the backbone over the copies of a part, brought back."""

    def finish(self, name: str, total: Tensor, kind: Representation, level: str | None) -> Tensor:
        """The average, from the sum over all parts."""


@dataclass(frozen=True)
class Layout:
    """What the rows of tensors are in a batch of clouds.

    The first axes of every tensor of a dense batch are the batch axes. In a ragged batch, as in a
    single graph with edges but no ``batch``, rows are nodes, edges or graphs.

    Args:
        clouds: shape of the batch of clouds: (graphs,) if it is ragged, () for a single graph.
        nodes: number of nodes of a ragged batch or a single graph, None for a dense batch.
        batch: graph of each node of a ragged batch.
        edge_index: source and target of each edge.
        mask: True for the nodes of a dense batch that exist.
    """

    clouds: torch.Size
    nodes: int | None = None
    batch: Tensor | None = None
    edge_index: Tensor | None = None
    mask: Tensor | None = None

    def is_shared(self, values: Tensor, kind: Representation) -> bool:
        """Whether values are edges that all clouds of a dense batch share."""
        return self.nodes is None and values.ndim == 2 and isinstance(kind, EdgeIndex)

    def check_input(
        self, name: str, values: Tensor, kind: Representation, level: str | None
    ) -> None:
        """Refuse an input that does not fit the batch."""
        if self.nodes is not None:
            self._check_rows(name, values, kind, level, copies=1)
        elif values.shape[: len(self.clouds)] != self.clouds:
            raise ValueError(
                f"{name}: expected the batch axes {tuple(self.clouds)} first, "
                f"got shape {tuple(values.shape)}"
            )

    def check_output(
        self, name: str, values: Tensor, kind: Representation, level: str | None, copies: int
    ) -> None:
        """Refuse an output of the backbone that does not hold as many copies of the batch."""
        count = self.clouds.numel()
        if self.nodes is not None:
            self._check_rows(name, values, kind, level, copies)
        elif values.shape[:1] != (copies * count,):
            raise ValueError(
                f"{name}: expected the batch of {copies * count} clouds (frames times clouds) "
                f"first in what the backbone returns, got shape {tuple(values.shape)}"
            )

    def without_padding(self, values: Tensor, kind: Representation, centroid: Tensor) -> Tensor:
        """Replace what the mask excludes, which may be NaN, by what becomes zero in all frames."""
        if self.mask is None or not values.is_floating_point():
            return values
        if values.shape[: self.mask.ndim] != self.mask.shape:
            return values
        fill = values.new_zeros(())
        if kind.contains(Point):
            fill = spread(centroid, values, own_axes=1).to(values.dtype)
        return torch.where(spread(self.mask, values, own_axes=0), values, fill)

    def graph_of_rows(self, level: str | None) -> Tensor | None:
        """Graph of each row; None where rows are graphs, or the batch has none."""
        if self.batch is None or level == "graph":
            return None
        if level == "edge" and self.edge_index is not None:
            return self.batch[self.edge_index[0]]
        return self.batch

    def _check_rows(
        self, name: str, values: Tensor, kind: Representation, level: str | None, copies: int
    ) -> None:
        edges = 0 if self.edge_index is None else self.edge_index.shape[-1]
        rows = {"node": self.nodes or 0, "edge": edges, "graph": self.clouds.numel()}
        level = level or "node"
        known = rows.values() if kind.contains(Scalar) else (rows[level],)
        if values.ndim == 0 or not any(len(values) == copies * count for count in known):
            frames = f" and frame, {copies} x {rows[level]}" if copies > 1 else f", {rows[level]}"
            raise ValueError(
                f"{name}: expected one row per {level}{frames}, got shape {tuple(values.shape)}; "
                f"if its rows are others, name them, such as levels={{{name!r}: 'graph'}}"
            )


@dataclass(frozen=True)
class Fold:
    """A batch of clouds with as many frames each; its copies hold one frame of every cloud.

    The axis of copies is merged with the batch axes of a dense batch, and with the rows of each
    tensor of a ragged batch.

    Args:
        frames: those of each cloud.
        layout: what the rows of tensors are.
    """

    frames: Frames
    layout: Layout

    @property
    def copies(self) -> int:
        """Number of frames of each cloud."""
        return self.frames.frames.shape[-3]

    def clouds(self, part: slice) -> int:
        """Number of clouds that the backbone sees in a part."""
        return self.layout.clouds.numel() * (part.stop - part.start)

    def express(
        self, name: str, values: Tensor, kind: Representation, level: str | None, part: slice
    ) -> Tensor:
        """The copies of an input; nodes and graphs are numbered on from copy to copy."""
        layout = self.layout
        if layout.is_shared(values, kind):
            return values
        if isinstance(kind, EdgeIndex | BatchIndex):
            return self._indices(values, kind, part.stop - part.start)
        layout.check_input(name, values, kind, level)
        values = layout.without_padding(values, kind, self.frames.centroid)
        copies = to_frames(values, kind, self._part(part), layout.graph_of_rows(level))
        return copies.flatten(0, len(layout.clouds) if layout.nodes is None else 1)

    def collect(
        self, name: str, values: Tensor, kind: Representation, level: str | None, part: slice
    ) -> Tensor:
        """Weighted sum of an output over some copies, without the centroid."""
        copies = part.stop - part.start
        layout = self.layout
        layout.check_output(name, values, kind, level, copies)
        rows = layout.clouds if layout.nodes is None else (len(values) // copies,)
        return sum_over_frames(
            values.unflatten(0, (copies, *rows)),
            kind,
            self._part(part),
            layout.graph_of_rows(level),
            self.copies,
        )

    def finish(self, name: str, total: Tensor, kind: Representation, level: str | None) -> Tensor:
        """The average: points get their centroid back."""
        if not kind.contains(Point):
            return total
        graph = self.layout.graph_of_rows(level)
        centroid = self.frames.centroid
        centroid = centroid if graph is None else gather_nodes(centroid, graph)
        return total + spread(centroid, total, own_axes=1)

    def _indices(self, values: Tensor, kind: Representation, copies: int) -> Tensor:
        """Indices of nodes or graphs, raised from one copy to the next."""
        layout = self.layout
        if layout.nodes is None:
            return values.expand(copies, *values.shape).flatten(0, len(layout.clouds))
        if copies == 1:
            return values
        step = layout.nodes if isinstance(kind, EdgeIndex) else layout.clouds.numel()
        start = step * torch.arange(copies, device=values.device, dtype=values.dtype)
        return (values.unsqueeze(-2) + start[:, None]).flatten(-2)

    def _part(self, part: slice) -> Frames:
        if part.stop - part.start == self.copies:
            return self.frames
        frames, _, _, weights, inverse, signs = self.frames
        return self.frames._replace(
            frames=frames[..., part, :, :],
            weights=None if weights is None else weights[..., part],
            inverse=None if inverse is None else inverse[..., part, :, :],
            signs=None if signs is None else signs[part] * signs[part.start],
        )
