"""Graphs of torch_geometric as inputs, without importing it before one arrives."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


def is_graph(value: Any) -> bool:
    """Whether a value is a ``Data`` or a ``Batch``.

    Raises:
        TypeError: it is a graph of torch_geometric of another kind.
    """
    # Who has such a value has imported torch_geometric.
    loaded = None if isinstance(value, Tensor) else sys.modules.get("torch_geometric.data")
    if loaded is None or not isinstance(value, loaded.data.BaseData):
        return False
    if not isinstance(value, loaded.Data):
        raise TypeError(
            f"inputs: expected a Data or a Batch of torch_geometric, got {type(value).__name__}; "
            "give its tensors by name"
        )
    return True


def attributes_of(data: Any, names: Iterable[str]) -> dict[str, Any]:
    """The attributes of a graph with these names, its batch and its number of graphs.

    Args:
        data: a ``Data``, which is a batch of one graph, or a ``Batch``.
        names: those that are None or missing are left out.
    """
    found = {name: data[name] for name in names if name in data and data[name] is not None}
    if data.batch is None:
        anchor = next(value for value in found.values() if isinstance(value, Tensor))
        found["batch"] = torch.zeros(data.num_nodes, dtype=torch.int64, device=anchor.device)
        return {**found, "num_graphs": 1}
    return {**found, "batch": data.batch, "num_graphs": data.num_graphs}


def batch_of(attributes: Mapping[str, Any]) -> Any:
    """A ``Batch`` with such attributes, among them ``batch`` and ``num_graphs``."""
    from torch_geometric.data import Batch

    named = dict(attributes)
    sizes = torch.bincount(named["batch"], minlength=named.pop("num_graphs"))
    named["ptr"] = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    return Batch(**named)
