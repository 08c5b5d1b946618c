"""The cost of a policy, without making its plan."""

from jaxtyping import Int
from torch import Tensor

from eqlib.subgraph.plans.arguments import check_graphs
from eqlib.subgraph.plans.copies import copies_cost
from eqlib.subgraph.plans.cost import LIMIT, POLICIES, PlanCost, Policy
from eqlib.subgraph.plans.egos import ego_members


def plan_cost(
    edge_index: Int[Tensor, "2 edges"],
    batch: Int[Tensor, "nodes"] | None = None,
    num_nodes: int | None = None,
    num_graphs: int | None = None,
    *,
    policy: Policy = "ego",
    hops: int = 1,
    limit: int | None = LIMIT,
) -> PlanCost:
    """Pairs and memory of the plan of a policy, against those of whole graphs.

    Ask it of a data set to choose between ego nets and whole graphs.

    Args:
        edge_index: as in :func:`ego_plan`.
        batch: as in :func:`ego_plan`.
        num_nodes: as in :func:`ego_plan`.
        num_graphs: as in :func:`ego_plan`.
        policy: "ego", "node_deleted", "node_marked" or "whole_graph".
        hops: radius of ego nets.
        limit: memory in bytes at which counting the members of ego nets of several hops stops, with
            a lower bound; None: never.

    Returns:
        Both sums of squares and the memory; ``print`` shows them in one line.

    Raises:
        TypeError: as in :func:`ego_plan`.
        ValueError: as in :func:`ego_plan`, save that a plan may be too large, not its nodes alone.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy is {policy!r}; expected one of {', '.join(POLICIES)}")
    graphs = check_graphs(edge_index, batch, num_nodes, num_graphs, limit)
    if policy == "ego":
        return ego_members(graphs, hops, rooted=False, limit=limit)[1]
    return copies_cost(graphs, policy)
