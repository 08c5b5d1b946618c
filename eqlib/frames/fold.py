"""Folding frames into the batch: one cloud with F frames becomes F clouds for the backbone."""

from dataclasses import dataclass

import torch
from torch import Tensor

from eqlib.frames.express import from_frames, to_frames
from eqlib.frames.pca import PCAFrames
from eqlib.symmetry import BatchIndex, EdgeIndex, Point, Representation, Scalar
from eqlib.symmetry.representations import spread

LEVELS = ("node", "edge", "graph")


@dataclass(frozen=True)
class Fold:
    """A batch of clouds with its frames, and the layout of its copies, one per frame in turn.

    The axis of copies is merged with the batch axes of a dense batch. In a ragged batch, as in a
    single graph with edges but no ``batch``, it is merged with the rows of each tensor, and the
    ``level`` of a tensor tells whether these are nodes, edges or graphs.

    Args:
        frames: those of each cloud.
        nodes: number of nodes of a ragged batch or a single graph, None for a dense batch.
        batch: graph of each node of a ragged batch.
        edge_index: source and target of each edge.
        mask: True for the nodes of a dense batch that exist.
    """

    frames: PCAFrames
    nodes: int | None = None
    batch: Tensor | None = None
    edge_index: Tensor | None = None
    mask: Tensor | None = None

    @property
    def copies(self) -> int:
        """Number of frames of each cloud."""
        return self.frames.frames.shape[-3]

    @property
    def clouds(self) -> int:
        """Number of clouds in the batch."""
        return self.frames.gap.numel()

    def express(self, name: str, values: Tensor, kind: Representation, level: str) -> Tensor:
        """Copies (frames, ...) of an input, each in its frame."""
        if isinstance(kind, EdgeIndex | BatchIndex):
            return values.expand(self.copies, *values.shape)
        batch = tuple(self.frames.gap.shape)
        if self.nodes is not None:
            self._check_rows(name, values, kind, level, copies=1)
        elif tuple(values.shape[: len(batch)]) != batch:
            raise ValueError(
                f"{name}: expected the batch axes {batch} first, got shape {tuple(values.shape)}"
            )
        return to_frames(
            self._without_padding(values, kind), kind, self.frames, self._graph_of_rows(level)
        )

    def merge(self, copies: Tensor, kind: Representation) -> Tensor:
        """Merge some copies with the batch; nodes and graphs are numbered on from copy to copy."""
        if self.nodes is None:
            return copies.flatten(0, self.frames.gap.ndim)
        if isinstance(kind, EdgeIndex):
            return _numbered_on(copies, self.nodes).movedim(0, 1).flatten(1, 2)
        if isinstance(kind, BatchIndex):
            return _numbered_on(copies, self.clouds).flatten()
        return copies.flatten(0, 1)

    def average(self, name: str, values: Tensor, kind: Representation, level: str) -> Tensor:
        """Average an output of the backbone, which holds all copies merged with the batch."""
        rows: tuple[int, ...] = tuple(self.frames.gap.shape)
        if self.nodes is not None:
            self._check_rows(name, values, kind, level, self.copies)
            rows = (len(values) // self.copies,)
        elif values.shape[:1] != (self.copies * self.clouds,):
            raise ValueError(
                f"{name}: expected the batch of {self.copies * self.clouds} clouds (frames times "
                f"clouds) first in what the backbone returns, got shape {tuple(values.shape)}"
            )
        copies = values.unflatten(0, (self.copies, *rows))
        return from_frames(copies, kind, self.frames, self._graph_of_rows(level))

    def _without_padding(self, values: Tensor, kind: Representation) -> Tensor:
        """Replace what the mask excludes, which may be NaN, by what becomes zero in all frames."""
        if self.mask is None or not values.is_floating_point():
            return values
        if values.shape[: self.mask.ndim] != self.mask.shape:
            return values
        fill = values.new_zeros(())
        if kind.contains(Point):
            fill = spread(self.frames.centroid, values, own_axes=1).to(values.dtype)
        return torch.where(spread(self.mask, values, own_axes=0), values, fill)

    def _check_rows(
        self, name: str, values: Tensor, kind: Representation, level: str, copies: int
    ) -> None:
        edges = 0 if self.edge_index is None else self.edge_index.shape[-1]
        rows = {"node": self.nodes or 0, "edge": edges, "graph": self.clouds}
        known = rows.values() if kind.contains(Scalar) else (rows[level],)
        if values.ndim == 0 or not any(len(values) == copies * count for count in known):
            frames = f" and frame, {copies} x {rows[level]}" if copies > 1 else f", {rows[level]}"
            raise ValueError(
                f"{name}: expected one row per {level}{frames}, got shape {tuple(values.shape)}; "
                f"if its rows are others, name them, such as levels={{{name!r}: 'graph'}}"
            )

    def _graph_of_rows(self, level: str) -> Tensor | None:
        if self.batch is None or level == "graph":
            return None
        if level == "edge" and self.edge_index is not None:
            return self.batch[self.edge_index[0]]
        return self.batch


def _numbered_on(copies: Tensor, count: int) -> Tensor:
    """Indices of each copy, raised by ``count`` from one copy to the next."""
    start = count * torch.arange(len(copies), device=copies.device)
    return copies + start.reshape(-1, *(1 for _ in copies.shape[1:]))
