"""Functions of position alone, convolved over R^3."""

from jaxtyping import Float
from torch import Tensor

from eqlib.models.nbody.networks.base import NBodyNetwork, Particles
from eqlib.models.nbody.networks.ponita import EDGE_SCALARS, displacements
from eqlib.position_orientation import EdgeOptions, KernelOptions, PositionOrientationNet


class PNITA(NBodyNetwork):
    """What is left of PONITA without orientations: features of particles, kernels of distances.

    Velocities come in by their lengths and by their products with each other and with offsets,
    and displacements come out as sums of offsets and velocities. Equivariant under E(3).

    Args:
        channels: width of the features.
        layers: number of convolutions.
        basis: number of functions that each layer combines to its kernels.
        hidden: width of the networks that make these.
        layer_scale: initial factor of what a layer adds; None: none.
        length: unit of length of the kernels, in the units of the data.
        reach: length that offsets stay below, in units of ``length``.
        softening: length near zero where distances are smooth, in units of ``length``.

    Raises:
        ValueError: a number is too small.

    Source:
        The network on positions of Bekkers et al., Fast, Expressive SE(n) Equivariant Networks
        through Weight-Sharing in Position-Orientation Space, ICLR 2024, with vectors added.
    """

    def __init__(
        self,
        channels: int = 64,
        layers: int = 4,
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
            space="R3",
            orientations=1,
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
