"""Order that does not depend on labels: ranks by tolerance, spectral keys, colour refinement."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Odd constants of a 64-bit mixing function (splitmix64), as signed integers.
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


class Links(NamedTuple):
    """Pairs of nodes that an edge joins, both ways, and the class of the weights of each."""

    source: Int[Tensor, "links"]
    target: Int[Tensor, "links"]
    label: Int[Tensor, "links"]


def gap_ranks(
    values: Float[Tensor, "graphs nodes keys"], threshold: Float[Tensor, "graphs keys"]
) -> tuple[Int[Tensor, "graphs nodes keys"], Float[Tensor, "graphs"]]:
    """Rank of each value among those of its graph; neighbours closer than a threshold share one.

    Args:
        values: one column per key.
        threshold: largest step, in the sorted column, that does not start a new rank.

    Returns:
        Ranks from 0, and the margin of each graph: the smallest distance of a step from its
        threshold, relative to the threshold and at most 1.
    """
    ordered, index = values.sort(dim=1)
    steps, limit = ordered.diff(dim=1), threshold[:, None]
    rank = torch.nn.functional.pad((steps > limit).long().cumsum(1), (0, 0, 1, 0))
    distance = torch.where(limit > 0, (steps - limit).abs() / limit, 1.0)
    margin = torch.cat([distance.flatten(1), distance.new_ones(len(values), 1)], 1).amin(1)
    return torch.zeros_like(rank).scatter_(1, index, rank), margin


def merge_ranks(ranks: Int[Tensor, "graphs nodes keys"]) -> Int[Tensor, "graphs nodes"]:
    """Rank of each row in the lexicographic order of its graph's rows; equal rows share one."""
    graphs, nodes, _ = ranks.shape
    colour = ranks.new_zeros(graphs, nodes)
    for column in ranks.unbind(-1):
        if bool((colour.amax(1) == nodes - 1).all()):
            break
        colour = _dense_ranks(colour * nodes + column)
    return colour


def spectral_keys(
    adjacency: Float[Tensor, "graphs nodes nodes"], normalised: bool, tolerance: float
) -> tuple[Float[Tensor, "graphs nodes nodes"], Float[Tensor, "graphs"]]:
    r"""Keys :math:`s_k(i) = (\sum_{j \in E_k} V_{ij}^2)^{1/2}` of the Laplacian's eigenspaces.

    Args:
        adjacency: weights; their symmetric part counts.
        normalised: take :math:`D^{-1/2} (D - A) D^{-1/2}` instead of :math:`D - A`.
        tolerance: gap between eigenspaces relative to the largest magnitude of an eigenvalue.

    Returns:
        Keys in the order of the eigenvalues, followed by columns of zeros, and the margin of the
        decisions about eigenspaces as in :func:`gap_ranks`.
    """
    largest = adjacency.abs().flatten(1).amax(1)[:, None, None]
    adjacency = adjacency / torch.where(largest > 0, largest, 1.0)  # lest sums overflow
    adjacency = (adjacency + adjacency.mT) / 2
    degree = adjacency.sum(-1)
    laplacian = degree.diag_embed() - adjacency
    if normalised:
        root = torch.where(degree > 0, degree, torch.inf).rsqrt()  # 0 for isolated nodes
        laplacian = root[..., None] * laplacian * root[..., None, :]
    eigenvalues, vectors = torch.linalg.eigh(laplacian)
    threshold = tolerance * eigenvalues.abs().amax(-1, keepdim=True)
    space, margin = gap_ranks(eigenvalues[..., None], threshold)
    squares = torch.zeros_like(vectors)
    squares.scatter_add_(-1, space.mT.expand_as(vectors), vectors.square())
    return squares.sqrt(), margin


def refine(
    classes: Int[Tensor, "nodes"], batch: Int[Tensor, "nodes"], links: Links
) -> Int[Tensor, "nodes"]:
    """Split classes by the classes of their neighbours until nothing changes (1-WL).

    Args:
        classes: rank of each node in its graph.
        batch: graph of each node, sorted.
        links: pairs of nodes that an edge joins.

    Returns:
        Ranks that sort as ``classes`` do, and by hashed multisets of (label, class) inside ties.

    Note:
        Where two hashes collide a class stays unsplit. As they depend on no numbering of the nodes,
        the result commutes with relabelling all the same.
    """
    label = _scramble(links.label)
    number, count = -1, 0
    while number < count:
        number = count
        hashed = torch.zeros_like(classes)
        hashed.index_add_(0, links.target, _scramble(label + classes[links.source]))
        classes, count = _ranks_in_graphs(batch, classes, hashed)
    return classes


def _ranks_in_graphs(batch: Tensor, classes: Tensor, keys: Tensor) -> tuple[Tensor, int]:
    """Rank of each node by class and key, and the number of different ranks in all graphs."""
    order = keys.argsort()
    # Classes may be any numbers below twice the size of the graph.
    order = order[(batch * (2 * len(batch) + 1) + classes)[order].argsort(stable=True)]
    sorted_rows = torch.stack([batch, classes, keys])[:, order]
    starts = torch.nn.functional.pad((sorted_rows.diff(dim=1) != 0).any(0), (1, 0), value=True)
    rank = starts[: len(batch)].long().cumsum(0) - 1
    first = torch.zeros_like(rank)
    changed = torch.nn.functional.pad(sorted_rows[0].diff() != 0, (1, 0), value=True)
    first[order] = torch.where(changed[: len(batch)], rank, 0).cummax(0).values
    ranks = torch.empty_like(rank)
    ranks[order] = rank
    return ranks - first, int(rank[-1]) + 1 if len(rank) else 0


def _scramble(keys: Tensor) -> Tensor:
    """Mix 64-bit integers; overflow wraps around."""
    keys = (keys ^ (keys >> 30)) * _FIRST
    keys = (keys ^ (keys >> 27)) * _SECOND
    return keys ^ (keys >> 31)


def _dense_ranks(keys: Int[Tensor, "graphs nodes"]) -> Int[Tensor, "graphs nodes"]:
    """Rank of each integer among the different ones of its row."""
    ordered, index = keys.sort(dim=1)
    rank = torch.nn.functional.pad((ordered.diff(dim=1) != 0).long().cumsum(1), (1, 0))
    return torch.zeros_like(rank).scatter_(1, index, rank)
