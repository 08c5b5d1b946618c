"""Graphs with and without symmetry, and readers of the graph files that tests use."""

from collections import defaultdict
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eqlib.frames import PermutationFrames


def adjacency(nodes: int, *edges: tuple[int, int]) -> Tensor:
    """Symmetric adjacency matrix of a graph."""
    matrix = torch.zeros(nodes, nodes, dtype=torch.float64)
    for source, target in edges:
        matrix[source, target] = matrix[target, source] = 1.0
    return matrix


def cycle(nodes: int) -> Tensor:
    return adjacency(nodes, *((i, (i + 1) % nodes) for i in range(nodes)))


class Known(NamedTuple):
    """A graph, its number of automorphisms, and its frame sizes without and with refinement."""

    matrix: Tensor
    automorphisms: int
    size: int
    refined: int


SMALL = {
    "no node": Known(torch.zeros(0, 0, dtype=torch.float64), 1, 1, 1),
    "one node": Known(torch.zeros(1, 1, dtype=torch.float64), 1, 1, 1),
    "one loop": Known(torch.ones(1, 1, dtype=torch.float64), 1, 1, 1),
    "isolated nodes": Known(torch.zeros(4, 4, dtype=torch.float64), 24, 24, 24),
    "edge and isolated node": Known(adjacency(3, (0, 2)), 2, 2, 2),
    "path": Known(adjacency(4, (0, 1), (1, 2), (2, 3)), 2, 4, 4),
    "star": Known(adjacency(5, (2, 0), (2, 1), (2, 3), (2, 4)), 24, 24, 24),
    "complete": Known(1 - torch.eye(4, dtype=torch.float64), 24, 24, 24),
    "cycle": Known(cycle(5), 10, 120, 120),
    "two triangles": Known(torch.block_diag(cycle(3), cycle(3)), 72, 720, 720),
    "asymmetric": Known(adjacency(6, (0, 1), (1, 2), (2, 3), (3, 4), (1, 5), (2, 5)), 1, 1, 1),
    "tied spectrally": Known(
        adjacency(8, (0, 5), (0, 7), (1, 6), (2, 6), (3, 6), (4, 7), (5, 7), (6, 7)), 12, 96, 12
    ),
}


def automorphisms(matrix: Tensor) -> int:
    """Number of automorphisms, by trying all permutations."""
    orders = torch.tensor(list(permutations(range(len(matrix)))), dtype=torch.int64)
    moved = matrix[orders[:, :, None], orders[:, None, :]]
    return int((moved == matrix).all(-1).all(-1).sum())


def relabelled(matrix: Tensor, order: Tensor) -> Tensor:
    """The graph with node ``order[i]`` in slot i."""
    return matrix[order][:, order]


def orders_of(frames: PermutationFrames, graph: int = 0) -> torch.Tensor:
    """All orders of one graph, (orders, nodes), counted from its first node."""
    rows = frames.order[frames.graph[frames.frame] == graph]
    count = int((frames.graph == graph).sum())
    return rows.view(count, len(rows) // count) - (rows.amin() if len(rows) else 0)


def forms(matrix: Tensor, frames: PermutationFrames, graph: int = 0) -> dict[tuple, float]:
    """Total weight of each reordered matrix of a graph."""
    found: dict[tuple, float] = defaultdict(float)
    for index in (frames.graph == graph).nonzero()[:, 0].tolist():
        order = frames.order[frames.frame == index]
        order = order - (order.amin() if len(order) else 0)
        form = tuple(relabelled(matrix, order).flatten().tolist())
        found[form] += float(frames.weights[index])
    return dict(found)


def random_graphs(rng: torch.Generator, *shape: int, share: float = 0.5) -> Tensor:
    """Symmetric 0/1 matrices (*shape, nodes) with nodes = shape[-1]."""
    chosen = torch.rand(*shape, shape[-1], generator=rng, dtype=torch.float64) < share
    upper = chosen.double().triu(1)
    return upper + upper.mT


def read_graph6(path: Path) -> Tensor:
    """All graphs of a file of graphs with one number of nodes, at most 62."""
    lines = [line for line in path.read_bytes().split(b"\n") if line]
    codes = torch.tensor([list(line) for line in lines]) - 63
    nodes = int(codes[0, 0])
    bits = (codes[:, 1:, None] >> torch.arange(5, -1, -1) & 1).flatten(1)
    column, row = torch.tril_indices(nodes, nodes, -1)
    matrices = torch.zeros(len(lines), nodes, nodes, dtype=torch.float64)
    matrices[:, row, column] = bits[:, : len(row)].double()
    return matrices + matrices.mT


class Ragged(NamedTuple):
    """A ragged batch of graphs with node types."""

    edges: Tensor
    kinds: Tensor
    batch: Tensor
    num_graphs: int


def read_exp(path: Path, count: int = 1200) -> Ragged:
    """The first graphs of the EXP set."""
    content = np.load(path, allow_pickle=False)
    nodes, links = int(content["node_ptr"][count]), int(content["edge_ptr"][count])
    sizes = torch.from_numpy(np.diff(content["node_ptr"])[:count])
    degrees = torch.from_numpy(np.diff(content["edge_ptr"])[:count])
    start = torch.from_numpy(content["node_ptr"][:count]).repeat_interleave(degrees)
    edges = torch.from_numpy(content["edge_index"][:, :links].astype(np.int64)) + start
    batch = torch.arange(count).repeat_interleave(sizes)
    return Ragged(edges, torch.from_numpy(content["x"][:nodes]), batch, count)


def read_tu(path: Path) -> Ragged:
    """All graphs of a file of the text format of TU sets."""
    numbers = ([int(word) for word in line.split()] for line in path.read_text().splitlines())
    count = next(numbers)[0]
    edges, kinds, batch = [], [], []
    for graph in range(count):
        start, nodes = len(batch), next(numbers)[0]
        for node in range(nodes):
            kind, _, *others = next(numbers)
            kinds.append(kind)
            batch.append(graph)
            edges += [(start + node, start + other) for other in others]
    return Ragged(torch.tensor(edges).mT, torch.tensor(kinds), torch.tensor(batch), count)
