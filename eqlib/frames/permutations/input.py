"""Graphs and features as arguments of permutation frames, checked and brought to one form."""

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from eqlib.geometry._checks import check_range, graph_sizes


class Graphs(NamedTuple):
    """Graphs as a list of weighted edges."""

    source: Tensor
    target: Tensor
    weight: Tensor
    batch: Tensor
    num_graphs: int


def read_graphs(
    graph: Tensor,
    mask: Tensor | None,
    batch: Tensor | None,
    num_graphs: int | None,
    edge_weight: Tensor | None,
) -> tuple[Tensor | None, tuple[int, ...], Graphs]:
    """The rows that exist if these are not all, the shape of nodes, and the graphs.

    Raises:
        ValueError: as in :func:`permutation_frames`.
        TypeError: as in :func:`permutation_frames`.
    """
    _require_real("graph", graph)
    if batch is None:
        if edge_weight is not None:
            raise ValueError("edge_weight: only a ragged batch has it; weights are in the matrices")
        rows, graphs = _dense(graph, mask, num_graphs)
        nodes = tuple(graph.shape[:-1])
    else:
        check_batch(batch, mask, num_graphs)
        rows, graphs = None, _ragged(graph, batch, num_graphs, edge_weight)
        nodes = tuple(batch.shape)
    _require_finite("graph" if edge_weight is None else "edge_weight", graphs.weight)
    return rows, nodes, graphs


def existing_rows(
    dense: Tensor, mask: Tensor | None, num_graphs: int | None
) -> tuple[Tensor, Tensor, int]:
    """Rows of a flattened dense batch that exist, the graph of each, and the number of graphs."""
    if num_graphs is not None:
        raise ValueError("num_graphs: only a ragged batch has graphs; give batch as well")
    nodes = dense.shape[:-1]
    rows = torch.arange(nodes.numel(), device=dense.device)
    if mask is not None:
        if mask.dtype != torch.bool:
            raise TypeError(f"mask: expected booleans, got {mask.dtype}; convert with .bool()")
        if mask.shape != nodes:
            raise ValueError(f"mask: expected shape {tuple(nodes)}, got {tuple(mask.shape)}")
        rows = mask.flatten().nonzero()[:, 0]
    return rows, rows // max(nodes[-1], 1), nodes[:-1].numel()


def _dense(adjacency: Tensor, mask: Tensor | None, num_graphs: int | None) -> tuple[Tensor, Graphs]:
    """The rows that exist, and their graphs."""
    if adjacency.ndim < 2 or adjacency.shape[-1] != adjacency.shape[-2]:
        raise ValueError(
            "graph: expected adjacency matrices (..., nodes, nodes), "
            f"got shape {tuple(adjacency.shape)}; an edge_index (2, edges) needs batch, "
            "such as torch.zeros(nodes, dtype=torch.int64)"
        )
    rows, batch, count = existing_rows(adjacency, mask, num_graphs)
    number = torch.full((adjacency.shape[:-1].numel(),), -1, device=rows.device)
    number[rows] = torch.arange(len(rows), device=rows.device)
    number = number.reshape(count, adjacency.shape[-1])
    exists = number >= 0
    flat = adjacency.detach().reshape(count, *adjacency.shape[-2:]).double()
    flat = flat.masked_fill(~(exists[..., None] & exists[:, None]), 0.0)
    graph, source, target = flat.nonzero(as_tuple=True)
    weight = flat[graph, source, target]
    return rows, Graphs(number[graph, source], number[graph, target], weight, batch, count)


def _ragged(
    edge_index: Tensor, batch: Tensor, num_graphs: int | None, edge_weight: Tensor | None
) -> Graphs:
    if edge_index.dtype != torch.int64:
        raise TypeError(
            "graph: expected an edge_index of dtype torch.int64 beside batch, "
            f"got {edge_index.dtype}; convert with .long()"
        )
    if edge_index.ndim != 2 or len(edge_index) != 2:
        raise ValueError(
            f"graph: expected an edge_index (2, edges), got shape {tuple(edge_index.shape)}"
        )
    source, target = edge_index
    if len(source):
        check_range(edge_index, len(batch), "graph", "len(batch)")
        if bool((batch[source] != batch[target]).any()):
            raise ValueError("graph: expected edges inside graphs, got some from one to another")
    weight = torch.ones(len(source), dtype=torch.float64, device=edge_index.device)
    if edge_weight is not None:
        if edge_weight.shape != source.shape:
            raise ValueError(
                f"edge_weight: expected shape {tuple(source.shape)}, got {tuple(edge_weight.shape)}"
            )
        weight = edge_weight.detach().double()
    return Graphs(source, target, weight, batch, check_batch(batch, None, num_graphs))


def check_batch(batch: Tensor, mask: Tensor | None, num_graphs: int | None) -> int:
    """Number of graphs of a ragged batch."""
    if mask is not None:
        raise ValueError("mask: a ragged batch has none; give either mask or batch")
    return len(graph_sizes(batch, num_graphs))


def read_columns(
    features: Tensor | None, nodes: tuple[int, ...], rows: Tensor | None
) -> Tensor | None:
    """One row of features per node that exists."""
    if features is None:
        return None
    if tuple(features.shape[: len(nodes)]) != nodes or features.ndim > len(nodes) + 1:
        raise ValueError(
            f"features: expected shape ({', '.join(map(str, nodes))}[, channels]), "
            f"one row per node, got {tuple(features.shape)}"
        )
    _require_real("features", features)
    columns = features.detach().reshape(prod(nodes), prod(features.shape[len(nodes) :]))
    columns = columns if rows is None else columns[rows]
    _require_finite("features", columns)
    return columns


def _require_finite(name: str, values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise ValueError(
            f"{name}: expected finite numbers, got NaN or infinity; nodes cannot be sorted by them"
        )


def _require_real(name: str, values: Tensor) -> None:
    if values.is_complex():
        raise TypeError(f"{name}: expected real numbers, got {values.dtype}")


def require_tolerance(tolerance: float) -> None:
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance: expected a number between 0 and 1, got {tolerance}")
