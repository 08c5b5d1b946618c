"""Steerable message passing with Gaunt products."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from eqlib.gaunt import gaunt_product
from eqlib.geometry import gather_nodes, safe_norm, segment_mean
from eqlib.harmonics import from_e3nn, gaunt_coefficients, spherical_harmonics, to_e3nn
from eqlib.models.nbody.networks.base import NBodyNetwork, Particles
from eqlib.models.nbody.networks.message_passing import multilayer_perceptron
from eqlib.steerable import EquivariantLinear, Gate

FIRST_UPDATE = 0.2  # what a new network has of the usual size of weights that change features
FIRST_STEP = 0.1  # and of those that move particles
SOFTENING = 0.1  # length and speed below which directions fade


class GauntNet(NBodyNetwork):
    r"""Messages are spherical tensors, steered by products with the harmonics of the geometry.

    The features of a particle are functions on the sphere, by their coefficients of degrees 0 to
    ``lmax``. A message is multiplied pointwise by the harmonics of the direction of its edge, an
    update by those of the velocity and of the neighbours: these are Gaunt products, one per channel
    and without weights. The particles move in every layer, and with them directions and distances.
    Equivariant under E(3). It takes an arrangement of particles and its mirror image alike, as
    these products have no cross product of vectors; so do the forces that it learns.

    Args:
        width: channels of the features.
        layers: rounds of messages.
        lmax: largest degree of features and harmonics.
        products: ``gaunt`` calls :func:`eqlib.gaunt.gaunt_product`. ``e3nn`` has
            ``e3nn.o3.TensorProduct`` compute the same products, with the same weights around them;
            it is there to be compared with, and keeps its tables in float32.

    Raises:
        ValueError: ``lmax`` is below 1, or ``products`` is neither of the two.

    Source:
        Brandstetter et al., Geometric and Physical Quantities Improve E(3) Equivariant Message
        Passing, ICLR 2022: messages and updates steered by harmonics of positions and velocities.
        Here with the products of Luo et al., Enabling Efficient Equivariant Operations in the
        Fourier Basis via Gaunt Tensor Products, ICLR 2024, between linear maps, in place of
        weighted tensor products, and with particles that move in every layer, as in Satorras et
        al., E(n) Equivariant Graph Neural Networks, ICML 2021.
    """

    def __init__(
        self,
        width: int = 32,
        layers: int = 4,
        lmax: int = 1,
        products: Literal["gaunt", "e3nn"] = "gaunt",
    ) -> None:
        super().__init__()
        if lmax < 1:
            raise ValueError(f"lmax: got {lmax}, expected at least 1: positions are vectors")
        if products not in PRODUCTS:
            raise ValueError(f"products: got {products!r}, expected one of {list(PRODUCTS)}")
        self.lmax = lmax
        self.embed = EquivariantLinear(1, 2, width, lmax_out=lmax)
        self.layers = nn.ModuleList(GauntLayer(width, lmax, products) for _ in range(layers))

    def predict(self, particles: Particles) -> Float[Tensor, "nodes 3"]:
        """Return the predicted positions."""
        # positions about the centroid, so that rounding does not grow with the distance from zero
        centroid = segment_mean(particles.points, particles.batch, particles.num_graphs)
        centroid = gather_nodes(centroid, particles.batch)
        particles = particles._replace(points=particles.points - centroid)
        heading = smooth_harmonics(particles.velocities, self.lmax)
        start = pair_scalars(particles)
        features = self.embed(node_inputs(particles))
        for layer in self.layers:
            geometry = arrangement(particles, start, heading)
            features, points = layer(features, geometry, particles)
            particles = particles._replace(points=points)
        return particles.points + centroid


class Geometry(NamedTuple):
    """What a layer knows of the arrangement of the particles."""

    scalars: Float[Tensor, "edges 4"]
    """Charges multiplied, the first distance, and the present one with its square."""
    edges: Float[Tensor, "edges coeffs 1"]
    """Harmonics of the vector from source to target."""
    nodes: Float[Tensor, "nodes coeffs 1"]
    """Harmonics of the velocity, plus the mean of those of the incoming edges."""


class GauntLayer(nn.Module):
    r"""One round of messages and one step of the particles.

    .. math::
        m_{ij} &= \phi\bigl(A\,\phi\bigl((T h_i + S h_j + E e_{ij}) \cdot Y_{ij}\bigr)
            \cdot Y_{ij}\bigr) \\
        h_i &\leftarrow h_i + U \phi\bigl(V \bigl[h_i, \operatorname{mean}_j m_{ij}\bigr]
            \cdot Y_i\bigr) \\
        x_i &\leftarrow x_i + W h_i^{(1)} + \phi_v\bigl(h_i^{(0)}\bigr)\, v_i

    with the product of functions on the sphere, gates :math:`\phi`, linear maps in capitals, the
    scalars :math:`e_{ij}` and the harmonics :math:`Y_{ij}` and :math:`Y_i` of the geometry.

    Args:
        width: channels of the features.
        lmax: largest degree of features and harmonics.
        products: the name of a function in ``PRODUCTS``.
    """

    def __init__(self, width: int, lmax: int, products: str) -> None:
        super().__init__()
        self.product = PRODUCTS[products]
        self.to_target = EquivariantLinear(lmax, width, width)
        self.to_source = EquivariantLinear(lmax, width, width, bias=False)
        self.to_edge = nn.Linear(4, width, bias=False)
        self.message = EquivariantLinear(lmax, width, width)
        self.received = EquivariantLinear(lmax, 2 * width, width)
        self.update = EquivariantLinear(lmax, width, width)
        self.gates = nn.ModuleList(Gate(lmax, width, normalize=False) for _ in range(3))
        self.attract = nn.Linear(width, 1, bias=False)
        self.drift = multilayer_perceptron(width, width, 1)
        _shrink(self.update, FIRST_UPDATE)
        _shrink(self.attract, FIRST_STEP)
        _shrink(self.drift[-1], FIRST_STEP)

    def forward(
        self,
        features: Float[Tensor, "nodes coeffs channels"],
        geometry: Geometry,
        particles: Particles,
    ) -> tuple[Float[Tensor, "nodes coeffs channels"], Float[Tensor, "nodes 3"]]:
        """Return the updated features and positions."""
        source, target = particles.source, particles.target
        pair = gather_nodes(self.to_target(features), target)
        pair = pair + gather_nodes(self.to_source(features), source)
        scalars = self.to_edge(geometry.scalars)[:, None]
        pair = pair + functional.pad(scalars, (0, 0, 0, pair.shape[1] - 1))
        message = self.message(self.gates[0](self.product(pair, geometry.edges)))
        message = self.gates[1](self.product(message, geometry.edges))
        received = segment_mean(message, target, len(features))
        update = self.received(torch.cat([features, received], -1))
        features = features + self.update(self.gates[2](self.product(update, geometry.nodes)))
        drift = self.drift(features[:, 0]) * particles.velocities
        return features, particles.points + self.attract(features[:, 1:4])[..., 0] + drift


def node_inputs(particles: Particles) -> Float[Tensor, "nodes 4 2"]:
    """Return positions and velocities, below their lengths."""
    vectors = torch.stack([particles.points, particles.velocities], -1)
    return torch.cat([safe_norm(vectors, dim=1, keepdim=True), vectors], 1)


def pair_scalars(particles: Particles) -> Float[Tensor, "edges 2"]:
    """Return the product of charges and the distance on every edge."""
    points, charges, source, target = particles[:1] + particles[2:5]
    distance = safe_norm(gather_nodes(points, target) - gather_nodes(points, source))
    return torch.stack([gather_nodes(charges, target) * gather_nodes(charges, source), distance], 1)


def arrangement(
    particles: Particles, start: Float[Tensor, "edges 2"], heading: Float[Tensor, "nodes coeffs"]
) -> Geometry:
    """Return the geometry of the present positions.

    Args:
        particles: where they are now.
        start: product of charges and distance of each pair at the start.
        heading: harmonics of the velocities.
    """
    points, source, target = particles.points, particles.source, particles.target
    difference = gather_nodes(points, target) - gather_nodes(points, source)
    distance = safe_norm(difference, keepdim=True)
    scalars = torch.cat([start, distance, distance * distance], 1)
    lmax = math.isqrt(heading.shape[1]) - 1
    edges = smooth_harmonics(difference, lmax)
    nodes = heading + segment_mean(edges, target, len(points))
    return Geometry(scalars, edges[..., None], nodes[..., None])


def smooth_harmonics(vectors: Float[Tensor, "rows 3"], lmax: int) -> Float[Tensor, "rows coeffs"]:
    r"""Return harmonics that vanish with their vector, as smooth functions of it.

    .. math:: y_{lm} = \frac{4 \pi \sqrt 2}{L + 1}
        \left(\frac{\lVert v \rVert}{\sqrt{\lVert v \rVert^2 + s^2}}\right)^l Y_{lm}(v)

    The direction from one particle to another turns fast where they meet: times the power, rounding
    of their positions is amplified by no more than 1 / s. The factor in front is such that products
    with the harmonics leave the mean square of features about as it is.

    Args:
        vectors: positions or velocities, in the units of the data, as is s = ``SOFTENING``.
        lmax: largest degree L.
    """
    length = safe_norm(vectors, keepdim=True)
    near = length / (length.square() + SOFTENING**2).sqrt()
    powers = [near.pow(degree).expand(-1, 2 * degree + 1) for degree in range(lmax + 1)]
    size = 4 * math.pi * math.sqrt(2) / (lmax + 1)
    return size * torch.cat(powers, 1) * spherical_harmonics(vectors, lmax)


def product_by_gaunt(
    features: Float[Tensor, "rows coeffs channels"], harmonics: Float[Tensor, "rows coeffs 1"]
) -> Float[Tensor, "rows coeffs channels"]:
    """Return the product of functions on the sphere, up to the degree of the features."""
    return gaunt_product(features, harmonics, math.isqrt(features.shape[1]) - 1)


def product_by_e3nn(
    features: Float[Tensor, "rows coeffs channels"], harmonics: Float[Tensor, "rows coeffs 1"]
) -> Float[Tensor, "rows coeffs channels"]:
    """Return the same as `product_by_gaunt`, with e3nn's layout in between."""
    lmax = math.isqrt(features.shape[1]) - 1
    product = _e3nn_product(lmax, features.shape[2], features.device, features.dtype)
    return from_e3nn(product(to_e3nn(features), harmonics[..., 0]), lmax)


PRODUCTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gaunt": product_by_gaunt,
    "e3nn": product_by_e3nn,
}


@torch.no_grad()
def _shrink(layer: nn.Module, factor: float) -> None:
    for parameter in layer.parameters():
        parameter.mul_(factor)


def gaunt_constant(one: int, two: int, out: int) -> float:
    """Return the ratio of the Gaunt coefficients of a path to e3nn's ``wigner_3j``."""
    from e3nn import o3

    exact = o3.wigner_3j(one, two, out, dtype=torch.float64)
    block = gaunt_coefficients(one, two, out)[one**2 :, two**2 :, out**2 :]
    return float((block * exact).sum() / (exact * exact).sum())


@lru_cache(maxsize=16)
@torch.inference_mode(mode=False)
def _e3nn_product(lmax: int, channels: int, device: torch.device, dtype: torch.dtype) -> Any:
    """Return e3nn's product on the paths of even degree sum, each with its Gaunt coefficient.

    "uvu" is e3nn's channelwise product for a second operand of one channel.
    """
    from e3nn import o3

    degrees = range(lmax + 1)
    paths = [
        # e3nn multiplies by the square root of what is called the weight of a path
        (one, two, out, "uvu", False, gaunt_constant(one, two, out) ** 2)
        for one in degrees
        for two in degrees
        for out in degrees
        if (one + two + out) % 2 == 0 and abs(one - two) <= out <= one + two
    ]
    features, harmonics = (
        o3.Irreps([(multiplicity, (degree, (-1) ** degree)) for degree in degrees])
        for multiplicity in (channels, 1)
    )
    product = o3.TensorProduct(
        features,
        harmonics,
        features,
        paths,
        irrep_normalization="none",
        path_normalization="none",
        internal_weights=False,
        shared_weights=False,
    )
    return product.to(device, dtype)
