"""Graph classification sets in the text format of the GIN paper (MUTAG, PTC, PROTEINS ...)."""

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from eqlib.models.graphs.data.ragged import Graphs


def read_tu(path: Path) -> Graphs:
    """Read a set: its number of graphs, then of each graph ``n label`` and n lines of nodes.

    The line of node i is ``tag degree neighbour neighbour ...`` with neighbours counted from 0.
    Labels and tags are numbered anew from 0 in the order of their values.

    Args:
        path: such as ``MUTAG/MUTAG.txt``.

    Raises:
        ValueError: the file does not follow the format; the message names the line.
    """
    lines = _Lines(path.read_text())
    try:
        (count,) = lines.numbers()
        graphs = [_read_graph(lines) for _ in range(count)]
    except ValueError as error:
        raise ValueError(f"{path}, line {lines.read}: {error}") from error
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
        ValueError: a file is missing, names a graph that there is not, or a graph twice, or a graph
            is both for training and for testing.
    """
    parts = []
    for part in ("train", "test"):
        path = folder / "10fold_idx" / f"{part}_idx-{fold}.txt"
        try:
            numbers = [int(word) for word in path.read_text().split()]
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise ValueError(
                f"{path}: expected one number of a graph in a line: {error}"
            ) from error
        wrong = [number for number in numbers if not 0 <= number < graphs]
        if wrong:
            raise ValueError(f"{path}: got graph {wrong[0]}, expected 0 to {graphs - 1}")
        if len(set(numbers)) < len(numbers) or not numbers:
            raise ValueError(f"{path}: expected every graph once, and one at least")
        parts.append(torch.tensor(numbers))
    both = parts[0][torch.isin(parts[0], parts[1])].tolist()
    if both:
        raise ValueError(
            f"{folder / '10fold_idx'}, fold {fold}: graph {both[0]} is for training and for testing"
        )
    return parts[0], parts[1]


class _Lines:
    """The numbers of a text, taken a line at a time."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.read = 0
        """How many lines were taken."""

    def numbers(self) -> list[int]:
        """Return those of the next line."""
        if self.read == len(self.lines):
            raise ValueError("the file ends before its last graph")
        self.read += 1
        return [int(word) for word in self.lines[self.read - 1].split()]


class _Graph(NamedTuple):
    """A graph as its lines state it."""

    label: int
    tags: list[int]
    edges: list[tuple[int, int]]


def _read_graph(lines: _Lines) -> _Graph:
    """Read the line ``n label`` of a graph and those of its n nodes."""
    size, label = lines.numbers()
    graph = _Graph(label, [], [])
    for node in range(size):
        tag, degree, *rest = lines.numbers()
        if len(rest) < degree:
            raise ValueError(f"expected {degree} neighbours, got {len(rest)}")
        graph.tags.append(tag)
        graph.edges.extend((node, neighbour) for neighbour in rest[:degree])
    return graph


def _numbered(values: list[int]) -> Tensor:
    """The rank of each value among the different ones."""
    return torch.tensor(values, dtype=torch.int64).unique(return_inverse=True)[1]
