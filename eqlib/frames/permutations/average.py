"""Averages over permutations of nodes, alone or together with a group that acts on space."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eqlib.frames.folding.fold import Folding
from eqlib.frames.permutations.classes import NodeClasses, row_classes
from eqlib.frames.permutations.fold import PermutationFold
from eqlib.frames.permutations.frames import (
    LIMIT,
    PermutationFrames,
    class_frames,
    permutation_frames,
)
from eqlib.frames.permutations.search import search_frames
from eqlib.symmetry import BatchIndex, EdgeIndex, Representation, Scalar, Signature
from eqlib.symmetry.arguments import count_nodes

Named = Mapping[str, Any]


def permutation_fold(
    named: Named,
    signature: Signature,
    mode: str = "full",
    samples: int = 1,
    generator: torch.Generator | None = None,
    *,
    keys: Sequence[str] = (),
    edge_weight: str | None = None,
    limit: int = LIMIT,
    large: str = "raise",
    normalised: bool = False,
    refine: bool = True,
    search: bool = False,
    invariant: bool = False,
    tolerance: float = 1e-4,
) -> PermutationFold:
    """The fold of a batch of graphs, or of sets, over permutation frames.

    Args:
        named: inputs by name. The graph is the input with two node axes, an adjacency matrix, or
            else the edge index; without either, the rows of ``keys`` are sorted.
        signature: of permutations.
        mode: "full" takes all orders, "stochastic" draws ``samples`` of them.
        samples: number of orders to draw of each graph.
        generator: source of the samples; by default that of torch.
        keys: names of inputs that are compared first; without a graph, by default all inputs with
            one node axis.
        edge_weight: name of the input with a weight for each edge.
        limit: most orders of a graph in mode "full".
        large: what "full" does with larger frames: "raise" an error, or "sample" them.
        normalised: as in :func:`permutation_frames`.
        refine: as in :func:`permutation_frames`.
        search: take the frames of :func:`search_frames`, which are far smaller.
        invariant: all outputs belong to graphs; see :func:`search_frames`.
        tolerance: as in :func:`permutation_frames`.

    Raises:
        ValueError: an option does not exist, an input is missing, or a frame exceeds ``limit``.
    """
    if invariant and not search:
        raise ValueError("invariant: only frames with search=True make use of it")
    count = _samples(mode, large, samples)
    given = _read(named, signature, keys)
    if mode == "stochastic":
        limit = 0
    if given.graph is None:
        classes = _row_classes(given, tolerance)
        frames = class_frames(classes, limit, count, generator)
    else:
        make: Callable[..., PermutationFrames] = partial(permutation_frames, refine=refine)
        if search:
            make = partial(search_frames, invariant=invariant)
        frames = make(
            *given[:5],
            edge_weight=None if edge_weight is None else named[edge_weight],
            normalised=normalised,
            tolerance=tolerance,
            limit=limit,
            samples=count,
            generator=generator,
        )
    return PermutationFold(frames, given.shape, given.nodes, given.edges, given.mask, invariant)


class _Graphs(NamedTuple):
    """The inputs that permutation frames depend on."""

    graph: Tensor | None
    columns: Tensor | None
    mask: Tensor | None
    batch: Tensor | None
    num_graphs: int | None
    edges: Tensor | None

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Batch axes and nodes of a dense batch, None for a ragged one."""
        if self.batch is not None:
            return None
        like = self.graph if self.columns is None else self.columns
        return () if like is None else tuple(like.shape[:-1])

    @property
    def nodes(self) -> Tensor:
        """Graph of each node."""
        if self.batch is not None:
            return self.batch
        like = self.graph if self.columns is None else self.columns
        shape, device = self.shape or (0,), None if like is None else like.device
        return torch.arange(prod(shape), device=device) // max(shape[-1], 1)


def _read(named: Named, signature: Signature, keys: Sequence[str]) -> _Graphs:
    kinds = {name: kind for name, kind in signature.inputs.items() if named.get(name) is not None}
    matrix = next((name for name, kind in kinds.items() if len(kind.node_axes) == 2), None)
    if matrix is not None and set(kinds[matrix].node_axes) != {-2, -1}:
        raise ValueError(f"{matrix}: expected the node axes (-2, -1), got {kinds[matrix]!r}")
    edges = named.get(_name(kinds, EdgeIndex, "edge_index"))
    batch, num_graphs = named.get(_name(kinds, BatchIndex, "batch")), named.get("num_graphs")
    graph = edges if matrix is None else named[matrix]
    if graph is None and not keys:
        keys = [name for name, kind in kinds.items() if len(kind.node_axes) == 1]
    if edges is not None and matrix is None and batch is None:
        nodes = count_nodes({name: (named[name], kind) for name, kind in kinds.items()})
        batch, num_graphs = edges.new_zeros(nodes or 0, dtype=torch.int64), 1
    columns = _columns(named, kinds, keys, 1 if batch is not None else None)
    return _Graphs(graph, columns, named.get("mask"), batch, num_graphs, edges)


def _row_classes(given: _Graphs, tolerance: float) -> NodeClasses:
    """Classes of the rows of sets."""
    if given.columns is None:
        raise ValueError(
            "inputs: permutation frames need a graph, such as NodeOrder(-2, -1) or EdgeIndex(), "
            "or rows to sort, such as Scalar() * NodeOrder(-2); there is neither"
        )
    rows = given.columns.new_zeros(*given.columns.shape[:-1], 1, dtype=torch.float64)
    return row_classes(rows, given.columns, given.mask, given.batch, given.num_graphs, tolerance)


