"""Plans of subgraphs that the user chooses."""

import torch
from jaxtyping import Int
from torch import Tensor

from eqlib.geometry._checks import check_count, check_range, graph_sizes
from eqlib.subgraph.plans.arguments import check_indices
from eqlib.subgraph.plans.cost import LIMIT, PlanCost, check_cost, check_limit
from eqlib.subgraph.plans.members import assemble
from eqlib.subgraph.plans.plan import SubgraphPlan


def custom_plan(
    node: Int[Tensor, "members"],
    subgraph: Int[Tensor, "members"],
    batch: Int[Tensor, "nodes"],
    num_graphs: int | None = None,
    *,
    graph: Int[Tensor, "subgraphs"] | None = None,
    root: Int[Tensor, "subgraphs"] | None = None,
    center: Int[Tensor, "subgraphs"] | None = None,
    policy: str = "custom",
    limit: int | None = LIMIT,
) -> SubgraphPlan:
    """Subgraphs given by their members, such as rings, cliques or sampled neighbourhoods.

    Networks on the plan are equivariant as far as the choice of subgraphs follows a relabelling of
    the nodes.

    Args:
        node: node of the batch that each member is, in any order.
        subgraph: subgraph of each member. Subgraphs are numbered graph by graph.
        batch: graph of each node, ascending.
        num_graphs: number of graphs; None: up to the last one that has a node.
        graph: graph of each subgraph, ascending; needed where a subgraph has no members. None: that
            of its members.
        root: node of each subgraph that is marked; None: there is none.
        center: node that each subgraph belongs to; None: it belongs to its graph.
        policy: how the subgraphs were chosen, in words.
        limit: memory that the plan and one float32 channel of its pairs may take, in bytes; None:
            any.

    Returns:
        The plan, with members in the order of subgraphs, then nodes.

    Raises:
        TypeError: an index is no int64 tensor, or a number has another type.
        ValueError: tensors are on different devices, an index is out of range, a subgraph has a
            node twice or nodes of two graphs, a subgraph without members has no graph, graphs are
            not ascending, a root is no member, a center is in another graph, or the plan is larger
            than ``limit``.
    """
    check_limit(limit)
    graphs = _check_members(node, subgraph, batch, num_graphs)
    graph = _graph_of_subgraphs(subgraph, batch[node], graph, graphs.shape[0])
    for name, chosen in (("root", root), ("center", center)):
        if chosen is not None:
            _check_nodes(name, chosen, graph, batch)
    sizes = torch.bincount(subgraph, minlength=graph.shape[0])
    cost = PlanCost(
        policy=policy,
        pairs=int((sizes * sizes).sum()),
        whole_pairs=int((graphs * graphs).sum()),
        members=node.shape[0],
        subgraphs=graph.shape[0],
        nodes=batch.shape[0],
    )
    check_cost(cost, limit)
    node, subgraph = _sort(node, subgraph, batch.shape[0])
    if root is not None:
        _check_roots(root, node, subgraph)
    return assemble(node, subgraph, graph, batch, graphs.shape[0], policy, root, center)


def _check_members(node: Tensor, subgraph: Tensor, batch: Tensor, num_graphs: int | None) -> Tensor:
    """Return the number of nodes of each graph, where members are nodes of the batch."""
    if num_graphs is not None:
        check_count("num_graphs", num_graphs)
    for name, index in (("node", node), ("subgraph", subgraph), ("batch", batch)):
        check_indices(name, index)
        if index.device != node.device:
            raise ValueError(f"{name} is on {index.device} and node on {node.device}; move one")
    if node.shape != subgraph.shape:
        raise ValueError(
            f"subgraph has shape {tuple(subgraph.shape)} and node {tuple(node.shape)}; expected "
            "one entry each for every member"
        )
    sizes = graph_sizes(batch, num_graphs)
    if node.shape[0]:
        check_range(node, batch.shape[0], "node", "number of nodes")
    return sizes


def _graph_of_subgraphs(
    subgraph: Tensor, of_member: Tensor, graph: Tensor | None, num_graphs: int
) -> Tensor:
    """Return the graph of each subgraph, where all of its members are."""
    least = int(subgraph.min()) if subgraph.shape[0] else 0
    count = int(subgraph.max()) + 1 if subgraph.shape[0] else 0
    if least < 0:
        raise ValueError(f"subgraph has the entry {least}; expected at least 0")
    if graph is None:
        if count > subgraph.shape[0] or bool((torch.bincount(subgraph) == 0).any()):
            raise ValueError(
                "subgraph skips a number; give graph, the graph of each subgraph, where there are "
                "subgraphs without members"
            )
        graph = subgraph.new_zeros(count).index_copy(0, subgraph, of_member)
    else:
        check_indices("graph", graph)
        if graph.shape[0]:
            check_range(graph, num_graphs, "graph", "num_graphs")
        if graph.shape[0] < count:
            raise ValueError(
                f"graph has {graph.shape[0]} entries and subgraph goes up to {count - 1}; expected "
                "the graph of each subgraph"
            )
    if bool((graph.diff() < 0).any()):
        raise ValueError("subgraph: expected subgraphs numbered graph by graph, in their order")
    strays = (graph[subgraph] != of_member).nonzero()
    if strays.shape[0]:
        member = int(strays[0])
        raise ValueError(
            f"subgraph {int(subgraph[member])} belongs to graph {int(graph[subgraph[member]])} and "
            f"has a node of graph {int(of_member[member])}; expected nodes of one graph"
        )
    return graph


def _check_nodes(name: str, chosen: Tensor, graph: Tensor, batch: Tensor) -> None:
    """Raise unless there is a node for each subgraph, of its graph."""
    check_indices(name, chosen)
    if chosen.shape != graph.shape:
        raise ValueError(
            f"{name} has shape {tuple(chosen.shape)}; expected a node for each of "
            f"{graph.shape[0]} subgraphs"
        )
    if chosen.shape[0]:
        check_range(chosen, batch.shape[0], name, "number of nodes")
    if bool((batch[chosen] != graph).any()):
        raise ValueError(f"{name} has a node of another graph than its subgraph")


def _sort(node: Tensor, subgraph: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Return the members in the order of subgraphs, then nodes."""
    keys = (subgraph * nodes + node).sort().values
    if bool((keys.diff() == 0).any()):
        twice = int(keys[:-1][keys.diff() == 0][0])
        raise ValueError(
            f"node: subgraph {twice // nodes} has node {twice % nodes} twice; expected each once"
        )
    subgraph = keys // max(nodes, 1)
    return keys - subgraph * nodes, subgraph


def _check_roots(root: Tensor, node: Tensor, subgraph: Tensor) -> None:
    marked = subgraph[node == root[subgraph]]
    if marked.shape[0] != root.shape[0]:
        missing = torch.bincount(marked, minlength=root.shape[0]) == 0
        first = int(missing.nonzero()[0])
        raise ValueError(
            f"root: node {int(root[first])} is no member of subgraph {first}; expected a member"
        )
