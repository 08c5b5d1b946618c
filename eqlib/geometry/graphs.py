"""Graphs that need no coordinates."""

import torch
from jaxtyping import Int
from torch import Tensor

from eqlib.geometry._checks import graph_sizes


def complete_graph(
    batch: Int[Tensor, "nodes"], num_graphs: int | None = None
) -> Int[Tensor, "2 edges"]:
    """All ordered pairs of distinct nodes inside each graph.

    Args:
        batch: graph index of each node, sorted.
        num_graphs: number of graphs; by default up to the last one that has a node. It adds no
            edges and only bounds ``batch``.

    Returns:
        Source and target of each edge, sorted by target, then source. A graph of n nodes has
        n (n - 1) edges; graphs of no node and of one node have none.

    Raises:
        TypeError: ``batch`` is not int64.
        ValueError: ``batch`` is not a vector, not sorted, or leaves [0, num_graphs).
    """
    sizes = graph_sizes(batch, num_graphs)
    degree = (sizes - 1)[batch]
    nodes = torch.arange(len(batch), device=batch.device)
    target = torch.repeat_interleave(nodes, degree)
    edges = torch.arange(len(target), device=batch.device)
    rank = edges - (degree.cumsum(0) - degree)[target]
    source = (sizes.cumsum(0) - sizes)[batch][target] + rank
    return torch.stack([source + (source >= target), target])
