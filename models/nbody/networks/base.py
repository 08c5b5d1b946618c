"""What all N-body networks share: their inputs, the checks on them, and their signature."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eqlib.geometry import complete_graph
from eqlib.symmetry import (
    BatchIndex,
    E,
    EdgeIndex,
    NodeOrder,
    Permutations,
    Point,
    Scalar,
    Signature,
    Vector,
)

SIGNATURE = Signature(
    E(3) * Permutations(),
    inputs={
        "points": Point() * NodeOrder(0),
        "velocities": Vector() * NodeOrder(0),
        "charges": Scalar() * NodeOrder(0),
        "edge_index": EdgeIndex(),
        "batch": BatchIndex(),
    },
    outputs=Point() * NodeOrder(0),
)


class Particles(NamedTuple):
    """Checked inputs of a network: a ragged batch of graphs of particles."""

    points: Float[Tensor, "nodes 3"]
    velocities: Float[Tensor, "nodes 3"]
    charges: Float[Tensor, "nodes"]
    source: Int[Tensor, "edges"]
    target: Int[Tensor, "edges"]
    batch: Int[Tensor, "nodes"]
    num_graphs: int


class NBodyNetwork(nn.Module, ABC):
    """Map the state of charged particles to their positions after a fixed time."""

    signature: ClassVar[Signature] = SIGNATURE

    def forward(
        self,
        points: Float[Tensor, "nodes 3"],
        velocities: Float[Tensor, "nodes 3"],
        charges: Float[Tensor, "nodes"],
        edge_index: Int[Tensor, "2 edges"] | None = None,
        batch: Int[Tensor, "nodes"] | None = None,
        num_graphs: int | None = None,
    ) -> Float[Tensor, "nodes 3"]:
        """Predict the positions after the time span that the network was trained for.

        Args:
            points: positions, in the length unit of the training data.
            velocities: velocities, in that length unit per time unit.
            charges: charges, in units of the elementary charge.
            edge_index: source and target of every edge; None connects all particles of a graph.
            batch: graph of each particle, sorted; None puts all particles into one graph.
            num_graphs: number of graphs; None counts up to the last one that has a particle.

        Raises:
            TypeError: an input is not floating, or differs in dtype from the network's weights.
            ValueError: shapes or devices disagree.
        """
        self._check(points, velocities, charges, edge_index, batch)
        if batch is None:
            batch = torch.zeros(len(points), dtype=torch.long, device=points.device)
            num_graphs = 1 if num_graphs is None else num_graphs
        if num_graphs is None:
            num_graphs = int(batch[-1]) + 1 if len(batch) else 0
        if edge_index is None:
            edge_index = complete_graph(batch, num_graphs)
        source, target = edge_index
        return self.predict(
            Particles(points, velocities, charges, source, target, batch, num_graphs)
        )

    @abstractmethod
    def predict(self, particles: Particles) -> Float[Tensor, "nodes 3"]:
        """Return the predicted positions."""

    def _check(
        self,
        points: Tensor,
        velocities: Tensor,
        charges: Tensor,
        edge_index: Tensor | None,
        batch: Tensor | None,
    ) -> None:
        weight = next(self.parameters())
        nodes = len(points) if points.dim() else 0
        expected = {"points": (nodes, 3), "velocities": (nodes, 3), "charges": (nodes,)}
        for name, value in zip(expected, (points, velocities, charges), strict=True):
            if value.shape != expected[name]:
                raise ValueError(
                    f"{name}: got shape {tuple(value.shape)}, expected {expected[name]}: "
                    "one row for each particle of all graphs"
                )
            if value.dtype != weight.dtype:
                raise TypeError(
                    f"{name}: got {value.dtype}, expected the network's {weight.dtype}; "
                    f"convert it with {name}.to({weight.dtype})"
                )
        if edge_index is not None and (edge_index.dim() != 2 or edge_index.shape[0] != 2):
            raise ValueError(
                f"edge_index: got shape {tuple(edge_index.shape)}, expected (2, edges): "
                "a row of sources and a row of targets"
            )
        if batch is not None and batch.shape != (nodes,):
            raise ValueError(
                f"batch: got shape {tuple(batch.shape)}, expected ({nodes},): "
                "the graph of each particle"
            )
        inputs = [points, velocities, charges, edge_index, batch]
        devices = {value.device for value in inputs if value is not None}
        if devices != {weight.device}:
            found = ", ".join(sorted(map(str, devices)))
            raise ValueError(f"inputs on {found}, expected all on the network's {weight.device}")
