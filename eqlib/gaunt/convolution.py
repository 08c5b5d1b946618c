"""Messages along the edges of a graph, with filters of spherical harmonics."""

from math import inf, pi
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import silu

from eqlib.gaunt._aligned import aligned_convolution
from eqlib.gaunt._convolution_arguments import check_convolution
from eqlib.gaunt._convolution_tables import Degrees, convolution_tables
from eqlib.geometry import safe_norm
from eqlib.harmonics import (
    e3nn_irreps,
    gaunt_coefficients,
    poisson_coefficients,
    spherical_harmonics,
)
from eqlib.kernels import gaunt_convolution as kernel
from eqlib.steerable import GaussianBasis, polynomial_cutoff
from eqlib.steerable._features import check_at_least, check_features
from eqlib.symmetry import (
    EdgeIndex,
    NodeOrder,
    O,
    Permutations,
    Scalar,
    Signature,
    SphericalTensor,
    Vector,
)

Method = Literal["auto", "grid", "aligned", "naive"]
METHODS: tuple[Method, ...] = ("auto", "grid", "aligned", "naive")


def gaunt_convolution(
    x: Float[Tensor, "nodes *parity coeffs channels"],
    vectors: Float[Tensor, "edges 3"],
    radial: Float[Tensor, "edges *parity degrees channels"],
    edge_index: Int[Tensor, "2 edges"],
    lmax_out: int,
    num_nodes: int | None = None,
    method: Method = "auto",
    complete: bool = False,
) -> Float[Tensor, "targets *parity coeffs_out channels"]:
    r"""Sum over the edges into each node of the products of features with a filter.

    .. math:: z_i = \sum_{j \to i} x_j \otimes h_{ij}, \qquad
        h_{ij,lm} = R_l(i, j)\, Y_{lm}(\hat r_{ij})

    with :math:`\otimes` the Gaunt product, channel by channel: the pointwise product of functions
    on the sphere, cut off at degree ``lmax_out``. With ``complete`` the odd paths, by the Poisson
    bracket, connect natural (N) and other (P) parity,

    .. math:: z^N_i = \sum_j x^N_j \otimes h_{ij} + \{x^P_j, h'_{ij}\}, \qquad
        z^P_i = \sum_j x^P_j \otimes h_{ij} + \{x^N_j, h'_{ij}\},

    where :math:`h'` has radial weights of its own; then every Clebsch-Gordan path is reached.

    Args:
        x: features of the source nodes, (nodes, (L1+1)^2, channels), or with ``complete``
            (nodes, 2, (L1+1)^2, channels), natural parity first.
        vectors: of the edges, in any length unit; only directions matter.
        radial: weights :math:`R_l` by edge, degree of the filter and channel,
            (edges, L2+1, channels), or with ``complete`` (edges, 2, L2+1, channels), those of the
            even paths first.
        edge_index: source and target of each edge, in any order; edges may repeat.
        lmax_out: largest degree of the result.
        num_nodes: number of target nodes, by default that of the source nodes.
        method: "grid" multiplies on a grid of the sphere, with one evaluation and one projection
            per node; "aligned" rotates every edge to the polar axis; "naive" is the definition, by
            the dense table of Gaunt coefficients. All are exact. "auto" is "grid", on a CPU the
            fastest at every degree up to 10.
        complete: both parities and all paths.

    Returns:
        (targets, (lmax_out+1)^2, channels), or with a parity axis before the last two; 0 for nodes
        without edges. In the dtype of ``x``; half and bfloat16 are summed in float32.

    Raises:
        TypeError: ``edge_index`` is not int64, or another tensor not floating point.
        ValueError: shapes, devices or degrees do not fit, an entry of ``edge_index`` is out of
            range (read as in :func:`eqlib.geometry.segment_sum`), or ``method`` is unknown.

    Note:
        An edge of length zero has no direction: its filter is that of degree 0,
        :math:`R_0 Y_{00}`, and the gradient by its vector is 0. On CUDA the order of the additions
        varies from call to call.

        "grid" and "naive" have derivatives of any order, which are the same operation again; the
        grid keeps nothing of the size edges x grid x channels, forward or backward. "aligned"
        keeps several tensors of the size edges x coefficients x channels for the backward pass.

    Source:
        Luo, Chen, Krishnapriyan, Enabling Efficient Equivariant Operations in the Fourier Basis
        via Gaunt Tensor Products, ICLR 2024, with a quadrature in place of the Fourier basis. The
        aligned filter is that of Passaro and Zitnick, Reducing SO(3) Convolutions to SO(2) for
        Efficient Equivariant GNNs, ICML 2023.
    """
    num_nodes = x.shape[0] if num_nodes is None else num_nodes
    _check_method(method)
    degrees = check_convolution(x, vectors, radial, edge_index, lmax_out, num_nodes, complete)
    dtype = torch.promote_types(torch.promote_types(x.dtype, radial.dtype), torch.float32)
    # one axis for the parities, whether there is one of them or two
    features, weights = (x, radial) if complete else (x[:, None], radial[:, None])
    with torch.autocast(x.device.type, enabled=False):
        if method == "aligned":
            vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
            result = aligned_convolution(
                features.to(dtype), vectors, weights.to(dtype), edge_index, num_nodes, degrees
            ).to(x.dtype)
        else:
            dense = method == "naive"
            tables = convolution_tables(degrees, complete, dense, dtype, x.device)
            implementation = "naive" if dense else "auto"
            result = _convolve(
                features, vectors, weights, edge_index, num_nodes, degrees, tables, implementation
            )
    return result if complete else result.squeeze(1)


