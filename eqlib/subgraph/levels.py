"""The two levels of features: rows of the graph, and rows of its subgraphs."""

from typing import Literal

import torch
from torch import Tensor

from eqlib.geometry import segment_sum
from eqlib.subgraph.plans.plan import SubgraphPlan

How = Literal["mean", "sum"]


def row_of_graph(plan: SubgraphPlan, order: int) -> Tensor:
    """The row of the graph that each row of the subgraphs is a copy of.

    Args:
        plan: the subgraphs.
        order: 0, 1 or 2.
    """
    return (plan.owner, plan.node, plan.slot)[order]


def row_counts(plan: SubgraphPlan, local: bool) -> tuple[int, int, int]:
    """Numbers of rows of features of orders 0, 1 and 2.

    Args:
        plan: the subgraphs.
        local: whether rows are those of the subgraphs, or of the graph.
    """
    if local:
        return plan.num_subgraphs, plan.num_members, plan.num_pairs
    return plan.num_owners, plan.num_nodes, plan.num_slots


def count_copies(plan: SubgraphPlan, order: int) -> Tensor:
    """Number of copies that the subgraphs hold of each row of the graph.

    Args:
        plan: the subgraphs.
        order: 0, 1 or 2.
    """
    if order == 2:
        return plan.slot_counts
    if order == 1:
        return plan.member_starts.diff()
    return plan.owner.new_zeros(plan.num_owners).scatter_add(
        0, plan.owner, torch.ones_like(plan.owner)
    )


def join_copies(rows: Tensor, plan: SubgraphPlan, order: int, how: How) -> Tensor:
    """The mean or sum of the copies of each row of the graph.

    Args:
        rows: features of an order, on the level of the subgraphs.
        plan: the subgraphs.
        order: 0, 1 or 2.
        how: "mean" or "sum".
    """
    total = segment_sum(rows, row_of_graph(plan, order), row_counts(plan, local=False)[order])
    if how == "sum":
        return total
    wide = torch.promote_types(total.dtype, torch.float32)
    counts = count_copies(plan, order).clamp(min=1).to(wide)
    return (total / counts[:, None]).to(total.dtype)


def graph_of_rows(plan: SubgraphPlan, order: int, local: bool) -> Tensor:
    """The graph of each row.

    Args:
        plan: the subgraphs.
        order: 0, 1 or 2.
        local: whether rows are those of the subgraphs.
    """
    if local:
        if order == 0:
            return plan.graph
        of_members = plan.graph[plan.subgraph]
        return of_members if order == 1 else of_members[plan.row]
    if order == 0 and not plan.has_centers:
        return torch.arange(plan.num_graphs, device=plan.device)
    return plan.batch[plan.pair_index[0]] if order == 2 else plan.batch


def off_diagonal(plan: SubgraphPlan, local: bool) -> Tensor:
    """Whether each pair is one of two nodes, and not of a node with itself.

    Args:
        plan: the subgraphs.
        local: whether rows are those of the subgraphs.
    """
    first, second = (plan.row, plan.column) if local else plan.pair_index.unbind()
    return first != second
