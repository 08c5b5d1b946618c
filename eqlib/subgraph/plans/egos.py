"""Ego nets: for every node, the nodes around it."""

import warnings
from typing import Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from eqlib.geometry._checks import check_count
from eqlib.subgraph.plans.arguments import GraphBatch, check_graphs
from eqlib.subgraph.plans.copies import whole_graph_plan
from eqlib.subgraph.plans.cost import (
    LIMIT,
    PAIR_BYTES,
    CostWarning,
    PlanCost,
    check_cost,
)
from eqlib.subgraph.plans.members import arange, assemble, bounds
from eqlib.subgraph.plans.plan import SubgraphPlan

WhenDearer = Literal["warn", "whole", "ignore"]
CHOICES = get_args(WhenDearer)


def ego_plan(
    edge_index: Int[Tensor, "2 edges"],
    batch: Int[Tensor, "nodes"] | None = None,
    num_nodes: int | None = None,
    num_graphs: int | None = None,
    *,
    hops: int = 1,
    rooted: bool = False,
    when_dearer: WhenDearer = "warn",
    limit: int | None = LIMIT,
) -> SubgraphPlan:
    r"""One subgraph per node: the node and all others within some hops.

    .. math:: V_e = \{v : d(e, v) \le \text{hops}\},

    with d the number of edges of a shortest path, edges being followed in both directions.
    Relabelling the nodes relabels the plan.

    Args:
        edge_index: source and target of each edge. Directions, repetitions and self-loops change
            no ego net; an isolated node is an ego net by itself.
        batch: graph of each node, ascending; None: one graph.
        num_nodes: number of nodes; None: that of ``batch``, otherwise up to the last with an edge.
        num_graphs: number of graphs; None: up to the last one that has a node, and one without
            ``batch``.
        hops: radius of the subgraphs, at least 1.
        rooted: whether each subgraph has its center as marked member.
        when_dearer: what happens where the ego nets hold more pairs than the whole graphs: "warn"
            makes the plan with a :class:`CostWarning`, "ignore" without, and "whole" makes the plan
            of the whole graphs, with that warning. Choose for a data set, not batch by batch:
            features of ego nets and of whole graphs differ.
        limit: memory that the plan and one float32 channel of its pairs may take, in bytes; None:
            any.

    Returns:
        The plan. Subgraph e belongs to node e.

    Raises:
        TypeError: an index is no int64 tensor, or a number has another type.
        ValueError: ``edge_index`` is not of shape (2, edges), an index is out of range, ``batch``
            is not sorted or does not fit, an edge joins two graphs, an option is unknown, a whole
            graph would need a root, or the plan is larger than ``limit``, which is found out first.

    Source:
        Mitton and Murray-Smith, Subgraph Permutation Equivariant Networks, TMLR 2023; there, ego
        nets lose their center where edge lists have no self-loops.
    """
    check_choice(when_dearer, rooted)
    graphs = check_graphs(edge_index, batch, num_nodes, num_graphs, limit)
    keys, cost = ego_members(graphs, hops, rooted, limit)
    if when_dearer != "ignore" and cost.is_dearer:
        warnings.warn(_describe(cost, when_dearer), CostWarning, stacklevel=2)
        if when_dearer == "whole":
            return whole_graph_plan(edge_index, batch, num_nodes, num_graphs, limit=limit)
    check_cost(cost, limit)
    nodes = arange(graphs.num_nodes, edge_index)
    subgraph = keys // max(graphs.num_nodes, 1)
    return assemble(
        keys - subgraph * graphs.num_nodes,
        subgraph,
        graphs.batch,
        graphs.batch,
        graphs.num_graphs,
        cost.policy,
        root=nodes if rooted else None,
        center=nodes,
    )


def ego_members(
    graphs: GraphBatch, hops: int, rooted: bool, limit: int | None
) -> tuple[Tensor, PlanCost]:
    """Members of ego nets as sorted numbers center * nodes + node, and what the plan costs.

    Where the plan is found to be larger than ``limit``, members are missing and the cost is a lower
    bound.
    """
    check_count("hops", hops, least=1)
    nodes = graphs.num_nodes
    source, target = graphs.edge_index
    own = arange(nodes, source) * (nodes + 1)
    members = torch.cat([source * nodes + target, target * nodes + source, own]).unique()
    cost = _cost(graphs, hops, rooted, members)
    if hops == 1 or nodes == 0:
        return members, cost
    # A center is its own neighbour here: that adds no member, and candidates stay below m^2.
    center = members // nodes
    neighbour = members - center * nodes
    degree = torch.bincount(center, minlength=nodes)
    starts = bounds(degree)
    frontier = members[center != neighbour]
    for _ in range(hops - 1):
        center = frontier // nodes
        around = frontier - center * nodes
        counts = degree[around]
        found = int(counts.sum())
        # Each candidate is a pair (v, u) of the final ego net: as many as there are pairs at most.
        if limit is not None and max(found, cost.pairs) * PAIR_BYTES > limit:
            return members, cost._replace(pairs=max(found, cost.pairs), bounded=True)
        shift = (starts[around] - bounds(counts)[:-1]).repeat_interleave(counts, output_size=found)
        candidates = (center * nodes).repeat_interleave(counts, output_size=found)
        candidates += neighbour[arange(found, shift) + shift]
        reached = torch.cat([members, candidates]).unique()
        new = torch.ones_like(reached, dtype=torch.bool)
        new[torch.searchsorted(reached, members)] = False
        members, frontier = reached, reached[new]
        cost = _cost(graphs, hops, rooted, members)
        if frontier.shape[0] == 0:
            break
    return members, cost


def check_choice(when_dearer: str, rooted: bool) -> None:
    """Raise unless it is known what happens where ego nets are dearer than whole graphs."""
    if when_dearer not in CHOICES:
        raise ValueError(f"when_dearer is {when_dearer!r}; expected one of {', '.join(CHOICES)}")
    if when_dearer == "whole" and rooted:
        raise ValueError(
            'when_dearer is "whole" and rooted is True; a whole graph has no root: expected '
            'when_dearer="warn" or "ignore", rooted=False, or node_marked_plan'
        )


def _cost(graphs: GraphBatch, hops: int, rooted: bool, members: Tensor) -> PlanCost:
    nodes = graphs.num_nodes
    sizes = torch.bincount(members // max(nodes, 1), minlength=nodes)
    plural = "" if hops == 1 else "s"
    return PlanCost(
        policy=f"ego, {hops} hop{plural}{', rooted' if rooted else ''}",
        pairs=int((sizes * sizes).sum()),
        whole_pairs=int((graphs.sizes * graphs.sizes).sum()),
        members=members.shape[0],
        subgraphs=nodes,
        nodes=nodes,
    )


def _describe(cost: PlanCost, when_dearer: str) -> str:
    least = "at least " if cost.bounded else ""
    made = "whole graphs" if when_dearer == "whole" else "ego nets"
    return (
        f"{cost.policy}: ego nets hold sum m^2 = {least}{cost.pairs:,} pairs of nodes and whole "
        f"graphs sum n^2 = {cost.whole_pairs:,}; the plan is that of the {made}. Choose for the "
        'data set: whole_graph_plan, or ego_plan with when_dearer="ignore"'
    )
