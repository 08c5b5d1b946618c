"""Functions of position and orientation, convolved over SE(3)."""

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.geometry import gather_nodes, safe_norm
from eqlib.models.nbody.networks.base import NBodyNetwork, Particles
from eqlib.position_orientation import EdgeOptions, KernelOptions, PositionOrientationNet

SOFTENING = 0.05  # length below which the logarithm of a distance does not tell them apart
TIMES = (0.0, 0.5, 1.0)  # of free flight, at which distances are seen; the horizon is 1
EDGE_SCALARS = 2 + 2 * len(TIMES)  # of `edge_invariants`


class PONITA(NBodyNetwork):
    r"""Every particle has features on a grid of orientations, convolved over both.

    .. math:: y_i = x_i + \frac{3}{|G|} \sum_{o \in G} s_i(o)\, o

    from speeds, the same for all orientations, and velocities, as :math:`v_i \cdot o`. Kernels
    depend on the offset of two particles, seen from an orientation, and on :func:`edge_invariants`.
    Charges enter by their products alone, so that reversing all of them changes nothing.
    Equivariant under E(3): with ``exact`` to rounding, wherever the eigenvalues of every cloud
    differ; without it as far as the grid is fine.

    Args:
        channels: width of the features.
        layers: number of convolutions.
        orientations: size of the grid; 6, 8, 12, 20 and multiples of 8 are exact in one pass.
        exact: turn the grid by the principal axes of each cloud.
        basis: number of functions that each layer combines to its kernels.
        hidden: width of the networks that make these.
        layer_scale: initial factor of what a layer adds; None: none.
        length: unit of length of the kernels, in the units of the data.
        reach: length that offsets stay below, in units of ``length``.
        softening: length near zero where distances are smooth, in units of ``length``.

    Raises:
        ValueError: there is no such grid, or a number is too small.

    Source:
        Bekkers et al., Fast, Expressive SE(n) Equivariant Networks through Weight-Sharing in
        Position-Orientation Space, ICLR 2024. Here the grid is turned, offsets are bounded, and
        kernels see charges, velocities and logarithms of distances.
    """

    def __init__(
        self,
        channels: int = 64,
        layers: int = 4,
        orientations: int = 12,
        exact: bool = True,
        basis: int = 32,
        hidden: int = 64,
        layer_scale: float | None = None,
        length: float = 1.0,
        reach: float = 10.0,
        softening: float = 0.1,
    ) -> None:
        super().__init__()
        self.net = PositionOrientationNet(
            scalars_in=1,
            vectors_in=1,
            scalars_out=0,
            vectors_out=1,
            space="R3xS2",
            orientations=orientations,
            exact=exact,
            channels=channels,
            layers=layers,
            group="E(3)",
            edge_scalars=EDGE_SCALARS,
            layer_scale=layer_scale,
            kernel=KernelOptions(hidden=hidden, basis=basis, softening=softening),
            edges=EdgeOptions(length=length, reach=reach),
        )

    def predict(self, particles: Particles) -> Float[Tensor, "nodes 3"]:
        """Return the predicted positions."""
        return particles.points + displacements(self.net, particles)


def displacements(net: PositionOrientationNet, particles: Particles) -> Float[Tensor, "nodes 3"]:
    """Return the one vector that a network makes of the state of each particle."""
    found = net(
        points=particles.points,
        scalars=safe_norm(particles.velocities, keepdim=True),
        vectors=particles.velocities.unsqueeze(1),
        edge_index=torch.stack([particles.source, particles.target]),
        edge_scalars=edge_invariants(particles),
        batch=particles.batch,
        num_graphs=particles.num_graphs,
    )
    return found.vectors.squeeze(1)


def edge_invariants(particles: Particles) -> Float[Tensor, "edges 8"]:
    r"""Return what kernels see of an edge besides its offset.

    .. math::
        q_i q_j, \quad \log d(t), \quad q_i q_j \log d(t), \quad \lVert v_i - v_j \rVert, \qquad
        d(t)^2 = \lVert x_i - x_j + t (v_i - v_j) \rVert^2 + s^2

    for the times t = 0, 1/2 and 1: how far apart two particles are now, and would be if none bent
    the path of the other. The polynomials of the offset do not tell small distances apart.
    """
    source, target = particles.source, particles.target
    offset = gather_nodes(particles.points, source) - gather_nodes(particles.points, target)
    motion = gather_nodes(particles.velocities, source)
    motion = motion - gather_nodes(particles.velocities, target)
    product = gather_nodes(particles.charges, source) * gather_nodes(particles.charges, target)
    apart = torch.stack([offset + time * motion for time in TIMES], 1)
    scales = 0.5 * torch.log(apart.square().sum(-1) + SOFTENING**2)
    product = product.unsqueeze(-1)
    return torch.cat([product, scales, product * scales, safe_norm(motion, keepdim=True)], -1)
