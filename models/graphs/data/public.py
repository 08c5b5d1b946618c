"""The public layout of the TU sets: one file of edges, graphs, labels and types each."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray

from eqlib.models.graphs.data.ragged import Graphs

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
        ValueError: a file is missing or damaged, or the files do not fit together.
    """
    edges, graph, labels = (_numbers(place, name, kind) for kind in _FILES)
    if _text(place, name, "node_labels") is None:
        types = np.zeros(len(graph), np.int64)
    else:
        types = _numbers(place, name, "node_labels")
    where = f"{place}, {name}"
    _check(where, edges, graph, labels, types)
    source, target = np.unique(edges - 1, axis=0).T
    if (graph[source] != graph[target]).any():
        raise ValueError(f"{where}_A.txt: an edge joins two graphs")
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


def _check(where: str, edges: ndarray, graph: ndarray, labels: ndarray, types: ndarray) -> None:
    """Refuse files that do not fit together."""
    if edges.ndim != 2 or edges.shape[1] != 2:
        raise ValueError(f"{where}_A.txt: expected two numbers in a line")
    if len(types) != len(graph):
        raise ValueError(
            f"{where}_node_labels.txt: got {len(types)} lines, expected one for each of the "
            f"{len(graph)} nodes of graph_indicator.txt"
        )
    if len(graph) and (
        np.diff(graph).min(initial=0) < 0 or graph[0] < 1 or graph[-1] > len(labels)
    ):
        raise ValueError(
            f"{where}_graph_indicator.txt: expected graphs 1 to {len(labels)} in ascending order, "
            f"as graph_labels.txt has {len(labels)} lines"
        )
    if len(edges) and (edges.min() < 1 or edges.max() > len(graph)):
        raise ValueError(f"{where}_A.txt: expected nodes 1 to {len(graph)}, got {edges.max()}")


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
        raise ValueError(f"{place}: there is no {name}_{kind}.txt in it; download it again")
    try:
        rows = np.loadtxt(content.splitlines(), dtype=int, delimiter=",", ndmin=2)
    except ValueError as error:
        raise ValueError(f"{place}, {name}_{kind}.txt: {error}") from error
    return rows if kind == "A" else rows[:, 0]


def _text(place: Path, name: str, kind: str) -> str | None:
    """Return the text of a file, None where it is missing."""
    file = f"{name}_{kind}.txt"
    if place.suffix != ".zip":
        path = (_folder(place, name) or place) / file
        return path.read_text() if path.exists() else None
    try:
        with zipfile.ZipFile(place) as archive:
            entries = [entry for entry in archive.namelist() if Path(entry).name == file]
            return archive.read(entries[0]).decode() if entries else None
    except zipfile.BadZipFile as error:
        raise ValueError(f"{place} is damaged or no zip file; download it again") from error


def _numbered(values: ndarray) -> torch.Tensor:
    """The rank of each value among the different ones."""
    return torch.from_numpy(np.unique(values, return_inverse=True)[1].astype(np.int64))
