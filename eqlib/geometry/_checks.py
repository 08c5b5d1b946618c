"""Argument checks shared by the operations on graphs and segments."""

import torch
from torch import Tensor

from eqlib.kernels.tracing import is_readable


def check_vector(index: Tensor, name: str) -> None:
    """Raise unless ``index`` is an int64 vector."""
    if index.dtype != torch.int64:
        raise TypeError(
            f"{name} has dtype {index.dtype}; expected torch.int64: convert it with .long()"
        )
    if index.ndim != 1:
        raise ValueError(f"{name} has shape {tuple(index.shape)}; expected one dimension")


def check_index(index: Tensor, size: int, name: str, size_name: str) -> None:
    """Raise unless ``index`` is an int64 vector with entries in [0, size).

    The range is read where that costs no synchronisation: on the CPU, outside torch.compile. On
    CUDA and in compiled code the kernels themselves stop on an entry out of range.
    """
    check_vector(index, name)
    if size < 0:
        raise ValueError(f"{size_name} is {size}; expected at least 0")
    if is_readable(index) and index.numel() > 0:
        check_range(index, size, name, size_name)


def check_range(index: Tensor, size: int, name: str, size_name: str) -> None:
    """Raise unless the entries of ``index``, which is not empty, lie in [0, size)."""
    low, high = (int(bound) for bound in index.aminmax())
    if low < 0 or high >= size:
        raise ValueError(
            f"{name} has entries from {low} to {high}; expected 0 <= {name} < {size_name} = {size}"
        )


def check_rows(values: Tensor, index: Tensor) -> None:
    """Raise unless ``values`` has one row per entry of ``index``, on the same device."""
    if values.shape[:1] != index.shape:
        raise ValueError(
            f"values has shape {tuple(values.shape)} and index {tuple(index.shape)}; "
            "expected one row of values per entry of index"
        )
    if values.device != index.device:
        raise ValueError(
            f"values is on {values.device} and index on {index.device}; move one to the other"
        )


def graph_sizes(batch: Tensor, num_graphs: int | None) -> Tensor:
    """Count the nodes of each graph.

    Args:
        batch: sorted graph index of each node.
        num_graphs: number of graphs; by default up to the last one that has a node.

    Raises:
        TypeError: ``batch`` is not int64.
        ValueError: ``batch`` is not a vector, not sorted, or leaves [0, num_graphs).
    """
    check_vector(batch, "batch")
    if batch.numel() > 0:
        if bool((batch.diff() < 0).any()):
            raise ValueError(
                "batch is not sorted; expected the nodes of a graph in consecutive rows: "
                "order the nodes by batch.argsort(stable=True)"
            )
        last = int(batch[-1]) + 1
        check_range(batch, last if num_graphs is None else num_graphs, "batch", "num_graphs")
    return torch.bincount(batch, minlength=num_graphs or 0)


def check_ends(edge_index: Tensor, batch: Tensor) -> None:
    """Raise unless both ends of every edge, which are nodes of the batch, are in one graph."""
    source, target = edge_index
    crossing = batch.index_select(0, source) != batch.index_select(0, target)
    if bool(crossing.any()):
        edge = int(crossing.nonzero()[0])
        first, second = int(source[edge]), int(target[edge])
        raise ValueError(
            f"edge_index joins nodes {first} and {second}, which batch puts into graphs "
            f"{int(batch[first])} and {int(batch[second])}; expected edges within graphs: number "
            "the nodes on from graph to graph, or leave such edges out"
        )


def check_count(name: str, value: int, least: int = 0) -> None:
    """Raise unless a count is an integer that is large enough."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected an integer")
    if value < least:
        raise ValueError(f"{name} is {value}; expected at least {least}")
