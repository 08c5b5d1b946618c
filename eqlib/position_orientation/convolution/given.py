"""Convolution over nodes that have an orientation each, instead of a grid."""

from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.kernels.tracing import is_readable
from eqlib.position_orientation._arguments import (
    check_implementation,
    check_kernels,
    check_orientations,
    check_positive,
)
from eqlib.position_orientation.convolution.kernel_network import (
    convolve,
    draw,
    draw_normal,
    evaluate_network,
    mean_square_of,
    polynomials,
)
from eqlib.position_orientation.edges.geometry import Geometry
from eqlib.position_orientation.spaces.features import GaussianDistances, RandomFourierFeatures
from eqlib.position_orientation.spaces.invariants import count_invariants, pair_invariants
from eqlib.position_orientation.spaces.space import Space
from eqlib.symmetry.group import Group

_PAIRS = 1024
"""Random ones, on which the mean square of the basis is found."""


class PairConv(nn.Module):
    r"""Depthwise convolution over nodes with orientations of their own, such as edges as nodes.

    .. math:: y_{ic} = \sum_{j \to i} (W B(a_{ij}))_c\, x_{jc}

    with the invariants a of the two positions and orientations (:func:`pair_invariants`), and a
    basis B of polynomials and a network as in :class:`SpatialKernels`. It is exactly equivariant.

    Args:
        channels: number of channels.
        space: of the positions and orientations.
        group: that of the space.
        hidden: width of the network.
        basis: number of functions.
        degree: highest degree of the polynomials of the invariants.
        edge_scalars: number of further invariants of an edge.
        invariants: "complete", or "ponita", those that were published first.
        neighbours: how many edges enter a node, about.
        softening: distance below which a length counts as its square.
        implementation: of the convolution.
        gaussians: as in :class:`Kernels`.
        waves: number of random waves of the invariants, instead of polynomials; 0 for none.
        extent: as in :class:`Kernels`.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is too small, or there are no such invariants or implementation.
    """

    def __init__(
        self,
        channels: int,
        space: Space,
        group: Group,
        hidden: int = 64,
        basis: int = 64,
        degree: int = 3,
        edge_scalars: int = 0,
        invariants: str = "complete",
        neighbours: float = 8.0,
        softening: float = 0.1,
        implementation: str = "auto",
        gaussians: int = 0,
        waves: int = 0,
        extent: float = 5.0,
    ) -> None:
        super().__init__()
        check_kernels(hidden, basis, degree, edge_scalars, softening, gaussians, waves, extent)
        check_implementation(implementation)
        check_positive("neighbours", neighbours)
        self.space, self.group, self.invariants = space, group, invariants
        self.degree, self.edge_scalars, self.softening = degree, edge_scalars, softening
        self.neighbours, self.implementation = neighbours, implementation
        count = count_invariants(space, invariants, group)
        self.gaussians = GaussianDistances(gaussians, extent, softening) if gaussians else None
        self.waves = RandomFourierFeatures(count, waves, extent / pi) if waves else None
        products = polynomials(torch.zeros(count), degree).shape[-1]
        inputs = (2 * waves or products) + gaussians + edge_scalars
        self.hidden, self.basis = nn.Linear(inputs, hidden), nn.Linear(hidden, basis)
        self.weight = nn.Parameter(torch.empty(channels, basis))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew, as those of :class:`SpatialConv` are.

        Args:
            generator: source of the weights; by default the global one, as in torch's layers.
        """
        draw(self.hidden, generator)
        draw(self.basis, generator)
        nn.init.normal_(self.weight, std=self._inverse_variance() ** -0.5, generator=generator)

    def forward(
        self,
        features: Float[Tensor, "nodes channels"],
        geometry: Geometry,
        orientations: Float[Tensor, "nodes *orientation"],
    ) -> Float[Tensor, "nodes channels"]:
        """The convolved features; a node without edges has zeros.

        Args:
            features: x, in any unit.
            geometry: edges, one for each direction; its own orientations are not looked at.
            orientations: of each node, unit vectors (nodes, n) or rotations (nodes, n, n), which is
                checked on the CPU outside of compilers.

        Raises:
            TypeError: dtypes do not fit.
            ValueError: shapes do not fit, or an orientation is none.
        """
        if geometry.mask is None:
            check_orientations("orientations", orientations, self.space)
        else:
            present = geometry.mask.reshape(-1, *(1 for _ in self.space.orientation_shape))
            if is_readable(orientations):
                check_orientations("orientations", orientations[geometry.mask], self.space)
            orientations = torch.where(present, orientations, 0.0)
        seen = self._seen(
            geometry.offsets,
            orientations.index_select(0, geometry.target),
            orientations.index_select(0, geometry.source),
        )
        pairs = geometry._replace(
            scalars=torch.cat([seen, geometry.scalars.to(seen.dtype)], -1),
            axes=geometry.offsets.new_zeros(1, 1, 0, self.space.dimension),
            frame=geometry.frame[:0],
        )
        network = (self.hidden, self.basis)
        how = ("axes", 1, self.softening, self.implementation)
        return convolve(features.unsqueeze(1), pairs, network, self.weight, *how).squeeze(1)

    def extra_repr(self) -> str:
        """Space, group and invariants."""
        return f"{self.space.name}, {self.group!r}, invariants={self.invariants!r}"

    def _seen(self, offsets: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return what the network sees of pairs of a target and a source, besides scalars."""
        first, second = first.to(offsets.dtype), second.to(offsets.dtype)
        choice = (self.space, self.invariants, self.group)
        found = pair_invariants(offsets, first, second, *choice, softening=self.softening)
        if self.waves is None:
            seen = polynomials(found, self.degree)
        else:
            seen = self.waves(found) * self.waves.frequencies.shape[0] ** 0.5
        return seen if self.gaussians is None else torch.cat([seen, self.gaussians(offsets)], -1)

    def _inverse_variance(self) -> float:
        """Return basis * neighbours * mean of B^2 for offsets and scalars of length about one."""
        if self.weight.is_meta:
            return 1.0  # nothing is drawn: the weights are to be loaded
        generator = torch.Generator("cpu").manual_seed(0)
        sizes = (
            *(self.space.orientation_shape,) * 2,
            (self.space.dimension,),
            (self.edge_scalars,),
        )
        draws = [draw_normal((_PAIRS, *size), generator).to(self.weight.device) for size in sizes]
        first, second = (_orientations(part) for part in draws[:2])
        seen = self._seen(draws[2], first, second)
        inputs = torch.cat([seen, draws[3]], -1)
        square = mean_square_of(evaluate_network(inputs, self.hidden, self.basis))
        return self.weight.shape[1] * self.neighbours * square


def _orientations(normal: Tensor) -> Tensor:
    """Return random unit vectors, or rotations, from normal numbers."""
    if normal.ndim == 2:
        return torch.nn.functional.normalize(normal, dim=-1)
    turns = torch.linalg.qr(normal).Q
    return turns * turns.det().sign()[:, None, None]  # an odd dimension: this makes it a rotation