def product_fold(
    outer: Folding,
    cloud: str,
    named: Named,
    signature: Signature,
    levels: Mapping[str, str],
    mode: str = "full",
    generator: torch.Generator | None = None,
    *,
    keys: Sequence[str] = (),
    limit: int = LIMIT,
    large: str = "raise",
    samples: int = 1,
    tolerance: float = 1e-4,
) -> "ProductFold":
    r"""The fold over frames of space and, in each of them, over the orders of the points.

    In a frame, points are sorted by their canonical coordinates, which no element of the group
    changes. Frames of space do not depend on the order of the points, so that the pairs of both
    are a frame of the product :math:`G \times S_n`.

    Args:
        outer: fold over the frames of space.
        cloud: name of the input with the points.
        named: inputs by name.
        signature: group and representations; node axes are named.
        levels: as in :class:`FrameAverage`.
        mode: "stochastic" draws one order in each frame; in all other modes points that coincide
            are averaged over all their orders.
        generator: source of the samples; by default that of torch.
        keys: names of inputs that are compared before the coordinates.
        limit: most orders of a cloud.
        large: what happens to larger frames: "raise" an error, or "sample" them.
        samples: number of orders to draw of them.
        tolerance: coordinates are equal where they differ by less than this times the largest.

    Raises:
        ValueError: an option does not exist, or a frame exceeds ``limit``.

    Note:
        Sorting is not continuous: outputs jump where two coordinates cross.
    """
    count = _samples("stochastic" if mode == "stochastic" else "full", large, samples)
    structure = {"mask": Scalar(), "batch": BatchIndex(), "edge_index": EdgeIndex()}
    kinds = {**structure, **signature.inputs}
    every = slice(0, outer.copies)
    expressed = {
        name: outer.express(name, value, kinds[name], levels.get(name), every)
        for name, value in named.items()
        if isinstance(value, Tensor) and name in kinds
    }
    points, mask = expressed[cloud], expressed.get("mask")
    edges = expressed.get(_name(kinds, EdgeIndex, "edge_index"))
    batch, graphs = expressed.get(_name(kinds, BatchIndex, "batch")), None
    if edges is not None and batch is None and points.ndim == 2:
        size = len(points) // max(outer.copies, 1)
        batch = torch.arange(outer.copies, device=points.device).repeat_interleave(size)
    if batch is not None:
        graphs = outer.clouds(every)
    columns = _columns(expressed, signature.inputs, keys, 1 if batch is not None else None)
    classes = row_classes(points, columns, mask, batch, graphs, tolerance)
    if mode == "stochastic":
        limit, count = 0, 1
    frames = class_frames(classes, limit, count, generator)
    shape = None if batch is not None else tuple(points.shape[:-1])
    inner = PermutationFold(frames, shape, classes.batch, edges, mask)
    return ProductFold(outer, inner, expressed)


@dataclass(frozen=True)
class ProductFold:
    """Folds one after the other: copies of the outer fold are the batch of the inner one.

    Args:
        outer: fold over frames of space.
        inner: fold over the orders of points in each of these frames.
        expressed: inputs in all frames of the outer fold, by name.
    """

    outer: Folding
    inner: PermutationFold
    expressed: Mapping[str, Tensor] = field(repr=False)

    @property
    def copies(self) -> int:
        """Number of pairs of a frame and an order."""
        return self.inner.copies

    def clouds(self, part: slice) -> int:
        """Number of clouds that the backbone sees in a part."""
        return self.inner.clouds(part)

    def express(
        self, name: str, values: Tensor, kind: Representation, level: str | None, part: slice
    ) -> Tensor:
        """The copies of an input in their frames and orders."""
        return self.inner.express(name, self.expressed[name], kind, level, part)

    def collect(
        self, name: str, values: Tensor, kind: Representation, level: str | None, part: slice
    ) -> Tensor:
        """Weighted sum of an output over copies, brought back."""
        # Clouds without a copy in this part contribute zero: both sums are linear.
        ordered = self.inner.collect(name, values, kind, level, part)
        every = slice(0, self.outer.copies)
        return self.outer.collect(name, ordered, kind, level, every)

    def finish(self, name: str, total: Tensor, kind: Representation, level: str | None) -> Tensor:
        """The average, from the sum over all parts."""
        return self.outer.finish(name, total, kind, level)


def _samples(mode: str, large: str, samples: int) -> int | None:
    """Number of orders to draw where they are drawn."""
    if mode not in ("full", "stochastic") or large not in ("raise", "sample"):
        raise ValueError(
            "mode, large: permutations have the modes 'full' and 'stochastic', and large frames "
            f"'raise' or 'sample', got {mode!r} and {large!r}"
        )
    return samples if mode == "stochastic" or large == "sample" else None


def _name(kinds: Mapping[str, Representation], kind: type[Representation], default: str) -> str:
    """The input of a kind, under the name that the signature gives it."""
    return next((name for name, given in kinds.items() if isinstance(given, kind)), default)


def _columns(
    named: Named, kinds: Mapping[str, Representation], keys: Sequence[str], axes: int | None
) -> Tensor | None:
    """The values of all keys, side by side, with one row per node."""
    columns = []
    for name in keys:
        if not isinstance(named.get(name), Tensor) or len(kinds[name].node_axes) != 1:
            raise ValueError(
                f"keys: {name!r} is no tensor with one node axis, such as Scalar() * NodeOrder(-2)"
            )
        value = named[name]
        (axis,) = kinds[name].node_axes
        rows = value.ndim if axis % value.ndim == value.ndim - 1 else value.ndim - 1
        rows = rows if axes is None else axes
        columns.append(value.reshape(*value.shape[:rows], -1))
    if not columns:
        return None
    exact = all(not column.is_floating_point() for column in columns)
    return torch.cat([column.long() if exact else column.double() for column in columns], dim=-1)