class GauntConvolution(nn.Module):
    r"""Messages along edges, with a filter of spherical harmonics and learned radial weights.

    .. math:: z_i = \alpha \sum_{j \to i} x_j \otimes h_{ij}, \qquad
        h_{ij,lmc} = u(r_{ij})\, \phi\bigl(e(r_{ij}), a_{ij}\bigr)_{lc}\, Y_{lm}(\hat r_{ij})

    with the product of :func:`gaunt_convolution`, Gaussians e of the distance, a perceptron
    :math:`\phi` with one hidden layer, the envelope u of :func:`eqlib.steerable.polynomial_cutoff`,
    which ends the messages smoothly, and features a of the edges, if there are any. The channels
    are not mixed: put an :class:`eqlib.steerable.EquivariantLinear` before or behind.

    Args:
        lmax: largest degree of the features.
        channels: channels of features and result.
        cutoff: from this distance on messages are zero, in the unit of the vectors.
        lmax_filter: largest degree of the filter, by default ``lmax``.
        lmax_out: largest degree of the result, by default ``lmax``.
        complete: features hold both parities, and all Clebsch-Gordan paths are taken; the odd ones
            have radial weights of their own.
        edge_channels: number of features of each edge besides its distance.
        basis: number of Gaussians, at least 2.
        hidden: width of the hidden layer.
        neighbours: mean number of edges into a node.
        method: as in :func:`gaunt_convolution`.

    Raises:
        ValueError: a degree, a number or ``method`` is out of range.
        TypeError: a degree or a number is not an integer.

    Note:
        The constant :math:`\alpha` makes the mean square of the result 1 where features and radial
        weights are independent with mean square 1. Without ``complete`` the result cannot tell a
        cloud of points from its mirror image.

    Source:
        As in :func:`gaunt_convolution`.
    """

    def __init__(
        self,
        lmax: int,
        channels: int,
        cutoff: float,
        lmax_filter: int | None = None,
        lmax_out: int | None = None,
        complete: bool = False,
        edge_channels: int = 0,
        basis: int = 8,
        hidden: int = 64,
        neighbours: float | int = 1.0,
        method: Method = "auto",
    ) -> None:
        super().__init__()
        lmax_filter = lmax if lmax_filter is None else lmax_filter
        lmax_out = lmax if lmax_out is None else lmax_out
        check_at_least(
            0, lmax=lmax, lmax_filter=lmax_filter, lmax_out=lmax_out, edge_channels=edge_channels
        )
        check_at_least(1, channels=channels, hidden=hidden)
        _check_method(method)
        if not 0 < neighbours < inf:
            raise ValueError(f"neighbours: expected a positive number, got {neighbours}")
        self.lmax, self.channels, self.cutoff, self.complete = lmax, channels, cutoff, complete
        self.lmax_filter, self.lmax_out, self.method = lmax_filter, lmax_out, method
        self.edge_channels = edge_channels
        self.signature = _signature(lmax, lmax_out, complete, edge_channels)
        self.basis = GaussianBasis(basis, cutoff)
        weights = (2 if complete else 1) * (lmax_filter + 1) * channels
        self.hidden = nn.Linear(basis + edge_channels, hidden)
        self.radial = nn.Linear(hidden, weights)
        self.scale = _scale((lmax, lmax_filter, lmax_out), complete) / neighbours**0.5

    @property
    def irreps_in(self) -> str:
        """The features in e3nn's grammar."""
        return e3nn_irreps(self.lmax, self.channels, self.complete)

    @property
    def irreps_out(self) -> str:
        """The result in e3nn's grammar."""
        return e3nn_irreps(self.lmax_out, self.channels, self.complete)

    def forward(
        self,
        features: Float[Tensor, "nodes *parity coeffs channels"],
        vectors: Float[Tensor, "edges 3"],
        edge_index: Int[Tensor, "2 edges"],
        edge_features: Float[Tensor, "edges features"] | None = None,
        num_nodes: int | None = None,
    ) -> Float[Tensor, "targets *parity coeffs_out channels"]:
        """The sum of the messages into each node.

        Args:
            features: of the source nodes, (nodes, (lmax+1)^2, channels), or
                (nodes, 2, (lmax+1)^2, channels) if ``complete``.
            vectors: of the edges, in the unit of ``cutoff``.
            edge_index: source and target of each edge, in any order.
            edge_features: numbers that no motion of space changes, if there are ``edge_channels``.
            num_nodes: number of target nodes, by default that of the source nodes.

        Raises:
            TypeError: as in :func:`gaunt_convolution`; or the dtype of the features differs from
                that of the weights, save under autocast.
            ValueError: as in :func:`gaunt_convolution`; or ``edge_features`` do not fit.
        """
        weight = self.radial.weight
        check_features(features, self.lmax, self.channels, self.complete, weight)
        return gaunt_convolution(
            features,
            vectors,
            self._weights(vectors, edge_features),
            edge_index,
            self.lmax_out,
            num_nodes,
            self.method,
            self.complete,
        )

    def extra_repr(self) -> str:
        """Degrees, channels and options."""
        return (
            f"lmax={self.lmax}, channels={self.channels}, cutoff={self.cutoff}, "
            f"lmax_filter={self.lmax_filter}, lmax_out={self.lmax_out}, "
            f"complete={self.complete}, method={self.method!r}"
        )

    def _weights(self, vectors: Tensor, edge_features: Tensor | None) -> Tensor:
        """Return the radial weights of each edge."""
        expected = (vectors.shape[0], self.edge_channels) if self.edge_channels else None
        got = None if edge_features is None else tuple(edge_features.shape)
        if got != expected:
            raise ValueError(
                f"edge_features: expected {expected}, one row per edge, or None with "
                f"edge_channels=0, got {got}"
            )
        distances = safe_norm(vectors)
        dtype = self.radial.weight.dtype
        known = self.basis(distances).to(dtype)
        if edge_features is not None:
            known = torch.cat([known, edge_features.to(dtype)], dim=-1)
        envelope = polynomial_cutoff(distances, self.cutoff).to(dtype) * self.scale
        weights = self.radial(silu(self.hidden(known))) * envelope[:, None]
        parities = (2,) if self.complete else ()
        return weights.unflatten(-1, (*parities, self.lmax_filter + 1, self.channels))


