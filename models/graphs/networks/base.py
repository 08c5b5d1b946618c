"""What all graph networks share: their inputs, the checks on them, and their signature."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eqlib.symmetry import (
    BatchIndex,
    EdgeIndex,
    NodeOrder,
    Permutations,
    Scalar,
    Signature,
)

SIGNATURE = Signature(
    Permutations(),
    inputs={
        "x": Scalar() * NodeOrder(0),
        "edge_index": EdgeIndex(),
        "batch": BatchIndex(),
    },
    outputs=Scalar(),
)


class RaggedGraphs(NamedTuple):
    """A ragged batch of graphs, with the place of every node in its graph."""

    x: Int[Tensor, "nodes"]
    edge_index: Int[Tensor, "2 edges"]
    batch: Int[Tensor, "nodes"]
    num_graphs: int

    @property
    def place(self) -> Int[Tensor, "nodes"]:
        """The place of each node among those of its graph, from 0."""
        counts = torch.bincount(self.batch, minlength=self.num_graphs)
        first = counts.cumsum(0) - counts
        return torch.arange(len(self.batch), device=self.batch.device) - first[self.batch]


class GraphNetwork(nn.Module, ABC):
    """Map graphs with typed nodes to one row of numbers each."""

    @property
    def signature(self) -> Signature:
        """What relabelling the nodes should do: nothing."""
        return SIGNATURE

    def forward(
        self,
        x: Int[Tensor, "nodes"],
        edge_index: Int[Tensor, "2 edges"],
        batch: Int[Tensor, "nodes"] | None = None,
        num_graphs: int | None = None,
        classes: Int[Tensor, "nodes"] | None = None,
    ) -> Float[Tensor, "graphs outputs"]:
        """Return one row of outputs for each graph.

        Args:
            x: type of each node, from 0.
            edge_index: source and target of every edge; undirected edges in both directions.
            batch: graph of each node, sorted; None puts all nodes into one graph.
            num_graphs: number of graphs; None counts up to the last one that has a node.
            classes: those of `eqlib.frames.node_classes`, to compute them once and not in every
                pass; networks without frames take no notice of them.

        Raises:
            TypeError: an input does not consist of integers.
            ValueError: shapes disagree.
        """
        if batch is None:
            batch = torch.zeros_like(x)
            num_graphs = 1 if num_graphs is None else num_graphs
        _check(x, edge_index, batch, classes)
        if num_graphs is None:
            num_graphs = int(batch[-1]) + 1 if len(batch) else 0
        return self.predict(RaggedGraphs(x, edge_index, batch, num_graphs), classes)

    @abstractmethod
    def predict(
        self, graphs: RaggedGraphs, classes: Int[Tensor, "nodes"] | None
    ) -> Float[Tensor, "graphs outputs"]:
        """Return the outputs of each graph."""


def _check(x: Tensor, edge_index: Tensor, batch: Tensor, classes: Tensor | None) -> None:
    given = {"x": x, "edge_index": edge_index, "batch": batch, "classes": classes}
    for name, value in given.items():
        if value is None:
            continue
        if value.dtype != torch.int64:
            raise TypeError(
                f"{name}: got {value.dtype}, expected torch.int64; convert with .long()"
            )
        if name == "edge_index" and (value.ndim != 2 or len(value) != 2):
            raise ValueError(f"edge_index: got shape {tuple(value.shape)}, expected (2, edges)")
        if name != "edge_index" and value.shape != x.shape[:1]:
            raise ValueError(
                f"{name}: got shape {tuple(value.shape)}, expected {tuple(x.shape[:1])}: "
                "one entry for each node of all graphs"
            )
