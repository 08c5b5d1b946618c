"""Graph classification sets in the text format of the GIN paper (MUTAG, PTC, PROTEINS ...)."""

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from eqlib.models.graphs.data.files import read_text
from eqlib.models.graphs.data.ragged import Graphs
from eqlib.usage import UsageError


def read_tu(path: Path) -> Graphs:
    """Read a set: its number of graphs, then of each graph ``n label`` and n lines of nodes.

    The line of node i is ``tag degree neighbour neighbour ...`` with neighbours counted from 0;
    what follows them is passed over. Each edge is in the lines of both its nodes. Labels and tags
    are numbered anew from 0 in the order of their values.

    Args:
        path: such as ``MUTAG/MUTAG.txt``.

    Raises:
        UsageError: the file cannot be read or does not follow the format; the message names the
            line.
    """
    lines = _Lines(read_text(path))
    try:
        (count,) = lines.numbers()
        graphs = [_read_graph(lines) for _ in range(count)]
        lines.end()
    except ValueError as error:
        raise UsageError(f"{path}, line {lines.read}: {error}") from error
    edges = [edge for graph in graphs for edge in graph.edges]
    return Graphs(
        _numbered([tag for graph in graphs for tag in graph.tags]),
        torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T.contiguous(),
        torch.tensor([0, *(len(graph.tags) for graph in graphs)]).cumsum(0),
        torch.tensor([0, *(len(graph.edges) for graph in graphs)]).cumsum(0),
        _numbered([graph.label for graph in graphs]),
    )


def read_folds(
    folder: Path, fold: int, graphs: int
) -> tuple[Int[Tensor, "train"], Int[Tensor, "test"]]:
    """Return the training and test graphs of a fold, 1 to 10, from ``10fold_idx``.

    Args:
        folder: the one with the folder ``10fold_idx``.
        fold: number of the fold.
        graphs: number of graphs of the set.

    Raises:
        UsageError: a file is missing, names a graph that there is not, or a graph twice, or a graph
            is both for training and for testing.
    """
    parts = []
    for part in ("train", "test"):
        path = folder / "10fold_idx" / f"{part}_idx-{fold}.txt"
        words = read_text(path).split()
        try:
            numbers = [int(word) for word in words]
        except ValueError as error:
            raise UsageError(
                f"{path}: expected one number of a graph in a line: {error}"
            ) from error
        wrong = [number for number in numbers if not 0 <= number < graphs]
        if wrong:
            raise UsageError(f"{path}: got graph {wrong[0]}, expected 0 to {graphs - 1}")
        if len(set(numbers)) < len(numbers) or not numbers:
            raise UsageError(f"{path}: expected every graph once, and one at least")
        parts.append(torch.tensor(numbers))
    both = parts[0][torch.isin(parts[0], parts[1])].tolist()
    if both:
        raise UsageError(
            f"{folder / '10fold_idx'}, fold {fold}: graph {both[0]} is for training and for testing"
        )
    return parts[0], parts[1]


class _Lines:
    """The numbers of a text, taken a line at a time."""

    def __init__(self, text: str) -> None:
        self.lines = text.rstrip().splitlines()
        self.read = 0
        """How many lines were taken; the number of the last one, or of one that is wrong."""

    def numbers(self) -> list[int]:
        """Return those of the next line."""
        if self.read == len(self.lines):
            raise ValueError("the file ends before its last graph")
        self.read += 1
        return [int(word) for word in self.lines[self.read - 1].split()]

    def end(self) -> None:
        """Refuse a further line."""
        if self.read < len(self.lines):
            self.read += 1
            raise ValueError("expected the end of the file after its last graph")


class _Graph(NamedTuple):
    """A graph as its lines state it."""

    label: int
    tags: list[int]
    edges: list[tuple[int, int]]


def _read_graph(lines: _Lines) -> _Graph:
    """Read the line ``n label`` of a graph and those of its n nodes."""
    size, label = lines.numbers()
    if size < 0:
        raise ValueError(f"expected the number of nodes of a graph, got {size}")
    graph, first = _Graph(label, [], []), lines.read + 1
    for node in range(size):
        tag, degree, *rest = lines.numbers()
        if not 0 <= degree <= len(rest):
            raise ValueError(f"expected {degree} neighbours, got {len(rest)}")
        graph.tags.append(tag)
        for neighbour in rest[:degree]:
            if not 0 <= neighbour < size:
                raise ValueError(f"expected neighbours from 0 to {size - 1}, got {neighbour}")
            graph.edges.append((node, neighbour))
    both = set(graph.edges)
    for node, neighbour in graph.edges:
        if (neighbour, node) not in both:
            lines.read = first + node
            raise ValueError(
                f"node {node} has neighbour {neighbour}, whose line {first + neighbour} lacks "
                f"{node}; expected edges in both directions"
            )
    return graph


def _numbered(values: list[int]) -> Tensor:
    """The rank of each value among the different ones."""
    return torch.tensor(values, dtype=torch.int64).unique(return_inverse=True)[1]
