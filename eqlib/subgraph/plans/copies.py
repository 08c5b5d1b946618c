"""Plans whose subgraphs are all of a graph, or all but one node."""

from jaxtyping import Int
from torch import Tensor

from eqlib.subgraph.plans.arguments import GraphBatch, check_graphs
from eqlib.subgraph.plans.cost import LIMIT, PlanCost, check_cost
from eqlib.subgraph.plans.members import arange, assemble, bounds
from eqlib.subgraph.plans.plan import SubgraphPlan


def whole_graph_plan(
    edge_index: Int[Tensor, "2 edges"],
    batch: Int[Tensor, "nodes"] | None = None,
    num_nodes: int | None = None,
    num_graphs: int | None = None,
    *,
    limit: int | None = LIMIT,
) -> SubgraphPlan:
    """One subgraph per graph: all of its nodes, for networks of second order on whole graphs.

    Args:
        edge_index: source and target of each edge; only checked, as all pairs are stored.
        batch: graph of each node, ascending; None: one graph.
        num_nodes: number of nodes; None: that of ``batch``, otherwise up to the last with an edge.
        num_graphs: number of graphs; None: up to the last one that has a node, and one without
            ``batch``.
        limit: memory that the plan and one float32 channel of its pairs may take, in bytes; None:
            any.

    Returns:
        The plan. Subgraphs have neither root nor center: each belongs to its graph.

    Raises:
        TypeError: as in :func:`ego_plan`.
        ValueError: as in :func:`ego_plan`.

    Source:
        Maron et al., Invariant and Equivariant Graph Networks, ICLR 2019.
    """
    graphs = check_graphs(edge_index, batch, num_nodes, num_graphs, limit)
    cost = copies_cost(graphs, "whole_graph")
    check_cost(cost, limit)
    return assemble(
        arange(graphs.num_nodes, edge_index),
        graphs.batch.clone(),
        arange(graphs.num_graphs, edge_index),
        graphs.batch,
        graphs.num_graphs,
        cost.policy,
        disjoint=True,
    )


def node_deleted_plan(
    edge_index: Int[Tensor, "2 edges"],
    batch: Int[Tensor, "nodes"] | None = None,
    num_nodes: int | None = None,
    num_graphs: int | None = None,
    *,
    limit: int | None = LIMIT,
) -> SubgraphPlan:
    """One subgraph per node: its graph without the node.

    Args:
        edge_index: as in :func:`whole_graph_plan`.
        batch: as in :func:`whole_graph_plan`.
        num_nodes: as in :func:`whole_graph_plan`.
        num_graphs: as in :func:`whole_graph_plan`.
        limit: as in :func:`whole_graph_plan`.

    Returns:
        The plan. The deleted node is the center of its subgraph; there is no root. In a graph of
        one node the subgraph has no members, and in one of two nodes no subgraph holds both, so
        that these pairs are not stored.

    Raises:
        TypeError: as in :func:`ego_plan`.
        ValueError: as in :func:`ego_plan`.

    Source:
        Bevilacqua et al., Equivariant Subgraph Aggregation Networks, ICLR 2022.
    """
    return _copies("node_deleted", edge_index, batch, num_nodes, num_graphs, limit)


def node_marked_plan(
    edge_index: Int[Tensor, "2 edges"],
    batch: Int[Tensor, "nodes"] | None = None,
    num_nodes: int | None = None,
    num_graphs: int | None = None,
    *,
    limit: int | None = LIMIT,
) -> SubgraphPlan:
    """One subgraph per node: all of its graph, with the node as root.

    Args:
        edge_index: as in :func:`whole_graph_plan`.
        batch: as in :func:`whole_graph_plan`.
        num_nodes: as in :func:`whole_graph_plan`.
        num_graphs: as in :func:`whole_graph_plan`.
        limit: as in :func:`whole_graph_plan`.

    Returns:
        The plan. The marked node is root and center of its subgraph.

    Raises:
        TypeError: as in :func:`ego_plan`.
        ValueError: as in :func:`ego_plan`.

    Source:
        Bevilacqua et al., Equivariant Subgraph Aggregation Networks, ICLR 2022.
    """
    return _copies("node_marked", edge_index, batch, num_nodes, num_graphs, limit)


def copies_cost(graphs: GraphBatch, policy: str) -> PlanCost:
    """What subgraphs cost that are all of a graph, or all but one node."""
    # Integers of Python: sums of n^3 pass 2^63 at n = 2,097,152.
    sizes = graphs.sizes.tolist()
    if policy == "whole_graph":
        copies, kept = [1] * len(sizes), sizes
    elif policy == "node_deleted":
        copies, kept = sizes, [max(size - 1, 0) for size in sizes]
    else:
        copies, kept = sizes, sizes
    return PlanCost(
        policy=policy.replace("_", " "),
        pairs=sum(copy * size * size for copy, size in zip(copies, kept, strict=True)),
        whole_pairs=sum(size * size for size in sizes),
        members=sum(copy * size for copy, size in zip(copies, kept, strict=True)),
        subgraphs=sum(copies),
        nodes=graphs.num_nodes,
    )


def _copies(
    policy: str,
    edge_index: Tensor,
    batch: Tensor | None,
    num_nodes: int | None,
    num_graphs: int | None,
    limit: int | None,
) -> SubgraphPlan:
    """The plan of one copy of the graph for each node, without or with that node marked."""
    graphs = check_graphs(edge_index, batch, num_nodes, num_graphs, limit)
    cost = copies_cost(graphs, policy)
    check_cost(cost, limit)
    nodes = arange(graphs.num_nodes, edge_index)
    width = graphs.sizes[graphs.batch]
    subgraph = nodes.repeat_interleave(width)
    first = bounds(graphs.sizes)[graphs.batch]
    node = arange(subgraph.shape[0], nodes) + (first - bounds(width)[:-1])[subgraph]
    if policy == "node_deleted":
        kept = node != subgraph
        node, subgraph = node[kept], subgraph[kept]
    return assemble(
        node,
        subgraph,
        graphs.batch,
        graphs.batch,
        graphs.num_graphs,
        cost.policy,
        root=nodes if policy == "node_marked" else None,
        center=nodes,
    )
