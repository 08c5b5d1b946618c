"""Batches of small graphs, plans of all policies, and relabelled copies of both."""

from typing import NamedTuple

import torch
from torch import Tensor

from eqlib.subgraph import (
    Features,
    SubgraphPlan,
    custom_plan,
    ego_plan,
    node_deleted_plan,
    node_marked_plan,
    whole_graph_plan,
)

POLICIES = {
    "ego": lambda graphs: ego_plan(*graphs, when_dearer="ignore"),
    "ego rooted": lambda graphs: ego_plan(*graphs, rooted=True, when_dearer="ignore"),
    "ego 2": lambda graphs: ego_plan(*graphs, hops=2, rooted=True, when_dearer="ignore"),
    "deleted": lambda graphs: node_deleted_plan(*graphs),
    "marked": lambda graphs: node_marked_plan(*graphs),
    "whole": lambda graphs: whole_graph_plan(*graphs),
}
ROOTED = ("ego rooted", "ego 2", "marked")


class Graphs(NamedTuple):
    """A batch, in the order of the arguments of the makers of plans."""

    edge_index: Tensor
    batch: Tensor
    num_nodes: int
    num_graphs: int


def random_graphs(rng, sizes=(4, 1, 6, 0, 5), density=0.35):
    """Return graphs with directed edges; some nodes are isolated."""
    edges, first = [torch.zeros(0, 2, dtype=torch.int64)], 0
    for nodes in sizes:
        joined = (torch.rand(nodes, nodes, generator=rng) < density).triu(1)
        edges.append(joined.nonzero() + first)
        first += nodes
    counts = torch.tensor(sizes, dtype=torch.int64)
    batch = torch.repeat_interleave(torch.arange(len(sizes)), counts)
    edge_index = torch.cat(edges).T
    return Graphs(torch.cat([edge_index, edge_index[:, ::2].flip(0)], 1), batch, first, len(sizes))


def ragged_plan(sizes=(1, 2, 3, 5, 1, 4), rooted=False):
    """Return a plan of subgraphs that share no node, each a graph; roots are their last nodes."""
    counts = torch.tensor(sizes, dtype=torch.int64)
    batch = torch.repeat_interleave(torch.arange(len(sizes)), counts)
    last = counts.cumsum(0) - 1
    graph, root = torch.arange(len(sizes)), last if rooted else None
    nodes = torch.arange(len(batch))
    return custom_plan(nodes, batch, batch, len(sizes), graph=graph, root=root)


def features(rng, rows, channels=(3, 2, 5), dtype=torch.float64):
    """Return features with some number of rows of orders 2, 1 and 0."""
    return Features(
        *(
            torch.randn(count, c, generator=rng, dtype=torch.float64).to(dtype)
            for count, c in zip(rows, channels, strict=True)
        )
    )


def graph_rows(plan):
    return plan.num_slots, plan.num_nodes, plan.num_owners


def local_rows(plan):
    return plan.num_pairs, plan.num_members, plan.num_subgraphs


class Relabelling(NamedTuple):
    """Graphs in another order, with nodes in another order."""

    node: Tensor
    """New number of each node."""
    graph: Tensor
    """New number of each graph."""

    @classmethod
    def draw(cls, graphs, rng):
        """Draw an order of the graphs, and one of the nodes of each graph."""
        graph = torch.randperm(graphs.num_graphs, generator=rng)
        keys = graph[graphs.batch] + torch.rand(graphs.num_nodes, generator=rng)
        return cls(keys.argsort().argsort(), graph)

    def graphs(self, graphs):
        """The graphs after relabelling, with edges in reverse order."""
        batch = torch.empty_like(graphs.batch)
        batch[self.node] = self.graph[graphs.batch]
        edges = self.node[graphs.edge_index].flip(1)
        return Graphs(edges, batch, graphs.num_nodes, graphs.num_graphs)

    def features(self, x, plan, relabelled):
        """Features of the graphs, moved to the rows of the plan of the relabelled ones."""
        return Features(
            *(
                None if rows is None else torch.empty_like(rows).index_copy(0, target, rows)
                for rows, target in zip(x, self.rows(plan, relabelled), strict=True)
            )
        )

    def rows(self, plan, relabelled):
        """New row of each stored pair, node and owner."""
        count = max(plan.num_nodes, 1)
        first, second = relabelled.pair_index
        moved = self.node[plan.pair_index]
        slots = torch.searchsorted(first * count + second, moved[0] * count + moved[1])
        return slots, self.node, self.node if plan.has_centers else self.graph


def error(found, expected):
    """Largest difference over the largest entry, of all orders."""
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if a is not None and a.numel()]
    return max(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in pairs)


def without_grad(found):
    return Features(*(None if rows is None else rows.detach() for rows in found))


def plan_with(plan: SubgraphPlan, **fields) -> SubgraphPlan:
    """Return a plan with some fields replaced, as a bug might leave it."""
    return plan._replace(**fields)
