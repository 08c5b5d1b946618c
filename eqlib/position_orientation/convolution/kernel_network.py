"""Networks that give the kernels of all layers: one on offsets, one on pairs of orientations."""

from collections.abc import Sequence
from math import pi
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from eqlib.kernels.position_orientation_conv import count_monomials, position_orientation_conv
from eqlib.kernels.position_orientation_conv.attributes import evaluate
from eqlib.position_orientation._arguments import check_implementation, check_kernels
from eqlib.position_orientation.convolution.composed import convolve_in_parts
from eqlib.position_orientation.edges.geometry import Geometry
from eqlib.position_orientation.grids import OrientationGrid
from eqlib.position_orientation.spaces.features import GaussianDistances, RandomFourierFeatures
from eqlib.symmetry.group import Group

_SAMPLES = 256
"""Of the mean square of the basis: the weights of a layer start right within some percent."""


class Kernels(nn.Module):
    r"""The grid, and the parts of all kernels that the layers of a network share.

    Args:
        grid: orientations; it states the space.
        group: "SE(n)", the default, or "E(n)".
        hidden: width of the networks.
        basis: number of functions that each layer combines to its kernels.
        degree: highest degree of the polynomials that the networks see.
        edge_scalars: number of further invariants of an edge that they see.
        softening: distance below which a length counts as its square, in the unit of the rescaled
            offsets; it makes kernels smooth where an offset is zero or along the orientation.
        implementation: of the convolution; see :func:`eqlib.kernels.position_orientation_conv`.
        gaussians: number of Gaussians of the length of an offset that the networks see besides; 0
            for none (:class:`GaussianDistances`).
        waves: number of random waves of an offset that the networks see instead of polynomials; 0
            for none (:class:`RandomFourierFeatures`). Parts of the edges then stand in memory, as
            the fused convolution knows polynomials only.
        extent: length up to which there are Gaussians, and half the period of a typical wave,
            in the unit of the rescaled offsets.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is too small, the group does not act on the space, or there is no such
            implementation.
    """

    def __init__(
        self,
        grid: OrientationGrid,
        group: str | Group | None = None,
        hidden: int = 64,
        basis: int = 64,
        degree: int = 3,
        edge_scalars: int = 0,
        softening: float = 0.1,
        implementation: str = "auto",
        gaussians: int = 0,
        waves: int = 0,
        extent: float = 5.0,
    ) -> None:
        super().__init__()
        check_kernels(hidden, basis, degree, edge_scalars, softening, gaussians, waves, extent)
        check_implementation(implementation)
        self.grid, self.group = grid, grid.space.group(group)
        seen = _Seen(self.group, degree, edge_scalars, softening, gaussians, waves, extent)
        self.spatial = SpatialKernels(grid, seen, hidden, basis, implementation)
        fibre = grid.space.kind != "positions"
        self.fibre = FibreKernels(grid, self.group, hidden, basis, degree) if fibre else None

    @property
    def handed(self) -> bool:
        """Whether convolutions alone could not tell mirror images apart, which they should."""
        return self.grid.space.name == "R3xS2" and not self.group.reflections

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew.

        Args:
            generator: source of the weights; by default the global one, as in torch's layers.
        """
        self.spatial.reset_parameters(generator)
        if self.fibre is not None:
            self.fibre.reset_parameters(generator)


class _Seen(NamedTuple):
    """What the network of the spatial kernels sees of an edge; :class:`Kernels` explains it."""

    group: Group
    degree: int
    edge_scalars: int
    softening: float
    gaussians: int
    waves: int
    extent: float


class SpatialKernels(nn.Module):
    r"""The basis of all spatial kernels, and the convolution with their combinations.

    .. math::
        B_{eo} = w(|r_e|)\, \operatorname{GELU}(W_2 \operatorname{GELU}(W_1
            [\phi(a_{eo}), s_e] + b_1) + b_2), \qquad
        y_{ioc} = \sum_{e \to i} (W_3 B_{eo})_c\, x_{s_e o c}

    with :math:`\phi` all monomials of the attributes a of an offset, seen from an orientation, and
    w a window that ends at the radius. No tensor with an entry for every edge and orientation is
    kept; with random waves in place of monomials, those of a part of the edges at a time are made.

    Args:
        grid: orientations; it states the space.
        seen: what the network sees of an edge.
        hidden: width of the network.
        basis: number of functions.
        implementation: as in :class:`Kernels`.
    """

    def __init__(
        self, grid: OrientationGrid, seen: _Seen, hidden: int, basis: int, implementation: str
    ) -> None:
        super().__init__()
        self.attributes = grid.space.attributes(seen.group)
        self.degree, self.edge_scalars, self.softening = seen[1:4]
        self.implementation = implementation
        axes = grid.space.axes(grid.orientations, seen.group).shape[-2]
        inputs = count_monomials(self.attributes, axes, seen.degree)
        self.gaussians, self.waves = None, None
        if seen.gaussians:
            self.gaussians = GaussianDistances(seen.gaussians, seen.extent, seen.softening)
        if seen.waves:
            count = count_monomials(self.attributes, axes, 1)
            self.waves = RandomFourierFeatures(count, seen.waves, seen.extent / pi)
            inputs = 2 * seen.waves
        inputs += seen.gaussians + seen.edge_scalars
        self.hidden, self.basis = nn.Linear(inputs, hidden), nn.Linear(hidden, basis)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew; the arguments are those of :meth:`Kernels.reset_parameters`."""
        for layer in (self.hidden, self.basis):
            draw(layer, generator)

    def forward(
        self,
        features: Float[Tensor, "nodes grid channels"],
        weight: Float[Tensor, "channels basis"],
        geometry: Geometry,
    ) -> Float[Tensor, "nodes grid channels"]:
        """The convolution y with kernels combined by a weight.

        Args:
            features: x, in any unit.
            weight: :math:`W_3`.
            geometry: edges and orientations.

        Raises:
            TypeError: dtypes do not fit.
            ValueError: shapes do not fit, or the geometry is that of another space or group.
        """
        if geometry.attributes != self.attributes:
            raise ValueError(
                f"geometry has the attributes {geometry.attributes!r}, these kernels need "
                f"{self.attributes!r}; make it with the same grid and group"
            )
        geometry = geometry._replace(scalars=self._scalars(geometry.offsets, geometry.scalars))
        if self.waves is not None:
            return convolve_in_parts(features, weight, geometry, self._functions)
        how = (self.attributes, self.degree, self.softening, self.implementation)
        return convolve(features, geometry, (self.hidden, self.basis), weight, *how)

    def functions(
        self,
        offsets: Float[Tensor, "edges n"],
        axes: Float[Tensor, "edges_or_1 grid axes n"],
        scalars: Float[Tensor, "edges scalars"],
    ) -> Float[Tensor, "edges grid basis"]:
        """The basis of all edges, all at once and without the window.

        Args:
            offsets: of each edge, rescaled.
            axes: of the orientations of each edge, or of all.
            scalars: of each edge.
        """
        return self._functions(offsets, axes, self._scalars(offsets, scalars))

    def _functions(self, offsets: Tensor, axes: Tensor, scalars: Tensor) -> Tensor:
        """Return the basis from all scalars, those of Gaussians among them."""
        values = torch.stack(evaluate(offsets, axes, self.attributes, self.softening), -1)
        if self.waves is None:
            seen = polynomials(values, self.degree)
        else:
            # As large as monomials are about one, however many waves there are.
            seen = self.waves(values) * self.waves.frequencies.shape[0] ** 0.5
        by_edge = scalars[:, None].expand(-1, axes.shape[1], -1)
        inputs = torch.cat([seen, by_edge.to(values.dtype)], -1)
        return evaluate_network(inputs, self.hidden, self.basis)

    def _scalars(self, offsets: Tensor, scalars: Tensor) -> Tensor:
        if self.gaussians is None:
            return scalars
        return torch.cat([scalars, self.gaussians(offsets).to(scalars.dtype)], -1)

    def mean_square(self, grid: OrientationGrid, group: Group) -> float:
        """The mean square of the basis, for offsets of length about one.

        Args:
            grid: orientations.
            group: that of the space.
        """
        device = self.hidden.weight.device
        if device.type == "meta":
            return 1.0  # nothing is drawn: the weights are to be loaded
        generator = torch.Generator("cpu").manual_seed(0)
        offsets, scalars = (
            draw_normal((_SAMPLES, size), generator).to(device)
            for size in (grid.space.dimension, self.edge_scalars)
        )
        axes = grid.space.axes(grid.orientations, group)[None].to(offsets)
        return mean_square_of(self.functions(offsets, axes, scalars))


