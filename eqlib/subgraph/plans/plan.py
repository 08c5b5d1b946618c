"""The plan of the subgraphs of a batch of graphs: which pairs of nodes they hold, and where."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from eqlib.geometry._checks import check_range
from eqlib.subgraph.plans.arguments import check_indices


class SubgraphPlan(NamedTuple):
    """The subgraphs of a batch, with their members and pairs.

    A member is a node in a subgraph; a pair is two members, equal ones included, of a subgraph. The
    stored pairs are all pairs of nodes (i, j) that share a subgraph: each has a row of the pair
    features of the graph. Members and pairs are rows of the features of the subgraphs.

    All indices are int64.

    Attributes:
        node: node of the batch that each member is; members are sorted by subgraph, then node.
        subgraph: subgraph of each member.
        starts: first member of each subgraph, and the number of members.
        pair_starts: first pair of each subgraph, and the number of pairs.
        row: member i of each pair (i, j); pairs are sorted by subgraph, then i, then j.
        column: member j of each pair (i, j).
        transpose: the pair (j, i) of each pair (i, j).
        diagonal: the pair (i, i) of each member i.
        root: member of each subgraph that is marked; None: none is.
        center: node of the batch that each subgraph belongs to; None: it belongs to its graph.
        graph: graph of each subgraph, ascending.
        pair_index: nodes (first, second) of each stored pair, sorted by first, then second.
        slot_transpose: the stored pair (second, first) of each stored pair.
        slot_order: the pairs, sorted stably by stored pair.
        slot_starts: where the pairs of each stored pair begin, and the number of pairs.
        slot: stored pair of each pair.
        member_order: the members, sorted stably by node.
        member_starts: where the members of each node begin, and the number of members.
        batch: graph of each node, ascending.
        num_graphs: number of graphs, those without nodes included.
        policy: how the subgraphs were chosen, in words.
    """

    node: Int[Tensor, "members"]
    subgraph: Int[Tensor, "members"]
    starts: Int[Tensor, "subgraphs_1"]
    pair_starts: Int[Tensor, "subgraphs_1"]
    row: Int[Tensor, "pairs"]
    column: Int[Tensor, "pairs"]
    transpose: Int[Tensor, "pairs"]
    diagonal: Int[Tensor, "members"]
    root: Int[Tensor, "subgraphs"] | None
    center: Int[Tensor, "subgraphs"] | None
    graph: Int[Tensor, "subgraphs"]
    pair_index: Int[Tensor, "2 slots"]
    slot_transpose: Int[Tensor, "slots"]
    slot_order: Int[Tensor, "pairs"]
    slot_starts: Int[Tensor, "slots_1"]
    # After the fields whose names it begins: torch.export replaces the names one after the other.
    slot: Int[Tensor, "pairs"]
    member_order: Int[Tensor, "members"]
    member_starts: Int[Tensor, "nodes_1"]
    batch: Int[Tensor, "nodes"]
    num_graphs: int
    policy: str

    @property
    def sizes(self) -> Int[Tensor, "subgraphs"]:
        """Number of members of each subgraph."""
        return self.starts.diff()

    @property
    def slot_counts(self) -> Int[Tensor, "slots"]:
        """Number of subgraphs that hold each stored pair, at least 1."""
        return self.slot_starts.diff()

    @property
    def num_nodes(self) -> int:
        """Number of nodes of the batch."""
        return self.batch.shape[0]

    @property
    def num_subgraphs(self) -> int:
        """Number of subgraphs."""
        return self.graph.shape[0]

    @property
    def num_members(self) -> int:
        """Number of members, the sum of the sizes m of the subgraphs."""
        return self.node.shape[0]

    @property
    def num_pairs(self) -> int:
        """Number of pairs, the sum of m^2 over the subgraphs."""
        return self.row.shape[0]

    @property
    def num_slots(self) -> int:
        """Number of stored pairs: rows of the pair features of the graph."""
        return self.pair_index.shape[1]

    @property
    def num_whole_pairs(self) -> int:
        """Number of pairs of nodes in the same graph, the sum of n^2 over the graphs."""
        counts = torch.bincount(self.batch, minlength=1)
        return int((counts * counts).sum())

    @property
    def is_rooted(self) -> bool:
        """Whether each subgraph has a marked member."""
        return self.root is not None

    @property
    def has_centers(self) -> bool:
        """Whether each subgraph belongs to a node; otherwise it belongs to its graph."""
        return self.center is not None

    @property
    def owner(self) -> Int[Tensor, "subgraphs"]:
        """What each subgraph belongs to: its center, or its graph."""
        return self.graph if self.center is None else self.center

    @property
    def num_owners(self) -> int:
        """Number of nodes where subgraphs have centers, of graphs otherwise."""
        return self.batch.shape[0] if self.has_centers else self.num_graphs

    @property
    def device(self) -> torch.device:
        """Where the plan lives."""
        return self.node.device

    @property
    def num_bytes(self) -> int:
        """Memory that the plan takes, in bytes."""
        return sum(field.nbytes for field in self if isinstance(field, Tensor))

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> "SubgraphPlan":
        """Return the plan on a device.

        Args:
            device: where to.
            non_blocking: as in ``torch.Tensor.to``.

        Raises:
            TypeError: a dtype is given: indices have one alone.
        """
        if isinstance(device, torch.dtype):
            raise TypeError(f"device is {device}; expected a device: indices stay torch.int64")
        moved: dict[str, Any] = {
            name: field.to(device, non_blocking=non_blocking)
            for name, field in self._asdict().items()
            if isinstance(field, Tensor)
        }
        return self._replace(**moved)

    def select(self, graphs: Tensor | Sequence[int] | slice) -> "SubgraphPlan":
        """The plan of some of the graphs, as if it had been made of a batch of these alone.

        Make the plan of a data set once and select that of each batch: it takes indexing and
        additions, and no search.

        Args:
            graphs: their numbers, (selected,), in the order of the new batch; a graph that comes
                twice is two graphs of it. Or a slice, or a mask of all graphs, (num_graphs,).

        Returns:
            The plan of the new batch, on the same device.

        Raises:
            TypeError: ``graphs`` is neither int64 nor bool.
            ValueError: ``graphs`` is not a vector, an entry leaves [0, num_graphs), or a mask is of
                another number of graphs.
        """
        graphs = self._numbers(graphs)
        nodes, subgraphs, members, pairs, slots = self._blocks(graphs)
        return SubgraphPlan(
            node=members.take(self.node, nodes),
            subgraph=members.take(self.subgraph, subgraphs),
            starts=subgraphs.take_starts(self.starts, members),
            pair_starts=subgraphs.take_starts(self.pair_starts, pairs),
            row=pairs.take(self.row, members),
            column=pairs.take(self.column, members),
            transpose=pairs.take(self.transpose, pairs),
            diagonal=members.take(self.diagonal, pairs),
            root=None if self.root is None else subgraphs.take(self.root, members),
            center=None if self.center is None else subgraphs.take(self.center, nodes),
            graph=subgraphs.owner,
            pair_index=slots.take(self.pair_index, nodes),
            slot_transpose=slots.take(self.slot_transpose, slots),
            slot_order=pairs.take(self.slot_order, pairs),
            slot_starts=slots.take_starts(self.slot_starts, pairs),
            slot=pairs.take(self.slot, slots),
            member_order=members.take(self.member_order, members),
            member_starts=nodes.take_starts(self.member_starts, members),
            batch=nodes.owner,
            num_graphs=graphs.shape[0],
            policy=self.policy,
        )

    def _numbers(self, graphs: Tensor | Sequence[int] | slice) -> Tensor:
        """Numbers of the graphs that are meant, on the device of the plan."""
        if isinstance(graphs, slice):
            return torch.arange(*graphs.indices(self.num_graphs), device=self.device)
        if not isinstance(graphs, Tensor):
            graphs = torch.as_tensor(graphs) if len(graphs) else self.graph[:0]
        graphs = graphs.to(self.device)
        if graphs.dtype == torch.bool:
            if graphs.shape != (self.num_graphs,):
                raise ValueError(
                    f"graphs has shape {tuple(graphs.shape)}; expected a mask of the "
                    f"{self.num_graphs} graphs"
                )
            return graphs.nonzero().flatten()
        check_indices("graphs", graphs)
        if graphs.shape[0] > 0:
            check_range(graphs, self.num_graphs, "graphs", "num_graphs")
        return graphs

    def _blocks(self, graphs: Tensor) -> "list[_Blocks]":
        """Where the nodes, subgraphs, members, pairs and stored pairs of some graphs lie."""
        ends = torch.stack([graphs, graphs + 1])
        nodes = torch.searchsorted(self.batch, ends)
        subgraphs = torch.searchsorted(self.graph, ends)
        slots = torch.searchsorted(self.pair_index[0], nodes)
        bounds = [nodes, subgraphs, self.starts[subgraphs], self.pair_starts[subgraphs], slots]
        totals = torch.stack([(stop - start).sum() for start, stop in bounds])
        # One look at all numbers, which on CUDA waits for the device.
        return [_Blocks(b, total) for b, total in zip(bounds, totals.tolist(), strict=True)]

    def __repr__(self) -> str:
        """Sizes and cost in one line."""
        whole = "unknown" if self.device.type == "meta" else f"{self.num_whole_pairs:,}"
        return (
            f"SubgraphPlan({self.policy}: {self.num_graphs:,} graphs, {self.num_nodes:,} nodes, "
            f"{self.num_subgraphs:,} subgraphs, sum m^2 = {self.num_pairs:,}, sum n^2 = "
            f"{whole}, {self.num_slots:,} stored pairs, "
            f"{self.num_bytes / 1e6:,.1f} MB)"
        )


# What torch.load reads without running programs.
torch.serialization.add_safe_globals([SubgraphPlan])


class _Blocks:
    """Consecutive rows of each selected graph, and where they lie in the selection.

    Args:
        bounds: (2, graphs), first row of each graph and the row after its last.
        total: number of all rows.
    """

    def __init__(self, bounds: Tensor, total: int) -> None:
        start, stop = bounds
        self.total = total
        self.counts = stop - start
        self.shift = self.counts.cumsum(0) - self.counts - start
        self._moves: dict[_Blocks, Tensor] = {}
        self.rows = torch.arange(total, device=start.device) - self._move(self)

    @property
    def owner(self) -> Tensor:
        """Graph of each row, counted in the selection."""
        return self._spread(torch.arange(self.counts.shape[0], device=self.counts.device))

    def take(self, index: Tensor, target: "_Blocks") -> Tensor:
        """The selected rows of an index that points to rows of ``target``."""
        rows = index.index_select(-1, self.rows)
        rows += self._move(target)
        return rows

    def take_starts(self, starts: Tensor, target: "_Blocks") -> Tensor:
        """The selected rows of bounds in the rows of ``target``, and their end."""
        return torch.cat([self.take(starts, target), starts.new_tensor([target.total])])

    def _move(self, target: "_Blocks") -> Tensor:
        """How far the rows of ``target`` move that each selected row points to."""
        if target not in self._moves:
            self._moves[target] = self._spread(target.shift)
        return self._moves[target]

    def _spread(self, values: Tensor) -> Tensor:
        """Values of the graphs, for each row."""
        return values.repeat_interleave(self.counts, output_size=self.total)
