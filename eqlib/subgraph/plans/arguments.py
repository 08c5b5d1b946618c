"""Graphs as makers of plans take them, with the checks of what arrives."""

from typing import NamedTuple

import torch
from torch import Tensor

from eqlib.geometry._checks import (
    check_count,
    check_ends,
    check_range,
    check_vector,
    graph_sizes,
)
from eqlib.subgraph.plans.cost import PlanCost, check_cost, check_limit


class GraphBatch(NamedTuple):
    """A checked batch of graphs.

    Attributes:
        edge_index: (2, edges), as given.
        batch: graph of each node, ascending.
        sizes: number of nodes of each graph.
    """

    edge_index: Tensor
    batch: Tensor
    sizes: Tensor

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return self.batch.shape[0]

    @property
    def num_graphs(self) -> int:
        """Number of graphs, those without nodes included."""
        return self.sizes.shape[0]


def check_graphs(
    edge_index: Tensor,
    batch: Tensor | None,
    num_nodes: int | None,
    num_graphs: int | None,
    limit: int | None,
) -> GraphBatch:
    """Return a batch of graphs with its sizes filled in.

    Args:
        edge_index: source and target of each edge.
        batch: graph of each node; None: one graph.
        num_nodes: number of nodes.
        num_graphs: number of graphs.
        limit: bytes that a plan may take; None: any.

    Raises:
        TypeError: ``edge_index`` or ``batch`` is no int64 tensor, or a number is no integer.
        ValueError: shapes, devices or numbers do not fit, an index is out of range, ``batch`` is
            not sorted, an edge joins two graphs, or the nodes alone pass ``limit``.
    """
    check_limit(limit)
    check_edge_index(edge_index)
    for name, value in (("num_nodes", num_nodes), ("num_graphs", num_graphs)):
        if value is not None:
            check_count(name, value)
    if batch is None:
        nodes = _count_nodes(edge_index) if num_nodes is None else num_nodes
        if num_graphs is None:
            num_graphs = 1
        if num_graphs != 1 and nodes > 0:
            raise ValueError(
                f"num_graphs is {num_graphs} and batch is missing; expected batch, the graph of "
                "each node"
            )
        check_cost(_least_cost(nodes), limit)
        batch = torch.zeros(nodes, dtype=torch.int64, device=edge_index.device)
    check_batch(batch, edge_index, num_nodes)
    sizes = graph_sizes(batch, num_graphs)
    if edge_index.shape[1] > 0:
        check_range(edge_index, batch.shape[0], "edge_index", "number of nodes")
        check_ends(edge_index, batch)
    return GraphBatch(edge_index, batch, sizes)


def check_edge_index(edge_index: Tensor) -> None:
    """Raise unless ``edge_index`` is an int64 tensor (2, edges)."""
    if not isinstance(edge_index, Tensor):
        raise TypeError(
            f"edge_index is of type {type(edge_index).__name__}; expected a tensor (2, edges)"
        )
    if edge_index.dtype != torch.int64:
        raise TypeError(
            f"edge_index has dtype {edge_index.dtype}; expected torch.int64: convert it with "
            ".long()"
        )
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        raise ValueError(
            f"edge_index has shape {tuple(edge_index.shape)}; expected (2, edges): the source and "
            "the target of each edge"
        )


def check_indices(name: str, index: Tensor) -> None:
    """Raise unless a value is an int64 vector."""
    if not isinstance(index, Tensor):
        raise TypeError(
            f"{name} is of type {type(index).__name__}; expected a tensor: write torch.tensor(...)"
        )
    check_vector(index, name)


def check_batch(batch: Tensor, edge_index: Tensor, num_nodes: int | None) -> None:
    """Raise unless ``batch`` is an int64 vector on the device of the edges, of the right length."""
    check_indices("batch", batch)
    if batch.device != edge_index.device:
        raise ValueError(
            f"batch is on {batch.device} and edge_index on {edge_index.device}; move one to the "
            "other"
        )
    if num_nodes is not None and batch.shape[:1] != (num_nodes,):
        raise ValueError(
            f"batch has shape {tuple(batch.shape)} and num_nodes is {num_nodes}; expected the "
            "graph of each node"
        )


def _least_cost(nodes: int) -> PlanCost:
    """What any plan of one graph takes at least, which a wrong number of nodes shows."""
    return PlanCost(f"{nodes:,} nodes", nodes, nodes**2, nodes, 1, nodes, bounded=True)


def _count_nodes(edge_index: Tensor) -> int:
    return int(edge_index.max()) + 1 if edge_index.shape[1] > 0 else 0
