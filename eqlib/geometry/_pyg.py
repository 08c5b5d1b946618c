"""Graphs of torch_geometric as inputs, without importing it before one arrives."""

import sys
from typing import Any

import torch
from torch import Tensor


def is_graph(value: Any, name: str = "inputs") -> bool:
    """Whether a value is a ``Data`` or a ``Batch``.

    Args:
        value: what was given.
        name: of the argument.

    Raises:
        TypeError: it is a graph of torch_geometric of another kind.
    """
    # Who has such a value has imported torch_geometric.
    loaded = None if isinstance(value, Tensor) else sys.modules.get("torch_geometric.data")
    if loaded is None or not isinstance(value, loaded.data.BaseData):
        return False
    if not isinstance(value, loaded.Data):
        raise TypeError(
            f"{name}: expected a Data or a Batch of torch_geometric, got {type(value).__name__}; "
            "give its tensors by name"
        )
    return True


def graph_of_nodes(data: Any, device: torch.device) -> tuple[Tensor, int]:
    """The graph of each node, and the number of graphs.

    Args:
        data: a ``Data``, which is a batch of one graph, or a ``Batch``.
        device: of the numbers that a ``Data`` lacks.
    """
    if data.batch is None:
        return torch.zeros(data.num_nodes, dtype=torch.int64, device=device), 1
    # A Data with a vector named batch does not know how many graphs that is.
    known = getattr(data, "num_graphs", None)
    if known is not None:
        return data.batch, known
    return data.batch, int(data.batch.max()) + 1 if len(data.batch) else 0
