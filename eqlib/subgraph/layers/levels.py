"""The two levels of features: rows of the graph, and rows of its subgraphs."""

import torch
from torch import Tensor

from eqlib.subgraph.plans.plan import SubgraphPlan


def row_of_graph(plan: SubgraphPlan, order: int) -> Tensor:
    """The row of the graph that each row of the subgraphs is a copy of.

    Args:
        plan: the subgraphs.
        order: 0, 1 or 2.
    """
    return (plan.owner, plan.node, plan.slot)[order]


def count_rows(plan: SubgraphPlan, order: int) -> int:
    """Number of rows of the graph.

    Args:
        plan: the subgraphs.
        order: 0, 1 or 2.
    """
    return (plan.num_owners, plan.num_nodes, plan.num_slots)[order]


def count_copies(plan: SubgraphPlan, order: int) -> Tensor:
    """Number of copies that the subgraphs hold of each row of the graph.

    Args:
        plan: the subgraphs.
        order: 0, 1 or 2.
    """
    if order == 2:
        return plan.slot_starts.diff()
    if order == 1:
        return plan.member_starts.diff()
    return plan.owner.new_zeros(plan.num_owners).scatter_add(
        0, plan.owner, torch.ones_like(plan.owner)
    )


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
