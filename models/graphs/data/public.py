"""The public layout of the TU sets: one file of edges, graphs, labels and types each."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray
from numpy.typing import ArrayLike

from eqlib.models.graphs.data.files import read_text, reading
from eqlib.models.graphs.data.ragged import Graphs
from eqlib.usage import UsageError

_FILES = ("A", "graph_indicator", "graph_labels")


def has_public(place: Path, name: str) -> bool:
    """Whether a folder or a zip file holds a set in the public layout."""
    if place.suffix == ".zip":
        return place.exists()
    return _folder(place, name) is not None


def read_public(place: Path, name: str) -> Graphs:
    """Read a set in the public layout.

    It is made up of ``NAME_A.txt``, ``NAME_graph_indicator.txt``, ``NAME_graph_labels.txt`` and,
    where nodes have types, ``NAME_node_labels.txt``. Edges are sorted by graph, source and target;
    repeated ones count once. Labels and types are numbered anew from 0 in the order of their
    values; without types all nodes are of type 0.

    Args:
        place: the folder, one with these files in its folder ``raw``, or the zip file.
        name: of the set, with which the names of the files begin.

    Raises:
        UsageError: a file is missing or damaged, or the files do not fit together; the message
            names the file, and the line where one is wrong.
    """
    edges, graph, labels = (_numbers(place, name, kind) for kind in _FILES)
    if _text(place, name, "node_labels") is None:
        types = np.zeros(len(graph), np.int64)
    else:
        types = _numbers(place, name, "node_labels")
    where = f"{place}, {name}"
    _check(where, graph, labels, types)
    _check_edges(where, edges, graph)
    source, target = np.unique(edges - 1, axis=0).T
    sizes = np.bincount(graph - 1, minlength=len(labels))
    first = np.cumsum(sizes) - sizes
    owner = graph[source] - 1
    return Graphs(
        _numbered(types),
        torch.from_numpy(np.stack([source, target]) - first[owner]),
        torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)])),
        torch.from_numpy(
            np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(labels)))])
        ),
        _numbered(labels),
    )


def _check(where: str, graph: ndarray, labels: ndarray, types: ndarray) -> None:
    """Refuse files of nodes and graphs that do not fit together."""
    if len(types) != len(graph):
        raise UsageError(
            f"{where}_node_labels.txt: got {len(types)} lines, expected one for each of the "
            f"{len(graph)} nodes of graph_indicator.txt"
        )
    before = np.concatenate([[1], graph[:-1]])
    if line := _first((graph < before) | (graph > len(labels))):
        raise UsageError(
            f"{where}_graph_indicator.txt, line {line}: expected graphs 1 to {len(labels)} in "
            f"ascending order, as graph_labels.txt has {len(labels)} lines, got {graph[line - 1]}"
        )


def _check_edges(where: str, edges: ndarray, graph: ndarray) -> None:
    """Refuse edges that leave their graph, or lead one way alone."""
    if edges.shape[1] != 2:
        raise UsageError(f"{where}_A.txt: expected two numbers in a line")
    outside = (edges < 1) | (edges > len(graph))
    if line := _first(outside.any(1)):
        raise UsageError(
            f"{where}_A.txt, line {line}: expected nodes 1 to {len(graph)}, got {edges[line - 1]}"
        )
    if line := _first(np.diff(graph[edges - 1], axis=1)[:, 0] != 0):
        raise UsageError(f"{where}_A.txt, line {line}: an edge joins two graphs")
    code, back = edges @ (len(graph) + 1, 1), edges @ (1, len(graph) + 1)
    if line := _first(~np.isin(back, code)):
        raise UsageError(
            f"{where}_A.txt, line {line}: the edge back is missing; expected edges in both "
            "directions"
        )


def _first(wrong: ArrayLike) -> int:
    """Return the number of the first line that is wrong, from 1, or 0 where none is."""
    rows = np.flatnonzero(wrong)
    return int(rows[0]) + 1 if len(rows) else 0


def _folder(place: Path, name: str) -> Path | None:
    """The folder with the files: the one named, or ``raw`` in it, as PyG has it."""
    for folder in (place, place / "raw"):
        if (folder / f"{name}_A.txt").exists():
            return folder
    return None


def _numbers(place: Path, name: str, kind: str) -> ndarray:
    """Return the numbers of a file."""
    content = _text(place, name, kind)
    if content is None:
        raise UsageError(f"{place}: there is no {name}_{kind}.txt in it; download it again")
    if not content.strip():
        raise UsageError(f"{place}: {name}_{kind}.txt is empty; download it again")
    try:
        rows = np.loadtxt(content.splitlines(), dtype=int, delimiter=",", ndmin=2)
    except ValueError as error:
        raise UsageError(f"{place}, {name}_{kind}.txt: {error}") from error
    return rows if kind == "A" else rows[:, 0]


def _text(place: Path, name: str, kind: str) -> str | None:
    """Return the text of a file, None where it is missing."""
    file = f"{name}_{kind}.txt"
    if place.suffix != ".zip":
        path = (_folder(place, name) or place) / file
        return read_text(path) if path.exists() else None
    with reading(place), zipfile.ZipFile(place) as archive:
        entries = [entry for entry in archive.namelist() if Path(entry).name == file]
        return archive.read(entries[0]).decode() if entries else None


def _numbered(values: ndarray) -> torch.Tensor:
    """The rank of each value among the different ones."""
    return torch.from_numpy(np.unique(values, return_inverse=True)[1].astype(np.int64))
