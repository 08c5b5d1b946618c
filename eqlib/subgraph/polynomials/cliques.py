"""Polynomials of complete graphs on four nodes, counted in the neighbourhood of each node.

They are the first that matrix products cannot compute. With N the neighbours of a node k and A_N
the adjacency matrix among them, node k has sum(A_N * A_N^2) rooted K4, and adds A_N^2 to the pairs
of N x N in F_ij = sum_kl A_ik A_il A_jk A_jl A_kl: K4 minus the edge between its red nodes.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float64, Int
from torch import Tensor

BLOCK = 2**24
"""Entries of the neighbourhoods that are counted at once."""


def rooted_cliques(
    edge_index: Int[Tensor, "2 edges"], num_nodes: int, limit: int
) -> Float64[Tensor, "nodes"]:
    """Return the value of "K4 rooted" at each node.

    Args:
        edge_index: edges in both directions, without duplicates, sorted by source.
        num_nodes: number of nodes.
        limit: bytes that the neighbourhoods counted at once may take.

    Raises:
        ValueError: one neighbourhood alone takes more.
    """
    counts = torch.zeros(num_nodes, dtype=torch.float64, device=edge_index.device)
    for centres, _, products, inside in _neighbourhoods(edge_index, num_nodes, limit):
        counts[centres] = (products * inside).sum((1, 2))
    return counts


def cliques_minus_edge(
    edge_index: Int[Tensor, "2 edges"],
    num_nodes: int,
    pair_index: Int[Tensor, "2 pairs"],
    limit: int,
) -> Float64[Tensor, "pairs"]:
    """Return the value of "K4 minus the red edge" at pairs of nodes; see `rooted_cliques`.

    Args:
        edge_index: edges in both directions, without duplicates, sorted by source.
        num_nodes: number of nodes.
        pair_index: the pairs, sorted by first and second node.
        limit: bytes that the neighbourhoods counted at once may take.

    Raises:
        ValueError: one neighbourhood alone takes more.

    Note:
        The value of a pair that is not among those given is left out. All pairs that are not zero
        have a common neighbour, so they lie in one ego net of one hop.
    """
    values = torch.zeros(pair_index.shape[1] + 1, dtype=torch.float64, device=edge_index.device)
    keys = pair_index[0] * num_nodes + pair_index[1]
    for _, members, products, _ in _neighbourhoods(edge_index, num_nodes, limit):
        wanted = members[:, :, None] * num_nodes + members[:, None, :]
        slot = find_sorted(keys, wanted.reshape(-1))
        values.index_add_(0, slot, products.reshape(-1))
    return values[:-1]


def find_sorted(keys: Int[Tensor, "keys"], wanted: Int[Tensor, "wanted"]) -> Int[Tensor, "wanted"]:
    """Return where each wanted key stands among sorted ones, their number where it is missing."""
    slot = torch.searchsorted(keys, wanted)
    padded = torch.cat([keys, keys.new_full((1,), -1)])
    return torch.where(padded[slot] == wanted, slot, len(keys))


def _neighbourhoods(
    edge_index: Tensor, num_nodes: int, limit: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield nodes of equal degree d with their neighbours, A_N^2 and A_N, in bounded memory."""
    source, target = edge_index
    degrees = torch.bincount(source, minlength=num_nodes)
    first = degrees.cumsum(0) - degrees
    keys = source * num_nodes + target
    for degree in degrees.unique().tolist():
        if degree == 0:
            continue
        nodes = (degrees == degree).nonzero()[:, 0]
        # A key, its slot, an entry of A_N and one of A_N^2: four numbers of eight bytes each.
        if 32 * degree**2 > limit:
            raise ValueError(
                f"edge_index: node {int(nodes[0])} has {degree} neighbours, whose counts need "
                f"{32 * degree**2:,} bytes at once; expected at most limit = {limit:,}: raise it "
                "or leave these polynomials out"
            )
        for centres in nodes.split(max(1, min(BLOCK, limit // 32) // degree**2)):
            steps = torch.arange(degree, device=source.device)
            members = target[first[centres, None] + steps]
            wanted = members[:, :, None] * num_nodes + members[:, None, :]
            inside = (find_sorted(keys, wanted.reshape(-1)) < len(keys)).to(torch.float64)
            inside = inside.reshape(-1, degree, degree)
            yield centres, members, inside @ inside, inside
