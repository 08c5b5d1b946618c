"""Piecewise frame averaging: each cell of a partition has frames of its own."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from eqlib.frames.average import FrameAverage
from eqlib.frames.dispatch import FrameFunction
from eqlib.frames.folding.fold import Fold, Folding, Layout
from eqlib.frames.folding.ragged import RaggedFold
from eqlib.frames.piecewise.cells import Cells, list_cells, weighted_points
from eqlib.frames.signatures import in_form_of, inputs_by_name, relative_signature, signature_of
from eqlib.frames.types import Frames
from eqlib.geometry import gather_nodes, segment_sum
from eqlib.symmetry import (
    Axial,
    BatchIndex,
    EdgeIndex,
    Point,
    Representation,
    Signature,
)
from eqlib.symmetry.arguments import results_by_name
from eqlib.symmetry.group import Group, moving_factor
from eqlib.symmetry.representations import Components, spread

_STRUCTURE = ("cells", "mask", "batch", "num_graphs", "edge_index")


class PiecewiseFrameAverage(nn.Module):
    r"""Average of a backbone over the frames of each cell of a partition.

    .. math::
        \Phi_i(x) = \sum_c w_{ic} \sum_{g \in F(x_c)} w_g\,
        \bigl(\rho_{out}(g)\, \phi(\rho_{in}(g)^{-1} x_c)\bigr)_i

    The backbone sees each cell :math:`x_c` as a cloud of its own, as a graph of a ragged batch,
    with the edges inside it; point i takes part with the weight :math:`w_{ic}`, one for its own
    cell and zero for others unless the partition is soft. Frames are those of the weighted moments
    of the cell.

    Where every cell lies in one rigid part of a body, the outputs follow the motion of each part:
    the partition may be finer than the parts. In a cell that straddles parts they do not; with
    :math:`|\Phi_i| \le M` the error at point i is at most :math:`2 M \sum_{c\,straddles} w_{ic}`,
    however the parts move; see :func:`straddling`, which reports the share, and
    :func:`piecewise_errors`, which measures.

    Args:
        backbone: module or function that takes the inputs by name (a sole input of the signature
            by position), ``batch`` (the cell of each row) and ``num_graphs`` (the number of cells),
            and ``edge_index`` if there are edges; it returns a tensor, or a dict or a NamedTuple.
        group: what each part may do; by default that of ``signature``, else SE(3).
        signature: representation of every tensor in and out; by default one input ``points`` and
            one output, both points.
        partition: function of the points (and ``mask``, or ``batch`` and ``num_graphs``, if there
            are any) that gives the cells where the call does not. It has to be invariant itself.
        bound: largest size M of an output at a point, in its unit: the norm of a vector, the
            absolute value of a number, the distance of a point from the one it belongs to. What is
            larger is scaled down. By default there is none.
        cut: weights of soft cells are reduced by this much, and what is left of them made to sum to
            one, so that each point is in few cells.
        levels: as in :class:`FrameAverage`. Outputs of the level "graph" have a row per cell.
        mode: as in :class:`FrameAverage`. "weighted" is defined at cells of any shape, among them
            single points, whose vectors are zero.
        eval_mode: as in :class:`FrameAverage`.
        chunk: as in :class:`FrameAverage`.
        detach: treat frames as constants in the backward pass. Gradients with respect to the
            inputs, such as forces, are then **wrong**.
        frame_options: as in :class:`FrameAverage`.

    Raises:
        ValueError: the arguments contradict each other, or name what does not exist.

    Note:
        Averages are exact where the frames of the cells are; in the modes "full" and "minimal"
        cells of one point or two have arbitrary axes. Edges between cells are left out. A soft
        partition is equivariant as far as it is: weights that follow the motion of each part, and
        are zero in all cells but those of one part. How many cells there are depends on the data.

    Source:
        Atzmon, Huang, Williams, Litany, Approximately Piecewise E(3) Equivariant Point Networks,
        ICLR 2024, for cells finer than the parts and the bound by the share that is not; here the
        error is bounded point by point, and cells are given, not learned.
    """

    def __init__(
        self,
        backbone: Callable[..., Any],
        group: str | Group | None = None,
        signature: Signature | None = None,
        partition: Callable[..., Tensor] | None = None,
        bound: float | None = None,
        cut: float = 0.0,
        levels: Mapping[str, str] | None = None,
        mode: str | FrameFunction = "weighted",
        eval_mode: str | FrameFunction | None = None,
        chunk: int | None = None,
        detach: bool = False,
        frame_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        signature = signature_of(group, signature, Point())
        if bound is not None and not bound > 0:
            raise ValueError(f"bound: expected a positive size, or None, got {bound}")
        self.signature, self.partition = signature, partition
        self.bound, self.cut, self.levels = bound, cut, dict(levels or {})
        self._check_levels()
        seen = [
            name
            for name, kind in signature.inputs.items()
            if name not in _STRUCTURE and not isinstance(kind, BatchIndex | EdgeIndex)
        ]
        self.average = _CellAverage(
            moving_factor(signature.group),
            backbone,
            mode=mode,
            eval_mode=eval_mode,
            signature=relative_signature(signature, seen),
            levels=levels,
            chunk=chunk,
            detach=detach,
            frame_options=frame_options,
        )
        self.cloud = str(self.average.cloud)

    @property
    def backbone(self) -> Callable[..., Any]:
        """What runs on the cells."""
        return self.average.backbone

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """The outputs at each point, and for each cell.

        Args:
            args: inputs in the order of the signature.
            inputs: inputs by name, and the structure of the batch: ``mask`` of a dense batch
                (*batch, points, d); ``batch`` and ``num_graphs`` of a ragged one (nodes, d);
                ``edge_index``, between the points of every dense cloud or the nodes; and ``cells``:
                a label of each point, counted from zero in every cloud, or weights of all labels
                with one axis more.

        Returns:
            What the backbone returns, averaged: one row per point, zero where it is in no cell, and
            (*batch, labels, ...) for outputs of cells.

        Raises:
            ValueError: a shape does not fit, or a tensor is unknown.
            TypeError: an argument is missing or has the wrong type.
        """
        named = inputs_by_name(args, inputs, self.signature, self.average.signature.inputs)
        structure = {name: named.pop(name, None) for name in _STRUCTURE}
        points, edge_index = named[self.cloud], structure.pop("edge_index")
        cells = self._cells(points, **structure)
        edges: Tensor | None = None
        if edge_index is not None:
            edge_index = _of_all_clouds(edge_index, points, structure["batch"])
            named["edge_index"], edges = cells.members_of_edges(edge_index)
        rows = points.shape[:-1]
        for name in self.average.signature.inputs:
            named[name] = self._members(name, named[name], cells, rows, edges)
        result = self.average(**named, batch=cells.cell, num_graphs=cells.total, members=cells)
        return self._finish(result, cells, points)

    def extra_repr(self) -> str:
        """Group and options."""
        return f"group={self.signature.group!r}, bound={self.bound}, cut={self.cut}"

    def _cells(self, points: Tensor, cells: Tensor | None, **layout: Any) -> Cells:
        """The members of the cells that are given, or that the partition finds."""
        if cells is None:
            if self.partition is None:
                raise TypeError(
                    "cells: expected a label of each point, or their weights; give them to the "
                    "call, or a partition to the module"
                )
            given = {name: value for name, value in layout.items() if value is not None}
            cells = self.partition(points, **given)
        return list_cells(cells, points, **layout, cut=self.cut)

    def _members(
        self,
        name: str,
        values: Tensor,
        cells: Cells,
        rows: torch.Size,
        edges: Tensor | None,
    ) -> Tensor:
        """The rows of an input that belong to the members, edges or cells."""
        level = self.levels.get(name, "edge" if name.startswith("edge_") else "node")
        lead = cells.shape if level == "graph" else rows[:-1] if level == "edge" else rows
        if values.shape[: len(lead)] != lead:
            raise ValueError(
                f"{name}: expected one row per {level}, first axes ({', '.join(map(str, lead))}), "
                f"got shape {tuple(values.shape)}"
            )
        if level == "graph":
            flat = values.reshape(cells.shape.numel(), *values.shape[len(lead) :])
            return flat.repeat_interleave(cells.per_cloud, 0)
        flat = values.flatten(0, len(rows) - 1)
        if level == "node":
            return gather_nodes(flat, cells.point)
        return flat if edges is None else gather_nodes(flat, edges)

    def _finish(self, result: Any, cells: Cells, points: Tensor) -> Any:
        """Bring the rows of members back to their points, and keep the bound."""
        signature = self.average.signature
        outputs: dict[str, Any] = dict(results_by_name(result, signature))
        rows = points.shape[:-1]
        for name, kind in signature.named_outputs.items():
            values = outputs[name]
            if self._is_of_cells(name, values, cells):
                outputs[name] = values.reshape(*cells.shape, cells.per_cloud, *values.shape[1:])
                continue
            weighed = values * spread(cells.weight, values, own_axes=0)
            total = segment_sum(weighed, cells.point, rows.numel())
            total = total.reshape(*rows, *values.shape[1:]).to(values.dtype)
            if self.bound is not None:
                bounded = self._bounded(total, kind, points)
                inside = (cells.slot >= 0).any(-1).reshape(rows)
                total = torch.where(spread(inside, total, own_axes=0), bounded, 0.0)
            outputs[name] = total
        return in_form_of(result, outputs, signature)

    def _is_of_cells(self, name: str, values: Tensor, cells: Cells) -> bool:
        """Whether an output has a row per cell; those of others are members."""
        return self.levels.get(name) == "graph" or len(values) != len(cells.point)

    def _bounded(self, values: Tensor, kind: Representation, points: Tensor) -> Tensor:
        """Outputs of at most the size of the bound."""
        bound = self.bound or torch.inf
        base = spread(points, values, own_axes=1) if isinstance(kind, Point) else 0
        size = values - base
        axes = kind.component_axes if isinstance(kind, Components) else ()
        square = size.square().sum(axes, keepdim=True) if axes else size.square()
        # The square root of a square that is within the bound would have no second derivative at 0.
        outside = torch.where(square > bound**2, square, bound**2)
        return base + size * (bound * outside.rsqrt())

    def _check_levels(self) -> None:
        """Refuse outputs whose rows are edges, which no point owns."""
        for name in self.signature.named_outputs:
            if self.levels.get(name, "edge" if name.startswith("edge_") else "") == "edge":
                raise ValueError(f"levels: output {name!r} has a row per edge; give it to points")


class _CellAverage(FrameAverage):
    """The average over the frames of the weighted moments of cells."""

    def __init__(self, moving: Group, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.moving = moving

    def fold(self, named: dict[str, Any]) -> Folding:
        """Fold the members of cells, which arrive with the inputs, into clouds."""
        cells, points = named.pop("members"), named[str(self.cloud)]
        dtype = torch.promote_types(points.dtype, torch.float32)
        scaled, origin = weighted_points(points, cells, self.moving.translations)
        if isinstance(self.moving, Axial) and self.moving.horizontal:
            axis = self.moving.basis(origin.device)[:, 2:]
            origin = origin - origin @ axis @ axis.mT
        frames = self.frames(scaled.to(dtype), batch=cells.cell, num_graphs=cells.total)
        frames = frames._replace(centroid=origin.to(dtype))
        layout = Layout(frames.gap.shape, len(points), cells.cell, named.get("edge_index"))
        return Fold(frames, layout) if isinstance(frames, Frames) else RaggedFold(frames, layout)


def _of_all_clouds(edge_index: Tensor, points: Tensor, batch: Tensor | None) -> Tensor:
    """Edges between the rows of all points; the clouds of a dense batch share theirs."""
    if batch is not None:
        return edge_index
    nodes = points.shape[-2]
    first = nodes * torch.arange(points.shape[:-2].numel(), device=edge_index.device)
    return (edge_index[:, None] + first[:, None]).flatten(1)
