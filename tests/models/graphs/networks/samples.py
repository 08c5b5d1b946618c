"""Graphs for the tests of networks."""

import torch
from torch import Tensor

EDGES = [
    [],  # no node
    [],  # one node
    [],  # three isolated nodes
    [(0, 1)],
    [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4)],
    [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (0, 3)],
    [(i, j) for i in range(7) for j in range(i)],
]
SIZES = [0, 1, 3, 2, 6, 6, 7]
"""The fifth graph has an isolated node."""


def odd_graphs(types: int = 3, chosen: list[int] | None = None) -> dict[str, Tensor | int]:
    """Inputs of a network: graphs of very different sizes, some of them degenerate."""
    x, edges, batch, first = [], [], [], 0
    indices = list(range(len(SIZES))) if chosen is None else chosen
    for graph, index in enumerate(indices):
        size = SIZES[index]
        x += [(node // 2 + index) % types for node in range(size)]
        both = [*EDGES[index], *((j, i) for i, j in EDGES[index])]
        edges += [(i + first, j + first) for i, j in both]
        batch += [graph] * size
        first += size
    return {
        "x": torch.tensor(x, dtype=torch.int64),
        "edge_index": torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T,
        "batch": torch.tensor(batch, dtype=torch.int64),
        "num_graphs": len(indices),
    }


def seeded(make, dtype: torch.dtype = torch.float64, **options):
    """Make a network in evaluation mode, with the same weights at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make(**options).to(dtype).eval()
