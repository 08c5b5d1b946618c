"""What all graph networks share: their inputs, the checks on them, and their signature."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eqlib.geometry._checks import graph_sizes
from eqlib.kernels.tracing import is_readable
from eqlib.models.graphs.networks.plans import PlanOptions, check_decided, check_plan, make_plan
from eqlib.subgraph import SubgraphPlan
from eqlib.symmetry import (
    BatchIndex,
    EdgeIndex,
    NodeOrder,
    Permutations,
    Scalar,
    Signature,
)
from eqlib.usage import UsageError, unknown

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
    plan: SubgraphPlan | None = None

    @property
    def place(self) -> Int[Tensor, "nodes"]:
        """The place of each node among those of its graph, from 0."""
        counts = torch.bincount(self.batch, minlength=self.num_graphs)
        first = counts.cumsum(0) - counts
        return torch.arange(len(self.batch), device=self.batch.device) - first[self.batch]


class GraphNetwork(nn.Module, ABC):
    """Map graphs with typed nodes to one row of numbers each."""

    plan_options: PlanOptions | None = None
    """Which subgraphs the network sees; None for networks that see none."""
    node_types: int | None = None
    """Number of node types; None takes any."""

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
        plan: SubgraphPlan | None = None,
    ) -> Float[Tensor, "graphs outputs"]:
        """Return one row of outputs for each graph.

        Args:
            x: type of each node, from 0.
            edge_index: source and target of every edge; undirected edges in both directions.
            batch: graph of each node, sorted; None puts all nodes into one graph.
            num_graphs: number of graphs; None counts up to the last one that has a node.
            classes: those of `eqlib.frames.node_classes`, to compute them once and not in every
                pass; networks without frames take no notice of them.
            plan: the subgraphs that `make_plan` finds, likewise; networks that see none take no
                notice of it.

        Raises:
            TypeError: an input does not consist of integers.
            ValueError: shapes disagree, a type is none of the network's, the batch is not sorted,
                an edge leaves its graph, or the plan is of other graphs. Values are read on the
                CPU alone.
        """
        if batch is None:
            batch = torch.zeros_like(x)
            num_graphs = 1 if num_graphs is None else num_graphs
        _check(x, edge_index, batch, classes)
        if num_graphs is None:
            num_graphs = int(batch[-1]) + 1 if len(batch) else 0
        _check_values(x, edge_index, batch, num_graphs, self.node_types)
        if self.plan_options is None:
            plan = None
        elif plan is None:
            check_decided(self.plan_options)
            plan = self.make_plan(edge_index, batch, num_graphs)
        else:
            check_plan(plan, len(batch), num_graphs)
        return self.predict(RaggedGraphs(x, edge_index, batch, num_graphs, plan), classes)

    def make_plan(
        self,
        edge_index: Int[Tensor, "2 edges"],
        batch: Int[Tensor, "nodes"],
        num_graphs: int,
    ) -> SubgraphPlan | None:
        """Return the subgraphs that the network sees of these graphs, if it sees any.

        A plan depends on the graphs alone, and that of a few of many graphs is a part of theirs
        (``plan.select``): it is to be made once for a data set.
        """
        if self.plan_options is None:
            return None
        return make_plan(self.plan_options, edge_index, batch, num_graphs)

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


def _check_values(
    x: Tensor, edge_index: Tensor, batch: Tensor, num_graphs: int, node_types: int | None
) -> None:
    """Raise unless types are known, nodes sorted and edges in their graph; on the CPU alone."""
    if not is_readable(batch):
        return
    if node_types is not None and x.numel():
        low, high = (int(bound) for bound in x.aminmax())
        if low < 0 or high >= node_types:
            raise ValueError(
                f"x: has types from {low} to {high}, expected 0 to {node_types - 1}: make the "
                f"network with node_types={high + 1}, and count types from 0"
            )
    graph_sizes(batch, num_graphs)
    if edge_index.numel() == 0:
        return
    low, high = int(edge_index.min()), int(edge_index.max())
    if low < 0 or high >= len(batch):
        raise ValueError(
            f"edge_index: has entries from {low} to {high}, expected 0 to {len(batch) - 1}: "
            "the nodes are counted over all graphs of the batch"
        )
    source, target = batch[edge_index]
    if not torch.equal(source, target):
        edge = int((source != target).nonzero()[0])
        raise ValueError(
            f"edge_index: edge {edge} leads from graph {int(source[edge])} to graph "
            f"{int(target[edge])}; expected edges inside one graph: mend batch or edge_index"
        )


def plan_of(graphs: RaggedGraphs) -> SubgraphPlan:
    """Return the plan of graphs.

    Raises:
        ValueError: there is none.
    """
    if graphs.plan is None:
        raise ValueError(
            "graphs: have no plan of subgraphs; call the network itself, which makes one, or give "
            "graphs._replace(plan=network.make_plan(...))"
        )
    return graphs.plan


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise a `UsageError` unless an option has one of its values."""
    if value not in choices:
        raise unknown(name, value, choices)


def require_positive(**options: int) -> None:
    """Raise a `UsageError` unless options, given by name, are 1 or more."""
    for name, value in options.items():
        if value < 1:
            raise UsageError(f"{name}: expected 1 or more, got {value}")
