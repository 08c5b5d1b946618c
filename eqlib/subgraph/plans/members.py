"""From the members of subgraphs to their plan."""

import torch
from torch import Tensor

from eqlib.subgraph.plans.plan import SubgraphPlan


def assemble(
    node: Tensor,
    subgraph: Tensor,
    graph: Tensor,
    batch: Tensor,
    num_graphs: int,
    policy: str,
    root: Tensor | None = None,
    center: Tensor | None = None,
    disjoint: bool = False,
) -> SubgraphPlan:
    """Return the plan of subgraphs given by their members; nothing is checked.

    No two fields are one tensor, as torch.compile would count on their being one in all plans, nor
    is one an argument, which somebody may write to.

    Args:
        node: node that each member is; members are sorted by subgraph, then node.
        subgraph: subgraph of each member.
        graph: graph of each subgraph, ascending.
        batch: graph of each node, ascending.
        num_graphs: number of graphs.
        policy: how the subgraphs were chosen, in words.
        root: node of each subgraph that is marked.
        center: node that each subgraph belongs to.
        disjoint: whether ``node`` is ascending without repetition, which saves sorting pairs.
    """
    sizes = torch.bincount(subgraph, minlength=graph.shape[0])
    starts = bounds(sizes)
    row, column, transpose, diagonal = _pairs(subgraph, sizes, starts)
    first, second = node.index_select(0, row), node.index_select(0, column)
    slot, slot_order, slot_starts = _rank(first, second, batch, disjoint)
    example = slot_order[slot_starts[:-1]]
    return SubgraphPlan(
        node=node,
        subgraph=subgraph,
        starts=starts,
        pair_starts=bounds(sizes * sizes),
        row=row,
        column=column,
        transpose=transpose,
        diagonal=diagonal,
        root=None if root is None else (node == root[subgraph]).nonzero().flatten(),
        center=None if center is None else center.clone(),
        graph=graph.clone(),
        pair_index=torch.stack([first[example], second[example]]),
        slot_transpose=slot[transpose[example]],
        slot_order=slot_order,
        slot_starts=slot_starts,
        slot=slot,
        member_order=node.argsort(stable=True),
        member_starts=bounds(torch.bincount(node, minlength=batch.shape[0])),
        batch=batch.clone(),
        num_graphs=num_graphs,
        policy=policy,
    )


def bounds(counts: Tensor) -> Tensor:
    """First row of each of consecutive blocks of rows, and the number of rows."""
    total = counts.new_zeros(counts.shape[0] + 1)
    torch.cumsum(counts, 0, out=total[1:])
    return total


def arange(count: int, like: Tensor) -> Tensor:
    """The integers below ``count``, on the device of a tensor."""
    return torch.arange(count, device=like.device)


def _pairs(
    subgraph: Tensor, sizes: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both members and the transpose of each pair, and the pair (i, i) of each member."""
    width, first_member = sizes[subgraph], starts[subgraph]
    first_pair = bounds(width)
    members, pairs = subgraph.shape[0], int(first_pair[-1])
    row = arange(members, subgraph).repeat_interleave(width, output_size=pairs)
    # The pairs of member i are a block: one for each member of its subgraph, in their order.
    column = arange(pairs, subgraph)
    column += (first_member - first_pair[:-1]).index_select(0, row)
    rank = arange(members, subgraph) - first_member
    transpose = first_pair.index_select(0, column)
    transpose += rank.index_select(0, row)
    return row, column, transpose, first_pair[:-1] + rank


def _keys(first: Tensor, second: Tensor, batch: Tensor) -> Tensor:
    """Numbers in the order of pairs of nodes, in 32 bits where these do, which sort faster."""
    if batch.shape[0] == 0:
        return first
    counts = torch.bincount(batch)
    largest = int(counts.max())
    local = arange(batch.shape[0], batch) - bounds(counts)[batch]
    dtype = torch.int32 if batch.shape[0] * largest < 2**31 else torch.int64
    keys = first.to(dtype) * largest
    keys += local.to(dtype).index_select(0, second)
    return keys


def _rank(
    first: Tensor, second: Tensor, batch: Tensor, disjoint: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Rank of each pair of nodes among the different ones, their order, and where each begins."""
    if disjoint:
        pairs = first.shape[0]
        return arange(pairs, first), arange(pairs, first), arange(pairs + 1, first)
    ordered, order = _keys(first, second, batch).sort(stable=True)
    new = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=new[1:])
    rank = torch.empty_like(order)
    rank[order] = new.cumsum(0) - 1
    end = order.new_tensor([order.shape[0]])
    return rank, order, torch.cat([new.nonzero().flatten(), end])
