"""How pairs and members of subgraphs lie in memory: what the linear maps need to know of it."""

from abc import ABC, abstractmethod
from typing import no_type_check

import torch
from torch import Tensor

from eqlib.geometry import gather_nodes, segment_sum
from eqlib.kernels.pair_linear import Nodes, Pairs, pair_linear, pair_reduce
from eqlib.subgraph.levels import join_copies, row_counts
from eqlib.subgraph.maps.basis import vector_count
from eqlib.subgraph.maps.terms import Term
from eqlib.subgraph.plans.plan import SubgraphPlan


@no_type_check  # a type checker at run time would wrap what torch.compile has to trace
class Layout(ABC):
    """Subgraphs with members, whose features are rows, sorted by subgraph."""

    sizes: Tensor
    """Number of members of each subgraph."""
    root: Tensor | None
    """The member that is the root of each subgraph, or None."""

    @abstractmethod
    def reduce(self, pairs: Tensor) -> Tensor:
        """Sums of the pairs of each member, (members, 3 or 5, channels)."""

    @abstractmethod
    def linear(self, pairs: Tensor | None, term: Term, spread: Tensor) -> Tensor:
        """Maps of pairs and transposed pairs, with what members spread over their pairs added.

        Args:
            pairs: features, or None: there are none.
            term: weights of both, (2, channels, outputs).
            spread: (members, 3 or 5, outputs).
        """

    @abstractmethod
    def of_members(self, term: Term) -> Term:
        """The weights that each member has, of those that each subgraph has."""

    def members_of(self, nodes: Tensor) -> Tensor:
        """The features of members, out of those of the rows that they have."""
        return nodes

    def nodes_of(self, members: Tensor) -> Tensor:
        """Those of the rows, out of those of members."""
        return members

    @abstractmethod
    def total(self, members: Tensor) -> Tensor:
        """Sums over the members of each subgraph."""

    @abstractmethod
    def to_members(self, subgraphs: Tensor) -> Tensor:
        """Repeat the row of each subgraph for its members."""


@no_type_check  # a type checker at run time would wrap what torch.compile has to trace
class Dense(Layout):
    """Equal subgraphs of m members in one tensor (subgraphs, m, m, channels).

    Args:
        size: m.
        root: the root of each subgraph, one of 0 ... m - 1, or None.
        count: number of subgraphs.
        device: where they live.
    """

    def __init__(self, size: int, root: Tensor | None, count: int, device: torch.device) -> None:
        self.size, self.count, self.local_root = size, count, root
        self.sizes = torch.full((count,), size, dtype=torch.int64, device=device)
        first = torch.arange(count, device=device) * size
        self.root = None if root is None else first + root

    def reduce(self, pairs: Tensor) -> Tensor:
        """Sums of the pairs of each member."""
        parts = [pairs.diagonal(dim1=1, dim2=2).mT, pairs.sum(2), pairs.sum(1)]
        if self.local_root is not None:
            index = self.local_root[:, None, None, None]
            parts.append(torch.take_along_dim(pairs, index, 2).squeeze(2))
            parts.append(torch.take_along_dim(pairs, index, 1).squeeze(1))
        return torch.stack(parts, 2).flatten(0, 1)

    def linear(self, pairs: Tensor | None, term: Term, spread: Tensor) -> Tensor:
        """Maps of pairs and transposed pairs, with what members spread over their pairs added."""
        diagonal, row, column, *of_root = spread.unflatten(0, (self.count, self.size)).unbind(2)
        y = row[:, :, None] + column[:, None] + torch.diag_embed(diagonal.mT, dim1=1, dim2=2)
        if pairs is not None:
            y = y + pairs @ term.weight[0] + (pairs @ term.weight[1]).transpose(1, 2)
        if self.local_root is not None:
            nodes = torch.arange(self.size, device=self.sizes.device)
            mark = (nodes == self.local_root[:, None]).to(y.dtype)[..., None]
            y = y + of_root[0][:, :, None] * mark[:, None] + of_root[1][:, None] * mark[:, :, None]
        return y

    def of_members(self, term: Term) -> Term:
        """The weights themselves: subgraphs of one size share them."""
        return term

    def total(self, members: Tensor) -> Tensor:
        """Sums over the members of each subgraph."""
        return members.unflatten(0, (self.count, self.size)).sum(1)

    def to_members(self, subgraphs: Tensor) -> Tensor:
        """Repeat the row of each subgraph for its members."""
        return subgraphs[:, None].expand(-1, self.size, *subgraphs.shape[1:]).flatten(0, 1)


