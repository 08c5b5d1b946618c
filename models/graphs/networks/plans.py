"""Which subgraphs a network sees: the choice, and the plan that follows from it."""

from typing import Literal, NamedTuple, get_args

from jaxtyping import Int
from torch import Tensor

from eqlib import subgraph
from eqlib.subgraph import SubgraphPlan
from eqlib.usage import UsageError, unknown

Policy = Literal["ego", "node_deleted", "node_marked", "whole", "auto"]
POLICIES = get_args(Policy)


class PlanOptions(NamedTuple):
    """Which subgraphs a network sees.

    Args:
        policy: "ego", the neighbourhood of each node; "node_deleted", the graph without each node;
            "node_marked", the graph with each node as the root of a copy; "whole", the graph alone;
            "auto", of "ego" and "whole" the one with fewer pairs in a data set; see `settled`.
        hops: how far ego nets reach, in edges.
        rooted: whether the centers of ego nets are marked.
    """

    policy: Policy = "ego"
    hops: int = 1
    rooted: bool = False

    @property
    def marks(self) -> bool:
        """Whether each subgraph has a root."""
        return self.policy == "node_marked" or (self.rooted and self.policy == "ego")

    def settled(self) -> "PlanOptions":
        """Return these options with "ego" for "auto" where hops or roots ask for ego nets.

        Raises:
            UsageError: an option is wrong or does not go with another.
        """
        implied = self.policy == "auto" and (self.hops != 1 or self.rooted)
        found = self._replace(policy="ego") if implied else self
        found._check()
        return found

    def _check(self) -> None:
        """Raise a `UsageError` where an option is wrong or does not go with another."""
        if self.policy not in POLICIES:
            raise unknown("policy", self.policy, POLICIES)
        if self.hops < 1:
            raise UsageError(f"hops: expected 1 or more, got {self.hops}")
        if self.hops != 1 and self.policy != "ego":
            raise UsageError(
                f"hops: got {self.hops}, but policy {self.policy!r} has no ego nets to reach "
                "further; take policy 'ego', or leave hops out"
            )
        if self.rooted and self.policy not in ("ego", "node_marked"):
            raise UsageError(
                f"rooted: the subgraphs of policy {self.policy!r} have no root to mark; take "
                "policy 'ego' or 'node_marked', or rooted=False"
            )


def make_plan(
    options: PlanOptions,
    edge_index: Int[Tensor, "2 edges"],
    batch: Int[Tensor, "nodes"],
    num_graphs: int,
) -> SubgraphPlan:
    """Return the plan of the subgraphs of a batch, with a choice that is left open made for it.

    Args:
        options: which subgraphs.
        edge_index: edges of all graphs.
        batch: graph of each node, sorted.
        num_graphs: number of graphs.
    """
    policy = options.policy
    if policy == "auto":
        policy = cheapest_policy(options, edge_index, batch, num_graphs)
    graphs = (edge_index, batch, None, num_graphs)
    if policy == "ego":
        return subgraph.ego_plan(
            *graphs, hops=options.hops, rooted=options.rooted, when_dearer="ignore"
        )
    if policy == "node_deleted":
        return subgraph.node_deleted_plan(*graphs)
    if policy == "node_marked":
        return subgraph.node_marked_plan(*graphs)
    return subgraph.whole_graph_plan(*graphs)


def cheapest_policy(
    options: PlanOptions,
    edge_index: Int[Tensor, "2 edges"],
    batch: Int[Tensor, "nodes"],
    num_graphs: int,
) -> Literal["ego", "whole"]:
    """Return which of ego nets and whole graphs have fewer pairs of nodes, without making them.

    A choice for a data set: one for each batch would make a network's answer depend on the graphs
    that happen to be beside a graph.

    Args:
        options: reach of the ego nets.
        edge_index: edges of all graphs.
        batch: graph of each node, sorted.
        num_graphs: number of graphs.
    """
    cost = subgraph.plan_cost(edge_index, batch, None, num_graphs, hops=options.hops)
    return "whole" if cost.is_dearer else "ego"


def plan_figures(plan: SubgraphPlan) -> dict[str, str | int]:
    """Return what a report says of a plan: policy, pairs, and those of the whole graphs."""
    return {
        "policy": plan.policy,
        "subgraphs": plan.num_subgraphs,
        "pairs": plan.num_pairs,
        "stored_pairs": plan.num_slots,
        "pairs_whole": plan.num_whole_pairs,
    }


def check_decided(options: PlanOptions) -> None:
    """Raise where a batch would have to decide what holds for a data set."""
    if options.policy == "auto":
        raise ValueError(
            "plan: None with policy 'auto', which is decided for a data set, not for each batch; "
            "expected plan.select(graphs) of the plan that make_plan gives for all graphs, or a "
            "network with policy 'ego' or 'whole'"
        )


def check_plan(plan: SubgraphPlan, num_nodes: int, num_graphs: int) -> None:
    """Raise unless a plan is of as many nodes and graphs."""
    if plan.num_nodes != num_nodes or plan.num_graphs != num_graphs:
        raise ValueError(
            f"plan: is of {plan.num_nodes} nodes in {plan.num_graphs} graphs, expected {num_nodes} "
            f"in {num_graphs}: make it of these very graphs, or take plan.select(graphs) of that "
            "of a larger batch"
        )
