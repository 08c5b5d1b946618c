"""Free flight with one learned duration: the smallest equivariant baseline."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.models.nbody.networks.base import NBodyNetwork, Particles


class Linear(NBodyNetwork):
    r"""Straight flight at the given velocity for one learned time.

    .. math:: y_i = x_i + a v_i
    """

    def __init__(self) -> None:
        super().__init__()
        self.duration = nn.Parameter(torch.ones(()))

    def predict(self, particles: Particles) -> Float[Tensor, "nodes 3"]:
        """Return the predicted positions."""
        return particles.points + self.duration * particles.velocities
