"""Graphs of different sizes, held in memory and fetched as one ragged batch."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray
from torch import Tensor

from eqlib.models.training import Batch
from eqlib.models.training.loop import derive_seed
from eqlib.subgraph import SubgraphPlan


class Graphs:
    """Labelled graphs, whose batches are ragged.

    A batch has ``x (nodes,)``, the type of each node, ``edge_index (2, edges)``, ``batch
    (nodes,)``, the graph of each node, ``y (graphs,)``, the label of each graph, and what else is
    given for nodes. An empty graph keeps its label.

    Args:
        x: type of each node, graph after graph.
        edge_index: edges, numbered within their graph from 0.
        node_ptr: first node of each graph, and the number of all nodes.
        edge_ptr: first edge of each graph, and the number of all edges.
        y: label of each graph.
        extra: further values of the nodes by name, with the nodes on the last axis.
        local: names of those that are indices of nodes within their graph.
        plan: the subgraphs of all graphs; batches have their part of it as ``plan``.

    Raises:
        ValueError: the parts disagree on the numbers of graphs, nodes or edges.
    """

    def __init__(
        self,
        x: Int[Tensor, "nodes"],
        edge_index: Int[Tensor, "2 edges"],
        node_ptr: Int[Tensor, "bounds"],
        edge_ptr: Int[Tensor, "bounds"],
        y: Int[Tensor, "graphs"],
        extra: dict[str, Tensor] | None = None,
        local: Sequence[str] = (),
        plan: SubgraphPlan | None = None,
    ) -> None:
        self.x, self.edge_index = x, edge_index
        self.node_ptr, self.edge_ptr, self.y = node_ptr, edge_ptr, y
        self.extra, self.local = dict(extra or {}), tuple(local)
        self.plan = plan
        self.plans: dict[Hashable, SubgraphPlan] = {}
        self._check()

    @classmethod
    def stack(cls, graphs: Iterable[tuple[int, Int[ndarray, "2 _"]]]) -> "Graphs":
        """Return graphs given by their number of nodes and their edges; types and labels are 0."""
        sizes, edges = [], []
        for nodes, edge_index in graphs:
            sizes.append(nodes)
            edges.append(edge_index)
        flat = np.concatenate([np.zeros((2, 0), np.int64), *edges], 1)
        return cls(
            torch.zeros(sum(sizes), dtype=torch.int64),
            torch.from_numpy(flat.astype(np.int64)),
            _bounds(sizes),
            _bounds([edge_index.shape[1] for edge_index in edges]),
            torch.zeros(len(sizes), dtype=torch.int64),
        )

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, indices: Int[Tensor, "items"]) -> Batch:
        node_counts = self.node_ptr.diff()[indices]
        nodes = _ranges(self.node_ptr[indices], node_counts)
        edge_counts = self.edge_ptr.diff()[indices]
        edges = _ranges(self.edge_ptr[indices], edge_counts)
        first = node_counts.cumsum(0) - node_counts
        graph = torch.arange(len(indices)).repeat_interleave(node_counts)
        offset = first.repeat_interleave(edge_counts)
        batch: Batch = {
            "x": self.x[nodes],
            "edge_index": self.edge_index[:, edges] + offset,
            "batch": graph,
            "y": self.y[indices],
        }
        for name, values in self.extra.items():
            batch[name] = values[..., nodes] + (first[graph] if name in self.local else 0)
        if self.plan is not None:
            batch["plan"] = self.plan.select(indices)
        return batch

    def part(self, start: int, stop: int) -> "Graphs":
        """Return the graphs from ``start`` to before ``stop``."""
        nodes = slice(int(self.node_ptr[start]), int(self.node_ptr[stop]))
        edges = slice(int(self.edge_ptr[start]), int(self.edge_ptr[stop]))
        return Graphs(
            self.x[nodes],
            self.edge_index[:, edges],
            self.node_ptr[start : stop + 1] - nodes.start,
            self.edge_ptr[start : stop + 1] - edges.start,
            self.y[start:stop],
            {name: values[..., nodes] for name, values in self.extra.items()},
            self.local,
            None if self.plan is None else self.plan.select(torch.arange(start, stop)),
        )

    def with_nodes(self, local: bool = False, **values: Tensor) -> "Graphs":
        """Return these graphs with further values of the nodes; see the arguments of the class."""
        names = (*self.local, *values) if local else self.local
        parts = self.x, self.edge_index, self.node_ptr, self.edge_ptr, self.y
        return Graphs(*parts, {**self.extra, **values}, names, self.plan)

    def with_plan(self, plan: SubgraphPlan) -> "Graphs":
        """Return these graphs with a plan of their subgraphs."""
        parts = self.x, self.edge_index, self.node_ptr, self.edge_ptr, self.y
        return Graphs(*parts, self.extra, self.local, plan)

    def _check(self) -> None:
        sizes = {"node_ptr": len(self.node_ptr) - 1, "edge_ptr": len(self.edge_ptr) - 1}
        if set(sizes.values()) != {len(self.y)}:
            raise ValueError(f"y: got {len(self.y)} labels, but bounds of graphs are {sizes}")
        nodes, edges = len(self.x), self.edge_index.shape[1]
        if self.node_ptr[-1] != nodes or self.edge_ptr[-1] != edges:
            raise ValueError(
                f"node_ptr, edge_ptr: end at {int(self.node_ptr[-1])} and "
                f"{int(self.edge_ptr[-1])}, but there are {nodes} nodes and {edges} edges"
            )
        counts = self.node_ptr.diff().repeat_interleave(self.edge_ptr.diff())
        if edges and not bool(((self.edge_index >= 0) & (self.edge_index < counts)).all()):
            raise ValueError("edge_index: an edge leaves the nodes of its graph")


class Selection:
    """Some graphs of a set, such as those of a split, which share its memory and its plan.

    Args:
        graphs: the set.
        rows: the numbers of the graphs.
    """

    def __init__(self, graphs: Graphs, rows: Int[Tensor, "items"]) -> None:
        self.graphs, self.rows = graphs, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Int[Tensor, "items"]) -> Batch:
        return self.graphs[self.rows[indices]]


def relabellings(graphs: Graphs, copies: int) -> Int[Tensor, "copies nodes"]:
    """Return random relabellings of each graph: where each node goes, within its graph.

    Relabelling k of graph i is a function of the two numbers and of the graph's size alone.
    """
    columns = []
    for graph, nodes in enumerate(graphs.node_ptr.diff().tolist()):
        generator = torch.Generator().manual_seed(derive_seed("relabelling", graph, nodes))
        columns.append(torch.rand(copies, nodes, generator=generator).argsort(1))
    return torch.cat([torch.zeros(copies, 0, dtype=torch.int64), *columns], 1)


def relabel(batch: Batch, target: Int[Tensor, "nodes"]) -> Batch:
    """Return a batch of graphs whose node i has moved to slot ``target[i]`` of its graph."""
    x = torch.empty_like(batch["x"])
    x[target] = batch["x"]
    return {
        "x": x,
        "edge_index": target[batch["edge_index"]],
        "batch": batch["batch"],
        "y": batch["y"],
    }


def _ranges(start: Tensor, counts: Tensor) -> Tensor:
    """The integers ``start[i] ... start[i] + counts[i] - 1``, one range after the other."""
    first = counts.cumsum(0) - counts
    return torch.arange(int(counts.sum())) + (start - first).repeat_interleave(counts)


def _bounds(counts: Sequence[int]) -> Tensor:
    return torch.tensor([0, *counts], dtype=torch.int64).cumsum(0)