@no_type_check  # a type checker at run time would wrap what torch.compile has to trace
class Ragged(Layout):
    """Subgraphs of a plan, with a row for each pair of members.

    Args:
        plan: the subgraphs.
        rooted: whether roots count.
        implementation: of the sums over pairs.
    """

    def __init__(self, plan: SubgraphPlan, rooted: bool, implementation: str) -> None:
        self.plan, self.implementation = plan, implementation
        self.sizes = plan.sizes
        self.root = plan.root if rooted else None
        self.nodes: Nodes | None = None
        self.pairs = Pairs(
            plan.transpose,
            plan.starts,
            plan.pair_starts,
            plan.subgraph,
            plan.row,
            plan.column,
            self.root,
            None,
            None,
            None,
        )

    @property
    def rows(self) -> tuple[int, int, int]:
        """Number of rows of order 0, 1 and 2."""
        return row_counts(self.plan, local=True)

    @property
    def scale(self) -> Tensor | None:
        """Factor of what is spread to each row of pairs."""
        return None

    def reduce(self, pairs: Tensor) -> Tensor:
        """Sums of the pairs of each member."""
        sums = pair_reduce(pairs, None, *self.pairs, self.implementation)
        return sums.unflatten(1, (vector_count(2, self.root is not None), pairs.shape[1]))

    def linear(self, pairs: Tensor | None, term: Term, spread: Tensor) -> Tensor:
        """Maps of pairs and transposed pairs, with what members spread over their pairs added."""
        if pairs is not None and not term.shared:
            none = Term(term.weight.new_empty(2, 0, spread.shape[2]))
            own = term.of_rows(self.plan.subgraph.index_select(0, self.plan.row))
            same, exchanged = (own.maps(k, 1).apply(pairs[:, None]).squeeze(1) for k in (0, 1))
            both = same + gather_nodes(exchanged, self.plan.transpose)
            return both + self.linear(None, none, spread)
        if pairs is None:
            pairs = spread.new_empty(self.pairs.transpose.shape[0], 0)
        return pair_linear(
            pairs, term.weight, spread.flatten(1), self.scale, *self.pairs, self.implementation
        )

    def of_members(self, term: Term) -> Term:
        """The weights that each member has, of those that each subgraph has."""
        return term if term.shared else term.of_rows(self.plan.subgraph)

    def total(self, members: Tensor) -> Tensor:
        """Sums over the members of each subgraph."""
        return segment_sum(members, self.plan.subgraph, self.sizes.shape[0])

    def to_members(self, subgraphs: Tensor) -> Tensor:
        """Repeat the row of each subgraph for its members."""
        return gather_nodes(subgraphs, self.plan.subgraph)


@no_type_check  # a type checker at run time would wrap what torch.compile has to trace
class Shared(Ragged):
    """Subgraphs of a plan that share the rows of the nodes, and pairs of nodes, of the graph.

    What members are given, and what they spread over their pairs, is averaged over the subgraphs
    that a node or pair is in. With rows of the graph, the subgraphs all hold the same pair, so that
    its maps need no average.

    Args:
        plan: the subgraphs.
        rooted: whether roots count.
        implementation: of the sums over pairs.
        dtype: of the features.
    """

    def __init__(
        self, plan: SubgraphPlan, rooted: bool, implementation: str, dtype: torch.dtype
    ) -> None:
        super().__init__(plan, rooted, implementation)
        slots = {
            "transpose": plan.slot_transpose,
            "slot": plan.slot,
            "slot_order": plan.slot_order,
            "slot_starts": plan.slot_starts,
        }
        self.pairs = self.pairs._replace(**slots)
        self.dtype = dtype
        self.nodes = Nodes(plan.node, plan.member_order, plan.member_starts)

    @property
    def rows(self) -> tuple[int, int, int]:
        """Number of rows of order 0, 1 and 2."""
        return self.plan.num_subgraphs, self.plan.num_nodes, self.plan.num_slots

    @property
    def scale(self) -> Tensor:
        """One over the number of pairs of each slot."""
        wide = torch.promote_types(self.dtype, torch.float32)
        return self.plan.slot_counts.clamp(min=1).to(wide).reciprocal()

    def members_of(self, nodes: Tensor) -> Tensor:
        """The features of members, out of those of the nodes."""
        return gather_nodes(nodes, self.plan.node)

    def nodes_of(self, members: Tensor) -> Tensor:
        """The means over the members of each node."""
        return join_copies(members, self.plan, 1, "mean")
