"""Graphs of torch_geometric as inputs, and made of named tensors."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from eqlib.geometry._pyg import graph_of_nodes


def attributes_of(data: Any, names: Iterable[str]) -> dict[str, Any]:
    """The attributes of a graph with these names, its batch and its number of graphs.

    Args:
        data: a ``Data``, which is a batch of one graph, or a ``Batch``.
        names: those that are None or missing are left out.
    """
    found = {name: data[name] for name in names if name in data and data[name] is not None}
    anchor = next(value for value in found.values() if isinstance(value, Tensor))
    batch, num_graphs = graph_of_nodes(data, anchor.device)
    return {**found, "batch": batch, "num_graphs": num_graphs}


def batch_of(attributes: Mapping[str, Any]) -> Any:
    """A ``Batch`` with such attributes, among them ``batch`` and ``num_graphs``."""
    from torch_geometric.data import Batch

    named = dict(attributes)
    sizes = torch.bincount(named["batch"], minlength=named.pop("num_graphs"))
    named["ptr"] = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    return Batch(**named)
