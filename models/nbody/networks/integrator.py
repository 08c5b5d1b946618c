"""A symplectic integrator whose force between pairs of particles is learned."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.geometry import gather_nodes, segment_mean, segment_sum
from eqlib.models.nbody.networks.base import NBodyNetwork, Particles
from eqlib.models.nbody.networks.message_passing import multilayer_perceptron

HORIZON = 1.0  # time units from the state that goes in to the positions that come out
SOFTENING = 0.05  # length below which the force does not tell distances apart
FARTHEST = 3.0  # bound on the logarithm of a distance, as the force sees it
STRONGEST = 6.0  # bound on the logarithm of the size of a force
FIRST_FORCE = 0.3  # what a new network has of the usual size of the last weights of the force
OUTLIER = 10.0  # largest gradient of a particle's state, in units of the median over particles


class State(NamedTuple):
    """Where the particles are, and how they move."""

    points: Float[Tensor, "nodes 3"]
    velocities: Float[Tensor, "nodes 3"]


class Integrator(NBodyNetwork):
    r"""Kick, drift, kick: many short steps under one learned force.

    .. math::
        v_i \leftarrow v_i + \tfrac h2 F_i(x), \qquad x_i \leftarrow x_i + h v_i, \qquad
        v_i \leftarrow v_i + \tfrac h2 F_i(x)

    for particles of mass one, over and over. The force of a pair lies along the line that joins it
    and depends on the distance and on the product of charges alone (:class:`PairForce`). It is
    therefore the gradient of a potential, and each step is a symplectic map that returns to its
    start when velocities are reversed; it conserves momentum and angular momentum, and is
    equivariant under E(3). That particles keep their velocity while no force acts, and that forces
    act in pairs, is physics the other networks are not given; the law of the force is learned from
    positions one time unit apart.

    Args:
        width: width of the network that is the law of the force.
        steps: number of steps over the time unit.

    Raises:
        ValueError: ``steps`` is below 1.

    Note:
        Particles that pass close to each other make gradients grow from step to step. In training
        mode the gradient of each particle's state is held below ten times the median over all
        particles, at every step; in evaluation mode gradients are those of the function.
    """

    def __init__(self, width: int = 16, steps: int = 128) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"steps: got {steps}, expected at least 1")
        self.steps = steps
        self.force = PairForce(width)

    def predict(self, particles: Particles) -> Float[Tensor, "nodes 3"]:
        """Return the predicted positions."""
        # positions about the centroid, so that rounding does not grow with the distance from zero
        centroid = segment_mean(particles.points, particles.batch, particles.num_graphs)
        centroid = gather_nodes(centroid, particles.batch)
        return self.flow(particles._replace(points=particles.points - centroid)).points + centroid

    def flow(self, particles: Particles) -> State:
        """Return the state after the time unit."""
        time = HORIZON / self.steps
        points, velocities = particles.points, particles.velocities
        charges = gather_nodes(particles.charges, particles.target)
        charges = charges * gather_nodes(particles.charges, particles.source)
        velocities = velocities + 0.5 * time * self.force(points, charges, particles)
        for step in range(self.steps):
            points = points + time * velocities
            if self.training:
                points, velocities = _Limited.apply(points), _Limited.apply(velocities)
            # the second half of a step's kick and the first half of the next are one
            kick = 0.5 * time if step == self.steps - 1 else time
            velocities = velocities + kick * self.force(points, charges, particles)
        return State(points, velocities)


class PairForce(nn.Module):
    r"""A force along the line between two particles, the same on both with opposite signs.

    .. math::
        F_i = \tfrac12 \sum_{e:\, j \to i} f_e - \tfrac12 \sum_{e:\, i \to j} f_e, \qquad
        f_e = a\, e^b\, \frac{r_e}{d_e}, \qquad r_e = x_i - x_j, \quad
        d_e = \sqrt{\lVert r_e \rVert^2 + s^2}

    with a and b from a small network of :math:`\log d_e` and the product of charges, both bounded.
    Force and gradient are finite everywhere, and 0 for particles in one place. An edge in one
    direction only acts on both of its particles with half of the force.

    Args:
        width: width of the network.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Linear(width, 2)
        self.law = nn.Sequential(multilayer_perceptron(3, width, width, activate_last=True), last)
        with torch.no_grad():
            last.weight.mul_(FIRST_FORCE)
            last.bias.zero_()

    def forward(
        self,
        points: Float[Tensor, "nodes 3"],
        charges: Float[Tensor, "edges"],
        particles: Particles,
    ) -> Float[Tensor, "nodes 3"]:
        """Return the force on each particle.

        Args:
            points: where the particles are.
            charges: product of charges on every edge.
            particles: their edges.
        """
        source, target = particles.source, particles.target
        offset = gather_nodes(points, target) - gather_nodes(points, source)
        distance = ((offset * offset).sum(-1) + SOFTENING**2).sqrt()
        scale = FARTHEST * torch.tanh(distance.log() / FARTHEST)
        factor, size = self.law(torch.stack([scale, charges, charges * scale], -1)).unbind(-1)
        pull = factor * torch.exp(STRONGEST * torch.tanh(size / STRONGEST)) / distance
        half = 0.5 * pull.unsqueeze(-1) * offset
        return segment_sum(half, target, len(points)) - segment_sum(half, source, len(points))


class _Limited(torch.autograd.Function):
    """The identity; rows of its gradient that are far longer than most are shortened."""

    generate_vmap_rule = True

    @staticmethod
    def forward(state: Tensor) -> Tensor:
        return state.view_as(state)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        if not len(gradient):
            return gradient
        length = gradient.norm(dim=-1, keepdim=True)
        # the smallest normal number keeps a length of zero from being a divisor
        shorter = OUTLIER * length.median() / (length + torch.finfo(length.dtype).tiny)
        return gradient * shorter.clamp(max=1)
