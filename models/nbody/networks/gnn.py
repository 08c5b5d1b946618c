"""A graph network on raw coordinates: the baseline without geometric symmetry."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.models.nbody.networks.base import SIGNATURE, NBodyNetwork, Particles
from eqlib.models.nbody.networks.message_passing import (
    MessagePassing,
    multilayer_perceptron,
    pair_invariants,
)
from eqlib.symmetry import Permutations, Signature


class GNN(NBodyNetwork):
    """Message passing on positions and velocities as plain features; knows only permutations.

    Args:
        width: channels of the node features.
        layers: rounds of messages.
    """

    signature = Signature(Permutations(), SIGNATURE.inputs, SIGNATURE.outputs)

    def __init__(self, width: int = 64, layers: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(6, width)
        self.layers = nn.ModuleList(MessagePassing(width, 2) for _ in range(layers))
        self.decode = multilayer_perceptron(width, width, width, 3)

    def predict(self, particles: Particles) -> Float[Tensor, "nodes 3"]:
        """Return the predicted positions."""
        edges = pair_invariants(particles)
        features = self.embed(torch.cat([particles.points, particles.velocities], -1))
        for layer in self.layers:
            features = layer(features, edges, particles.source, particles.target)
        return particles.points + self.decode(features)
