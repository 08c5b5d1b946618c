"""Plans by loops over plain lists, and graphs to make them of."""

from collections import Counter
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from eqlib.subgraph import SubgraphPlan


class Graphs(NamedTuple):
    """A batch of graphs, with the arguments of the makers of plans."""

    edge_index: Tensor
    batch: Tensor
    num_nodes: int
    num_graphs: int


def stack(*graphs: tuple[int, list[tuple[int, int]]]) -> Graphs:
    """Return the batch of graphs given by their number of nodes and their edges."""
    edges, batch = [], []
    for graph, (nodes, pairs) in enumerate(graphs):
        edges += [(len(batch) + i, len(batch) + j) for i, j in pairs]
        batch += [graph] * nodes
    edge_index = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T
    return Graphs(edge_index, torch.tensor(batch, dtype=torch.int64), len(batch), len(graphs))


def random_graphs(sizes: tuple[int, ...], rng: torch.Generator, density: float = 0.3) -> Graphs:
    """Return graphs with directed edges, self-loops and repetitions in random order."""
    graphs = []
    for nodes in sizes:
        pairs = (torch.rand(nodes, nodes, generator=rng) < density).nonzero()
        pairs = torch.cat([pairs, pairs[: nodes // 2]])
        order = torch.randperm(len(pairs), generator=rng)
        graphs.append((nodes, [tuple(pair) for pair in pairs[order].tolist()]))
    return stack(*graphs)


GRAPHS = {
    "no graph": stack(),
    "empty graphs": stack((0, []), (0, [])),
    "one node": stack((1, [])),
    "a self-loop": stack((1, [(0, 0)])),
    "isolated nodes": stack((3, []), (0, []), (2, [])),
    "an edge": stack((2, [(0, 1), (1, 0)])),
    "a directed edge": stack((2, [(1, 0)])),
    "repeated edges": stack((3, [(0, 1), (0, 1), (1, 0), (2, 2), (2, 2)])),
    "a path between empty graphs": stack((0, []), (4, [(0, 1), (1, 2), (2, 3)]), (0, [])),
    "a star and a triangle": stack(
        (5, [(0, i) for i in range(1, 5)]), (3, [(0, 1), (1, 2), (2, 0)])
    ),
}


def ego_nets(graphs: Graphs, hops: int) -> list[list[int]]:
    """Return the nodes within some hops of each node, found step by step."""
    around = [set() for _ in range(graphs.num_nodes)]
    for i, j in graphs.edge_index.T.tolist():
        around[i].add(j)
        around[j].add(i)
    nets = []
    for node in range(graphs.num_nodes):
        reached = {node}
        for _ in range(hops):
            reached = reached.union(*(around[other] for other in reached))
        nets.append(sorted(reached))
    return nets


def nodes_of(graphs: Graphs) -> list[list[int]]:
    """Return the nodes of each graph."""
    batch = graphs.batch.tolist()
    return [
        [node for node, graph in enumerate(batch) if graph == number]
        for number in range(graphs.num_graphs)
    ]


def plan_of(
    graphs: Graphs,
    subgraphs: list[list[int]],
    graph: list[int],
    policy: str,
    root: list[int] | None = None,
    center: list[int] | None = None,
) -> SubgraphPlan:
    """Return the plan of subgraphs given as lists of nodes, by the definition of its fields."""
    members = [(e, v) for e, nodes in enumerate(subgraphs) for v in nodes]
    pairs = [(e, i, j) for e, nodes in enumerate(subgraphs) for i in nodes for j in nodes]
    stored = sorted({(i, j) for _, i, j in pairs})
    member, pair = _positions(members), _positions(pairs)
    slot = _positions(stored)
    sizes = [len(nodes) for nodes in subgraphs]
    copies, held = Counter((i, j) for _, i, j in pairs), Counter(v for _, v in members)
    fields = {
        "node": [v for _, v in members],
        "subgraph": [e for e, _ in members],
        "starts": _bounds(sizes),
        "pair_starts": _bounds([size**2 for size in sizes]),
        "row": [member[e, i] for e, i, _ in pairs],
        "column": [member[e, j] for e, _, j in pairs],
        "transpose": [pair[e, j, i] for e, i, j in pairs],
        "diagonal": [pair[e, v, v] for e, v in members],
        "root": None if root is None else [member[e, v] for e, v in enumerate(root)],
        "center": center,
        "graph": graph,
        "slot": [slot[i, j] for _, i, j in pairs],
        "pair_index": [[i for i, _ in stored], [j for _, j in stored]],
        "slot_transpose": [slot[j, i] for i, j in stored],
        "slot_order": sorted(range(len(pairs)), key=lambda k: (slot[pairs[k][1:]], k)),
        "slot_starts": _bounds([copies[pair] for pair in stored]),
        "member_order": sorted(range(len(members)), key=lambda k: (members[k][1], k)),
        "member_starts": _bounds([held[node] for node in range(graphs.num_nodes)]),
    }
    indices = {
        name: None if field is None else torch.tensor(field, dtype=torch.int64)
        for name, field in fields.items()
    }
    return SubgraphPlan(**indices, batch=graphs.batch, num_graphs=graphs.num_graphs, policy=policy)


def ego_plan_of(graphs: Graphs, hops: int = 1, rooted: bool = False) -> SubgraphPlan:
    """Return the plan of ego nets."""
    every = list(range(graphs.num_nodes))
    policy = f"ego, {hops} hop{'s' * (hops > 1)}{', rooted' * rooted}"
    nets = ego_nets(graphs, hops)
    return plan_of(graphs, nets, graphs.batch.tolist(), policy, every if rooted else None, every)


def assert_same(plan: SubgraphPlan, expected: SubgraphPlan) -> None:
    """Check every field, its dtype included."""
    for name, found, wanted in zip(plan._fields, plan, expected, strict=True):
        if isinstance(wanted, Tensor):
            assert found.dtype == torch.int64, name
            assert found.tolist() == wanted.tolist(), name
        else:
            assert found == wanted, name


def _positions(rows: list) -> dict:
    return {row: position for position, row in enumerate(rows)}


def _bounds(counts: list[int]) -> list[int]:
    return [0, *accumulate(counts)]
