"""Which nodes are joined: edges sorted for the convolution, each pair of directions taken once."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor


class Edges(NamedTuple):
    """Edges in the order of the convolution: sorted by target.

    Attributes:
        source: node that each edge leaves.
        target: node that each edge enters, ascending.
        starts: where the edges of each target begin, and the number of edges.
        by_source: the edges, sorted stably by source.
        source_starts: where those of each source begin, and the number of edges.
        rows: which of the given edges, and after these of the loops, each edge is.
        paired: each edge between two nodes stands for both of its directions.
    """

    source: Int[Tensor, "edges"]
    target: Int[Tensor, "edges"]
    starts: Int[Tensor, "nodes_1"]
    by_source: Int[Tensor, "edges"]
    source_starts: Int[Tensor, "nodes_1"]
    rows: Int[Tensor, "edges"]
    paired: bool


def sort_edges(source: Int[Tensor, "edges"], target: Int[Tensor, "edges"], nodes: int) -> Edges:
    """Sort edges, each of which stands for itself.

    Args:
        source: node that each edge leaves, in any order.
        target: node that each edge enters.
        nodes: their number.
    """
    return _indexed(source, target, target.argsort(stable=True), nodes, paired=False)


def sort_pairs(
    source: Int[Tensor, "edges"], target: Int[Tensor, "edges"], nodes: int, loops: int
) -> Edges:
    """Sort edges that come in both directions, and keep of each two the one to the lower node.

    Nothing here depends on values that compilers cannot know, save what is promised.

    Args:
        source: node that each edge leaves; both directions of every edge are there, once.
        target: node that each edge enters.
        nodes: their number.
        loops: how many of the edges join a node to itself.
    """
    first = torch.where(target <= source, target, nodes).argsort(stable=True)
    kept = (source.shape[0] - loops) // 2 + loops
    return _indexed(source, target, first[:kept], nodes, paired=True)


def come_in_pairs(
    source: Int[Tensor, "edges"],
    target: Int[Tensor, "edges"],
    nodes: int,
    scalars: Tensor,
) -> bool:
    """Whether both directions of every edge are there, once each, with the same scalars; no loops.

    This reads values: on a GPU it waits for them, and compilers cannot trace it.

    Args:
        source: node that each edge leaves.
        target: node that each edge enters.
        nodes: their number.
        scalars: of each edge, (edges, s).
    """
    keys, order = (target * nodes + source).sort()
    reversed_keys, reversed_order = (source * nodes + target).sort()
    if not torch.equal(keys, reversed_keys) or bool((keys.diff() == 0).any()):
        return False
    if bool((source == target).any()):
        return False
    return torch.equal(scalars[order], scalars[reversed_order])


def join_all(clouds: int, nodes: int, device: torch.device, loops: bool, paired: bool) -> Edges:
    """Join all nodes within each of some clouds of one size.

    No shape depends on a value, so that compilers can trace it.

    Args:
        clouds: their number.
        nodes: of each cloud.
        device: where the indices are to be.
        loops: also join each node to itself.
        paired: one edge for both directions.
    """
    if paired:
        target, source = torch.triu_indices(nodes, nodes, offset=1 - loops, device=device)
    else:
        sources = nodes if loops else max(nodes - 1, 0)
        edges = torch.arange(nodes * sources, device=device)
        target = edges.div(max(sources, 1), rounding_mode="floor")
        source = edges - target * sources
        source = source if loops else source + (source >= target)
    first = nodes * torch.arange(clouds, device=device)[:, None]
    source, target = (source + first).flatten(), (target + first).flatten()
    order = torch.arange(target.shape[0], device=device)
    return _indexed(source, target, order, clouds * nodes, paired)


def _indexed(source: Tensor, target: Tensor, rows: Tensor, nodes: int, paired: bool) -> Edges:
    """Take rows that are sorted by target."""
    source, target = source[rows], target[rows]
    bounds = torch.arange(nodes + 1, device=source.device)
    leaving, by_source = source.sort(stable=True)
    starts, source_starts = (torch.searchsorted(nodes_of, bounds) for nodes_of in (target, leaving))
    return Edges(source, target, starts, by_source, source_starts, rows, paired)
