"""Checks of the arguments of polynomial features, and the graphs in the form that they need."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from eqlib.subgraph.plans.arguments import check_graphs
from eqlib.subgraph.polynomials.cliques import find_sorted


class Adjacency(NamedTuple):
    """A batch of undirected graphs without duplicate edges."""

    edge_index: Tensor
    """Sorted by source and target, both directions."""
    batch: Tensor
    sizes: Tensor
    """Number of nodes of each graph."""

    @property
    def place(self) -> Tensor:
        """The place of each node among those of its graph, from 0."""
        first = self.sizes.cumsum(0) - self.sizes
        return torch.arange(len(self.batch), device=self.batch.device) - first[self.batch]

    def number_of(self, part: Tensor) -> Tensor:
        """The place of each graph among some, or -1."""
        number = torch.full_like(self.sizes, -1)
        number[part] = torch.arange(len(part), device=part.device)
        return number

    def dense(self, part: Tensor, nodes: int) -> Tensor:
        """Return the adjacency matrices of some graphs, each with so many nodes, in float64."""
        graph = self.number_of(part)[self.batch[self.edge_index[0]]]
        source, target = self.place[self.edge_index[:, graph >= 0]]
        shape = (len(part), nodes, nodes)
        matrices = torch.zeros(shape, dtype=torch.float64, device=part.device)
        matrices[graph[graph >= 0], source, target] = 1
        return matrices


def check_options(
    order: str,
    normalise: str | None,
    polynomials: Sequence[object] | str | None,
    degree: int | None,
) -> None:
    """Raise unless the options are known and go together."""
    if order not in ("pair", "node", "graph"):
        raise ValueError(f"order: got {order!r}; expected 'pair', 'node' or 'graph'")
    if normalise not in ("log1p", "nodes", None):
        raise ValueError(f"normalise: got {normalise!r}; expected 'log1p', 'nodes' or None")
    if polynomials is not None and degree is not None:
        raise ValueError("polynomials, degree: got both; give one of them")
    if isinstance(polynomials, str):
        raise TypeError(f"polynomials: got the text {polynomials!r}; put it into a list")


def read_adjacency(
    edge_index: Tensor,
    batch: Tensor | None,
    num_nodes: int | None,
    num_graphs: int | None,
) -> Adjacency:
    """Return the graphs of a batch; raise where they are not undirected graphs of it."""
    edge_index, batch, sizes = check_graphs(edge_index, batch, num_nodes, num_graphs, None)
    keys = (edge_index[0] * len(batch) + edge_index[1]).unique()
    edge_index = torch.stack([keys // max(1, len(batch)), keys % max(1, len(batch))])
    _check_reverses(edge_index, keys, len(batch))
    return Adjacency(edge_index, batch, sizes)


def _check_reverses(edge_index: Tensor, keys: Tensor, nodes: int) -> None:
    """Raise unless all edges have a reverse."""
    source, target = edge_index
    alone = (find_sorted(keys, target * nodes + source) == len(keys)).nonzero()[:, 0]
    if len(alone):
        a, b = edge_index[:, alone[0]].tolist()
        raise ValueError(
            f"edge_index: edge ({a}, {b}), one of {len(alone)}, has no reverse; expected both "
            "directions: torch.cat([edge_index, edge_index.flip(0)], 1)"
        )