def _convolve(
    x: Tensor,
    vectors: Tensor,
    radial: Tensor,
    edge_index: Tensor,
    num_nodes: int,
    degrees: Degrees,
    tables: list[Tensor],
    implementation: str,
) -> Tensor:
    """Sum the even paths, and where there are two tables the odd ones, which swap the parities."""
    source, target = edge_index
    harmonics = spherical_harmonics(vectors, degrees[1])[:, None]
    parts = []
    for odd, table in zip((False, True), tables, strict=False):
        part = kernel.gaunt_convolution(
            x.flip(1) if odd else x,
            harmonics,
            radial[:, int(odd), None],
            table,
            source,
            target,
            num_nodes,
            degrees[2],
            odd,
            implementation,
        )
        parts.append(part)
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _signature(lmax: int, lmax_out: int, complete: bool, edge_channels: int) -> Signature:
    edges = {"edge_features": Scalar()} if edge_channels else {}
    nodes = NodeOrder(-4 if complete else -3)
    return Signature(
        O(3) * Permutations(),
        inputs={
            "features": SphericalTensor(lmax, complete) * nodes,
            "vectors": Vector(),
            "edge_index": EdgeIndex(),
            **edges,
        },
        outputs=SphericalTensor(lmax_out, complete) * nodes,
    )


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")


def _scale(degrees: Degrees, complete: bool) -> float:
    """Return one over the root mean square of a message from independent standard normals.

    Averaged over directions, the square of every harmonic is 1 / (4 pi).
    """
    couplings = [gaunt_coefficients, poisson_coefficients][: 2 if complete else 1]
    total = sum(float(coupling(*degrees).square().sum()) for coupling in couplings)
    return (4 * pi * (degrees[2] + 1) ** 2 / total) ** 0.5 if total else 1.0
