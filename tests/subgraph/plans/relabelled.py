"""Graphs with relabelled nodes, and what a plan says in terms of nodes."""

import torch

from tests.subgraph.plans.oracle import Graphs


def relabelling(graphs, rng):
    """Return where each node goes: another place in its graph."""
    noise = torch.rand(graphs.num_nodes, dtype=torch.float64, generator=rng)
    return (graphs.batch + noise).argsort().argsort()


def relabelled(graphs: Graphs, target: torch.Tensor) -> Graphs:
    return graphs._replace(edge_index=target[graphs.edge_index])


def described(plan, target):
    """Return what a plan says, in terms of nodes, whose names are given by ``target``."""
    name = target.tolist()
    node = [name[v] for v in plan.node.tolist()]
    owner = plan.owner.tolist()
    owner = [name[v] for v in owner] if plan.has_centers else owner
    members = [set() for _ in owner]
    for v, e in zip(node, plan.subgraph.tolist(), strict=True):
        members[e].add(v)
    roots = [] if plan.root is None else [node[k] for k in plan.root.tolist()]
    pairs = {
        (owner[plan.subgraph[i]], node[i], node[j], *[name[v] for v in plan.pair_index[:, s]])
        for i, j, s in torch.stack([plan.row, plan.column, plan.slot], 1).tolist()
    }
    held = torch.stack([*target[plan.pair_index], plan.slot_counts], 1).tolist()
    return {
        "members": sorted(zip(owner, map(sorted, members), strict=True)),
        "roots": sorted(zip(roots, map(sorted, members), strict=False)),
        "pairs": pairs,
        "stored pairs": sorted(map(tuple, held)),
        "graphs": plan.graph.tolist(),
    }
