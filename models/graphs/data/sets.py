"""The separation sets GRAPH8c, SR25 and EXP: where their files lie and how they are read."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs
import torch
from numpy import ndarray

from eqlib.frames import node_classes
from eqlib.models.graphs.data.files import reading
from eqlib.models.graphs.data.graph6 import read_graph6
from eqlib.models.graphs.data.ragged import Graphs, relabellings
from eqlib.models.training import Splits
from eqlib.usage import UsageError, unknown

COPIES = 32  # relabellings of each test graph
_REPOSITORY = "https://github.com/balcilar/gnn-matlang (folder dataset)"


class Source(NamedTuple):
    """A data set: its file below the data folder, and how it is had and read."""

    file: str
    read: Callable[[Path], Graphs]
    public: str
    """Name of the public file."""
    convert: bool
    """Whether the public file has to be converted first."""


def exp_classify(data_dir: Path | None = None) -> Splits:
    """Return EXP in its usual split: graphs 400-1199 to train, 0-199 to validate, 200-399 to test.

    Every batch has beside the graphs ``classes``, which nodes their permutation frame cannot tell
    apart. Test batches also have ``relabelled``, 32 random relabellings of each graph.

    Args:
        data_dir: folder that holds ``exp/exp.npz``; None takes the user's cache folder.

    Raises:
        FileNotFoundError: the file is missing; the message says where to get it.

    Source:
        Abboud et al., The Surprising Power of Graph Neural Networks with Random Node
        Initialization, IJCAI 2021; the split is that of Balcilar et al., Breaking the Limits of
        Message Passing Graph Neural Networks, ICML 2021.
    """
    graphs = load("exp", data_dir)
    if len(graphs) != 1200:
        raise UsageError(f"exp: expected 1200 graphs, got {len(graphs)}; download the file again")
    everything = graphs[torch.arange(len(graphs))]
    classes = node_classes(
        everything["edge_index"],
        everything["x"],
        batch=everything["batch"],
        num_graphs=len(graphs),
    ).classes
    graphs = graphs.with_nodes(classes=classes)
    test = graphs.part(200, 400)
    test = test.with_nodes(local=True, relabelled=relabellings(test, COPIES))
    return Splits(train=graphs.part(400, 1200), valid=graphs.part(0, 200), test=test)


def load(name: str, data_dir: Path | None = None) -> Graphs:
    """Read a data set.

    Args:
        name: one of `SOURCES`.
        data_dir: folder that holds the file named there; None takes the user's cache folder.

    Raises:
        FileNotFoundError: the file is missing; the message says where to get it.
        UsageError: there is no such data set, or the file is damaged.
    """
    if name not in SOURCES:
        raise unknown("dataset", name, SOURCES)
    source = SOURCES[name]
    path = data_folder(data_dir) / source.file
    if not path.exists():
        raise FileNotFoundError(_advice(name, source, path))
    return source.read(path)


def data_folder(data_dir: Path | None = None) -> Path:
    """Return the folder of the graph data; None stands for the one in the user's cache."""
    return platformdirs.user_cache_path("eqlib") / "graphs" if data_dir is None else Path(data_dir)


def read_exp(path: Path) -> Graphs:
    """Read EXP as `eqlib.models.graphs.convert` writes it.

    Raises:
        UsageError: the file is damaged, an array is missing, or they do not fit together.
    """
    with reading(path), path.open("rb") as file, np.load(file, allow_pickle=False) as content:
        names = ("x", "edge_index", "node_ptr", "edge_ptr", "y")
        missing = [name for name in names if name not in content]
        if missing:
            raise UsageError(f"{path}: {', '.join(missing)} missing; convert the file again")
        x, edge_index, node_ptr, edge_ptr, y = (_integers(content[name]) for name in names)
        return Graphs(x.reshape(-1), edge_index, node_ptr, edge_ptr, y)


def _read_graph6(path: Path) -> Graphs:
    return Graphs.stack(read_graph6(path))


def _integers(array: ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array).astype(np.int64))


def _advice(name: str, source: Source, path: Path) -> str:
    """Return what to do where a file is missing."""
    found = f"{name}: there is no file {path}; download {source.public} from {_REPOSITORY}"
    other = "or name another folder with --data-dir"
    if not source.convert:
        return f"{found} and put it there, {other}"
    command = f"python -m eqlib.models.graphs.convert {Path(source.public).name} {path}"
    return f"{found} and run: {command} ({other})"


SOURCES = {
    "graph8c": Source("graph8c.g6", _read_graph6, "graph8c/raw/graph8c.g6", False),
    "sr25": Source("sr251256.g6", _read_graph6, "sr25/raw/sr251256.g6", False),
    "exp": Source("exp/exp.npz", read_exp, "EXP/raw/GRAPHSAT.pkl", True),
}
"""The data sets in which networks separate pairs, by the name that users type."""
