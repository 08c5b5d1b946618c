"""Graphs of torch_geometric as inputs of a network, without importing it before one arrives."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eqlib.geometry._pyg import is_graph


def graph_inputs(
    data: Any,
    scalars: str | Sequence[str] | None = "x",
    vectors: str | Sequence[str] | None = None,
    edge_scalars: str | Sequence[str] | None = None,
    points: str = "pos",
) -> dict[str, Any]:
    """The inputs of a network by name, from a graph or a batch of graphs: ``net(**inputs)``.

    Args:
        data: a ``Data``, which is a batch of one graph, or a ``Batch``; it is left as it is.
        scalars: attributes of the nodes, (nodes,) or (nodes, s), put side by side; None: none.
        vectors: attributes of the nodes, (nodes, n) or (nodes, v, n), one after the other.
        edge_scalars: attributes of the edges, (edges,) or (edges, s), put side by side.
        points: attribute with the positions, (nodes, n).

    Returns:
        ``points``, ``batch`` and ``num_graphs``; ``edge_index`` if the graph has one; and what was
        asked for, in the dtype of the points.

    Raises:
        TypeError: ``data`` is no graph of torch_geometric.
        ValueError: the graph lacks an attribute, or one has another shape.
    """
    if not is_graph(data):
        raise TypeError(
            f"data: expected a Data or a Batch of torch_geometric, got {type(data).__name__}; "
            "give tensors to the network by name"
        )
    positions = _attribute(data, points)
    nodes = len(positions)
    found: dict[str, Any] = {"points": positions}
    for name, chosen, rows in (
        ("scalars", scalars, nodes),
        ("edge_scalars", edge_scalars, data.num_edges),
    ):
        columns = [_columns(data, key, rows).to(positions.dtype) for key in _names(chosen)]
        if columns:
            found[name] = torch.cat(columns, -1)
    arrows = [_arrows(data, key, positions) for key in _names(vectors)]
    if arrows:
        found["vectors"] = torch.cat(arrows, 1)
    if data.edge_index is not None:
        found["edge_index"] = data.edge_index
    if data.batch is None:
        batch = torch.zeros(nodes, dtype=torch.int64, device=positions.device)
        return {**found, "batch": batch, "num_graphs": 1}
    return {**found, "batch": data.batch, "num_graphs": data.num_graphs}


def _names(chosen: str | Sequence[str] | None) -> Sequence[str]:
    if chosen is None:
        return ()
    return (chosen,) if isinstance(chosen, str) else chosen


def _attribute(data: Any, name: str) -> Tensor:
    value = getattr(data, name, None)
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name}: the graph has no such tensor; it has {', '.join(data.keys()) or 'nothing'}"
        )
    return value


def _columns(data: Any, name: str, rows: int) -> Tensor:
    value = _attribute(data, name)
    if value.ndim not in (1, 2) or len(value) != rows:
        raise ValueError(
            f"{name}: expected shape ({rows},) or ({rows}, s) for scalars, got {tuple(value.shape)}"
        )
    return value.reshape(rows, -1)


def _arrows(data: Any, name: str, points: Tensor) -> Tensor:
    value, (nodes, n) = _attribute(data, name), points.shape
    if value.ndim not in (2, 3) or len(value) != nodes or value.shape[-1] != n:
        raise ValueError(
            f"{name}: expected shape ({nodes}, {n}) or ({nodes}, v, {n}) for vectors, "
            f"got {tuple(value.shape)}"
        )
    return value.reshape(nodes, value.shape[1] if value.ndim == 3 else 1, n).to(points.dtype)
