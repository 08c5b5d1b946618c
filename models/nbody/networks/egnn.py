"""E(n)-equivariant graph network with velocities."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.geometry import gather_nodes, safe_norm, segment_mean, segment_sum
from eqlib.models.nbody.networks.base import NBodyNetwork, Particles
from eqlib.models.nbody.networks.message_passing import (
    PairLinear,
    multilayer_perceptron,
    pair_invariants,
)

LARGEST_STEP = 100.0  # bound on every component of a displacement along an edge


class EGNN(NBodyNetwork):
    """E(3)-equivariant graph network that moves the particles layer by layer.

    Args:
        width: channels of the node features.
        layers: rounds of messages.

    Source:
        Satorras et al., E(n) Equivariant Graph Neural Networks, ICML 2021, with the released
        settings of the N-body experiment: the input velocity enters every layer, and the node
        features start from the speed.
    """

    def __init__(self, width: int = 64, layers: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(1, width)
        self.layers = nn.ModuleList(EGNNLayer(width) for _ in range(layers))

    def predict(self, particles: Particles) -> Float[Tensor, "nodes 3"]:
        """Return the predicted positions."""
        edges = pair_invariants(particles)
        features = self.embed(safe_norm(particles.velocities, keepdim=True))
        for layer in self.layers:
            features, points = layer(features, edges, particles)
            particles = particles._replace(points=points)
        return particles.points


class EGNNLayer(nn.Module):
    r"""One round of messages and one step of the particles.

    .. math::
        m_{ij} &= \phi_e\bigl(h_i, h_j, \lVert x_i - x_j \rVert^2, e_{ij}\bigr) \\
        x_i &\leftarrow x_i + \operatorname{mean}_j (x_i - x_j)\, \phi_x(m_{ij})
            + \phi_v(h_i)\, v_i \\
        h_i &\leftarrow h_i + \phi_h\bigl(h_i, \textstyle\sum_j m_{ij}\bigr)

    Args:
        width: channels of the node features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pair = PairLinear(width, 3, width)
        self.message = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        scale = nn.Linear(width, 1, bias=False)
        # the paper's start: particles stand almost still, so early layers do not throw them apart
        nn.init.xavier_uniform_(scale.weight, gain=1e-3)
        self.attract = nn.Sequential(nn.Linear(width, width), nn.SiLU(), scale)
        self.drift = multilayer_perceptron(width, width, 1)
        self.update = multilayer_perceptron(2 * width, width, width)

    def forward(
        self,
        features: Float[Tensor, "nodes channels"],
        edges: Float[Tensor, "edges 2"],
        particles: Particles,
    ) -> tuple[Float[Tensor, "nodes channels"], Float[Tensor, "nodes 3"]]:
        """Return the updated features and positions."""
        points, source, target = particles.points, particles.source, particles.target
        difference = gather_nodes(points, target) - gather_nodes(points, source)
        square = (difference * difference).sum(-1, keepdim=True)
        pair = self.pair(features, torch.cat([square, edges], -1), source, target)
        message = self.message(pair)
        steps = (difference * self.attract(message)).clamp(-LARGEST_STEP, LARGEST_STEP)
        points = (
            points
            + segment_mean(steps, target, len(points))
            + self.drift(features) * particles.velocities
        )
        received = segment_sum(message, target, len(points))
        return features + self.update(torch.cat([features, received], -1)), points
