"""Frame-averaged graph network with latent frames in every layer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.frames import LatentFrames
from eqlib.models.nbody.networks.base import NBodyNetwork, Particles
from eqlib.models.nbody.networks.message_passing import (
    MessagePassing,
    multilayer_perceptron,
    pair_invariants,
)
from eqlib.symmetry import E

GROUP = E(3)


class FAGNN(NBodyNetwork):
    """Message passing in principal frames that are computed anew from the features of each layer.

    Between layers the channels are read as vectors: they are brought back to the world, averaged
    over the frames, and expressed in the frames of their own point cloud. Equivariant under E(3)
    wherever the eigenvalues of all clouds differ.

    Args:
        width: channels of the node features; a multiple of three.
        layers: rounds of messages.
        train_frames: how many of the eight frames each graph draws for a training step; None
            takes all. Evaluation always averages over all eight.

    Raises:
        ValueError: ``width`` is not a multiple of three, or ``train_frames`` not in 1 to 8.

    Source:
        Puny et al., Frame Averaging for Invariant and Equivariant Network Design, ICLR 2022. Here
        the network predicts the displacement of each particle, the frames of a training step may be
        drawn at random, and the first linear map of a message is summed from its parts.
    """

    def __init__(self, width: int = 60, layers: int = 4, train_frames: int | None = None) -> None:
        super().__init__()
        if width % 3:
            raise ValueError(f"width: got {width}, expected a multiple of 3: channels are vectors")
        if train_frames is not None and not 1 <= train_frames <= 8:
            raise ValueError(f"train_frames: got {train_frames}, expected 1 to 8 or None")
        mode = "full" if train_frames is None else "stochastic"
        self.latent = LatentFrames(GROUP, mode, samples=train_frames or 8, detach=True)
        self.embed = nn.Linear(6, width)
        self.layers = nn.ModuleList(MessagePassing(width, 2) for _ in range(layers))
        self.decode = multilayer_perceptron(width, width, width, 3)

    def predict(self, particles: Particles) -> Float[Tensor, "nodes 3"]:
        """Return the predicted positions."""
        edges = pair_invariants(particles)[:, None]
        batch, graphs = particles.batch, particles.num_graphs
        frames = self.latent.frames(particles.points[:, None], batch=batch, num_graphs=graphs)
        vectors = torch.stack([particles.points - frames.centroid, particles.velocities], 1)
        features = self.embed(self.latent.enter(vectors, frames))
        for depth, layer in enumerate(self.layers):
            if depth > 0:
                features, frames = self.latent(features, frames, batch=batch, num_graphs=graphs)
            features = layer(features, edges, particles.source, particles.target)
        return particles.points + self.latent.leave(self.decode(features), frames).squeeze(1)
