"""Convert the public pickle of EXP: ``python -m eqlib.models.graphs.convert GRAPHSAT.pkl exp.npz``.

Reading a pickle can run any program. This one is read by an unpickler that knows a short list of
names, for which it makes plain objects; a file that asks for anything else is refused.
"""

import argparse
import io
import pickle
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

_WARNING = """\
warning: {path} is a pickle, a format that can run programs. It is read with a short list of
allowed names; convert only files from a source that you trust."""


def convert_exp(path: Path) -> dict[str, ndarray]:
    """Return the graphs of ``GRAPHSAT.pkl`` as arrays, in the layout that `read_exp` reads.

    Args:
        path: the pickle, a list of PyG ``Data`` objects with ``x``, ``edge_index`` and ``y``.

    Raises:
        pickle.UnpicklingError: the file asks for a name that no list of graphs needs.
        ValueError: it holds something else than graphs.
    """
    with path.open("rb") as file:
        graphs = [_fields(graph) for graph in _Unpickler(file).load()]
    try:
        x = [np.asarray(graph["x"]).reshape(-1, 1) for graph in graphs]
        edges = [np.asarray(graph["edge_index"]).reshape(2, -1) for graph in graphs]
        labels = [int(np.asarray(graph["y"]).reshape(())) for graph in graphs]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: expected graphs with x, edge_index and y: {error}") from error
    return {
        "x": np.concatenate(x).astype(np.int8),
        "edge_index": np.concatenate(edges, 1).astype(np.int16),
        "node_ptr": _bounds(map(len, x)),
        "edge_ptr": _bounds(edge_index.shape[1] for edge_index in edges),
        "y": np.array(labels, np.int8),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert a file and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m eqlib.models.graphs.convert",
        description="Convert the public pickle of EXP to arrays that are read without pickle.",
    )
    parser.add_argument("pickle", type=Path, help="the public file, GRAPHSAT.pkl")
    parser.add_argument("out", type=Path, help="where to write: exp/exp.npz in the data folder")
    given = parser.parse_args(arguments)
    print(_WARNING.format(path=given.pickle), file=sys.stderr)
    try:
        arrays = convert_exp(given.pickle)
        given.out.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(given.out, allow_pickle=False, **arrays)
    except (OSError, ValueError, pickle.UnpicklingError) as error:
        print(f"convert: {error}", file=sys.stderr)
        return 1
    print(f"{given.out}: {len(arrays['y'])} graphs, {len(arrays['x'])} nodes")
    return 0


class _Record:
    """Stands for a ``Data`` object and what it keeps its fields in."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _load_storage(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), weights_only=True)


class _Unpickler(pickle.Unpickler):
    """Makes tensors, arrays and records; refuses all other names."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name of the file."""
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module.startswith("torch_geometric.data."):
            return _Record
        raise pickle.UnpicklingError(
            f"the file asks for {module}.{name}, which graphs do not need; it was not run"
        )


_empty_array = np.empty(0).__reduce__()[0]  # numpy's function of this purpose, wherever it lies
_ALLOWED: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch.storage", "_load_from_bytes"): _load_storage,
    ("collections", "OrderedDict"): dict,
    ("_codecs", "encode"): str.encode,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
}


def _fields(record: Any) -> dict[str, Tensor | ndarray]:
    """Return the fields of a record; newer versions of PyG keep them in a store."""
    content = vars(record) if isinstance(record, _Record) else {}
    store = content.get("_store")
    return vars(store).get("_mapping", {}) if isinstance(store, _Record) else content


def _bounds(counts: Iterable[int]) -> ndarray:
    return np.cumsum([0, *counts], dtype=np.int64)


if __name__ == "__main__":
    sys.exit(main())