class FibreKernels(nn.Module):
    r"""The basis of all kernels on the orientations of one node.

    .. math::
        F_{op} = W_f B_{op}, \qquad
        B = \operatorname{GELU}(W_2 \operatorname{GELU}(W_1 \phi(a) + b_1) + b_2)

    with :math:`\phi` all monomials of the invariants a of two orientations. These are those of the
    grid: a grid that is turned as a whole has the same.

    Args:
        grid: orientations; it states the space.
        group: that of the space.
        hidden: width of the network.
        basis: number of functions.
        degree: highest degree of the monomials.
    """

    def __init__(
        self, grid: OrientationGrid, group: Group, hidden: int, basis: int, degree: int
    ) -> None:
        super().__init__()
        self.degree = degree
        self.space, self.group = grid.space, group
        inputs = polynomials(self._invariants(grid.orientations), degree).shape[-1]
        self.hidden, self.basis = nn.Linear(inputs, hidden), nn.Linear(hidden, basis)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew; the arguments are those of :meth:`Kernels.reset_parameters`."""
        for layer in (self.hidden, self.basis):
            draw(layer, generator)

    def forward(
        self, orientations: Tensor, weight: Float[Tensor, "channels basis"]
    ) -> Float[Tensor, "channels grid others"]:
        """The kernel F of all pairs of orientations, those of the sources o first.

        Args:
            orientations: of the grid.
            weight: :math:`W_f`.
        """
        functions = self.functions(orientations)
        kernel = weight @ functions.flatten(0, 1).mT
        return kernel.unflatten(1, functions.shape[:2])

    def functions(self, orientations: Tensor) -> Float[Tensor, "grid others basis"]:
        """The basis at all pairs of orientations.

        Args:
            orientations: of the grid.
        """
        values = polynomials(self._invariants(orientations), self.degree)
        return evaluate_network(values.to(self.hidden.weight.dtype), self.hidden, self.basis)

    def mean_square(self, grid: OrientationGrid) -> float:
        """The mean square of the basis on the grid.

        Args:
            grid: orientations.
        """
        device = self.hidden.weight.device
        if device.type == "meta":
            return 1.0
        return mean_square_of(self.functions(grid.orientations.to(device)))

    def _invariants(self, orientations: Tensor) -> Tensor:
        return self.space.fibre_invariants(orientations, orientations, self.group)


def convolve(
    features: Float[Tensor, "nodes grid channels"],
    geometry: Geometry,
    network: tuple[nn.Linear, nn.Linear],
    weight: Float[Tensor, "channels basis"],
    attributes: str,
    degree: int,
    softening: float,
    implementation: str,
) -> Float[Tensor, "nodes grid channels"]:
    """Call the convolution, in the precision of the features, but at least float32.

    Args:
        features: of the sources; what the mask of the geometry excludes counts as zero.
        geometry: edges and orientations.
        network: its two layers.
        weight: :math:`W_3`.
        attributes: name of what the network sees of an offset.
        degree: of the monomials.
        softening: as in :class:`Kernels`.
        implementation: as in :class:`Kernels`.
    """
    g, mask = geometry, geometry.mask
    if mask is not None:
        features = torch.where(mask[:, None, None], features, 0.0)
    exact = torch.promote_types(features.dtype, torch.float32)
    layers = [part for layer in network for part in (layer.weight, layer.bias)]
    real = [part.to(exact) for part in (g.offsets, g.axes, g.scalars, *layers, weight)]
    edges = (g.source, g.target, g.starts, g.by_source, g.source_starts, g.frame, g.opposite)
    how = (attributes, degree, softening, g.radius, implementation)
    y: Tensor = position_orientation_conv(features, *real, *edges, *how)
    return y if mask is None else torch.where(mask[:, None, None], y, 0.0)


def polynomials(
    values: Float[Tensor, "*batch count"], degree: int
) -> Float[Tensor, "*batch monomials"]:
    """All different products of one to ``degree`` values, in the order of the convolution.

    Args:
        values: numbers to multiply, in the last axis.
        degree: largest number of factors.
    """
    factors = values.unbind(-1)
    products = list(enumerate(factors))  # each with the last of its factors
    found = list(factors)
    for _ in range(degree - 1):
        products = [
            (next_one, product * factors[next_one])
            for last, product in products
            for next_one in range(last, len(factors))
        ]
        found += [product for _, product in products]
    return torch.stack(found, -1) if found else values[..., :0]


def evaluate_network(
    inputs: Float[Tensor, "*batch inputs"], first: nn.Linear, second: nn.Linear
) -> Float[Tensor, "*batch basis"]:
    """The basis from what the network sees, in the dtype of the inputs.

    Args:
        inputs: monomials and scalars.
        first: layer to the hidden units.
        second: layer to the basis.
    """
    parts = (first.weight, first.bias, second.weight, second.bias)
    weights = [part.to(inputs.dtype) for part in parts]
    return gelu(linear(gelu(linear(inputs, *weights[:2])), *weights[2:]))


def mean_square_of(values: Float[Tensor, "*shape"]) -> float:
    """Mean of the squares of all values, as a constant.

    Args:
        values: such as those of a basis.
    """
    return float(values.detach().square().mean())


def draw_normal(shape: Sequence[int], generator: torch.Generator) -> Float[Tensor, "*shape"]:
    """Normal numbers in float64 on the CPU, whatever the default device.

    Args:
        shape: that of the tensor.
        generator: of the CPU.
    """
    return torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu")


def draw(layer: nn.Linear, generator: torch.Generator | None) -> None:
    """Draw weights as torch does, from a generator.

    Args:
        layer: whose weights to draw.
        generator: source; by default the global one.
    """
    bound = layer.in_features**-0.5
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
