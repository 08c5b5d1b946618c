"""Plans of graphs whose nodes have other numbers, and where their rows come from."""

import torch
from jaxtyping import Int
from torch import Tensor

from eqlib.geometry._checks import check_vector
from eqlib.subgraph.plans.members import assemble
from eqlib.subgraph.plans.plan import SubgraphPlan


def relabel(plan: SubgraphPlan, permutation: Int[Tensor, "nodes"]) -> SubgraphPlan:
    """The plan after node i has become node ``permutation[i]``.

    Subgraphs change places so that the ranks of their centers stay as they are, and keep their
    numbers where they have none: the plan of ego nets becomes that of the relabelled graph, and one
    relabelling after the other is that by the product.

    Args:
        plan: the subgraphs.
        permutation: new number of each node, in its graph.

    Raises:
        TypeError: the permutation is not int64.
        ValueError: it is none of the nodes of the plan, or moves a node to another graph.
    """
    permutation = checked_permutation(plan, permutation)
    subgraphs = source_rows(plan, permutation, 0, local=True)
    members = source_rows(plan, permutation, 1, local=True)
    nodes, root = permutation[plan.node], None
    if plan.root is not None:
        root = nodes[plan.root][subgraphs]
    return assemble(
        nodes[members],
        subgraphs.argsort()[plan.subgraph[members]],
        plan.graph[subgraphs],
        plan.batch,
        plan.num_graphs,
        plan.policy,
        root=root,
        center=None if plan.center is None else permutation[plan.center][subgraphs],
    )


def checked_permutation(plan: SubgraphPlan, permutation: Int[Tensor, "nodes"]) -> Tensor:
    """The permutation on the device of a plan.

    Args:
        plan: the subgraphs.
        permutation: new number of each node.

    Raises:
        TypeError: the permutation is not int64.
        ValueError: it is none of the nodes of the plan, or moves a node to another graph.
    """
    check_vector(permutation, "permutation")
    permutation = permutation.to(plan.device)
    nodes = torch.arange(plan.num_nodes, device=plan.device)
    if not torch.equal(permutation.sort().values, nodes):
        raise ValueError(
            f"permutation has shape {tuple(permutation.shape)}; expected each number of the "
            f"{plan.num_nodes} nodes of the plan once"
        )
    if not torch.equal(plan.batch[permutation], plan.batch):
        raise ValueError("permutation moves nodes to other graphs; expected each in its graph")
    return permutation


def source_rows(
    plan: SubgraphPlan, permutation: Int[Tensor, "nodes"], order: int, local: bool
) -> Int[Tensor, "rows"]:
    """The row of the features that each row of those of the relabelled plan was.

    Args:
        plan: the subgraphs.
        permutation: new number of each node, checked.
        order: 0, 1 or 2.
        local: whether rows are those of the subgraphs.
    """
    if not local:
        if order == 2:
            return _sorted(permutation[plan.pair_index], plan.num_nodes)
        if order == 1 or plan.has_centers:
            return permutation.argsort()
        return torch.arange(plan.num_graphs, device=plan.device)
    if order == 0:
        return _source_subgraphs(plan, permutation)
    place = _source_subgraphs(plan, permutation).argsort()
    nodes = torch.stack([place[plan.subgraph], permutation[plan.node]])
    members = _sorted(nodes, plan.num_nodes)
    if order == 1:
        return members
    place = members.argsort()
    return _sorted(torch.stack([place[plan.row], place[plan.column]]), plan.num_members)


def _source_subgraphs(plan: SubgraphPlan, permutation: Tensor) -> Tensor:
    """The subgraph in each place: its center has the rank that the one before it had."""
    if plan.center is None:
        return torch.arange(plan.num_subgraphs, device=plan.device)
    by_center = plan.center.argsort(stable=True)
    ranked = permutation[plan.center[by_center]].argsort(stable=True)
    return torch.empty_like(by_center).scatter_(0, by_center, by_center[ranked])


def _sorted(indices: Tensor, count: int) -> Tensor:
    """The order that sorts pairs (2, rows) of indices below ``count``, by first, then second."""
    return (indices[0] * count + indices[1]).argsort()
