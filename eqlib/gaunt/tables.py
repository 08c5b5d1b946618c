"""Tables of the Gaunt product and the Poisson bracket, by implementation."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from eqlib.gaunt._arguments import check_implementation
from eqlib.harmonics import (
    fourier_tables,
    gaunt_coefficients,
    half_grid,
    poisson_coefficients,
    spherical_harmonics,
    spherical_harmonics_gradient,
    tangent_frames,
)
from eqlib.kernels.gaunt_product import pick, whynot
from eqlib.kernels.gaunt_product.triton_tables import PRECISION, pack
from eqlib.kernels.tracing import constant_result

Lmaxes = tuple[int, int, int]


@constant_result
def plan(
    implementation: str, device: torch.device, dtype: torch.dtype, lmaxes: Lmaxes, odd: bool
) -> tuple[str, list[Tensor]]:
    """Return the name of the implementation that computes a product, and its tables.

    Args:
        implementation: ``"auto"`` or a name.
        device: that of the operands.
        dtype: that of the operands; the tables are in float64 for float64, else in float32.
        lmaxes: degrees of both operands and of the result.
        odd: False for the Gaunt product, True for the bracket.

    Raises:
        ValueError: an implementation that is asked for cannot run.
    """
    return _plan(implementation, device, dtype, lmaxes, odd)


@cache
def _plan(
    implementation: str, device: torch.device, dtype: torch.dtype, lmaxes: Lmaxes, odd: bool
) -> tuple[str, list[Tensor]]:
    check_implementation(implementation)
    name = implementation
    if implementation == "auto":
        name, _ = pick(device, dtype, lmaxes, odd)
    reason = whynot(name, device, dtype, lmaxes, odd)
    if reason:
        raise ValueError(f"implementation {name!r} cannot run here: {reason}")
    compute = torch.promote_types(dtype, torch.float32)
    # A thread of its own sees no inference mode and no fake tensors of a tracer.
    with ThreadPoolExecutor(1) as thread:
        return name, thread.submit(_tables, name, device, compute, lmaxes, odd).result()


def _tables(
    name: str, device: torch.device, dtype: torch.dtype, lmaxes: Lmaxes, odd: bool
) -> list[Tensor]:
    tables = _float64(name, sum(lmaxes) - odd, max(lmaxes), odd)
    if name in PRECISION:
        even, odd_degrees = tables
        return [t.to(device) for t in pack(even, odd_degrees, dtype, PRECISION[name])]
    return [table.to(device=device, dtype=dtype) for table in tables]


@cache
def _float64(name: str, degree: int, lmax: int, odd: bool) -> list[Tensor]:
    """Tables for operands up to lmax; a grid is exact up to the degree of the integrand."""
    if name in ("naive", "compiled"):
        coefficients = poisson_coefficients if odd else gaunt_coefficients
        return [coefficients(lmax, lmax, lmax)]
    if name == "fourier":
        series, projection = fourier_tables(lmax, 2 * lmax)
        return [series, _bracket_projection(series) if odd else projection]
    if name == "separable":
        return [_circle_table(degree, lmax)]
    halves, even = _grid_tables(degree, lmax, odd)
    if name in PRECISION:
        return [halves[..., even].contiguous(), halves[..., ~even].contiguous()]
    # At the opposite point, with the same tangents, derivatives of even functions change sign and
    # those of odd ones do not; that the frame is left-handed there goes to the values.
    opposite = halves * torch.where(even, 1.0, -1.0).double()
    if odd:
        opposite[0] *= -1
    return [torch.cat([halves, opposite], dim=1) * 2 ** (-1 / 3)]


def _grid_tables(degree: int, lmax: int, odd: bool) -> tuple[Tensor, Tensor]:
    """Harmonics on half a grid (k, H, S), times cube roots of weights, and which are even.

    The cube root of a weight, negative ones included, goes to each of three operands alike.
    """
    points, weights, _ = half_grid(max(degree, 0))
    tables = [spherical_harmonics(points, lmax)]
    if odd:
        gradient = spherical_harmonics_gradient(points, lmax)
        tables += (tangent_frames(points) @ gradient.mT).unbind(-2)
    root = weights.sign() * weights.abs() ** (1 / 3)
    even = torch.arange((lmax + 1) ** 2).sqrt().int() % 2 == 0
    return torch.stack(tables) * root[:, None], even


def _circle_table(degree: int, lmax: int) -> Tensor:
    """Harmonics of order >= 0 at azimuth 0 (pairs, degrees, orders), by Gauss-Legendre nodes.

    Nodes are taken in pairs theta, pi - theta; that of the equator is halved, as its own partner.
    Order 0 counts twice, since a Fourier series has half of its constant. Times cube roots of
    weights, as on a grid.
    """
    cosine, weights = map(torch.from_numpy, leggauss(degree // 2 + 1))
    kept = len(cosine) // 2
    cosine, weights = cosine[kept:], weights[kept:].clone()
    if degree % 4 in (0, 1):  # an odd number of nodes
        weights[0] /= 2
    points = torch.stack([torch.zeros_like(cosine), cosine, (1 - cosine.square()).sqrt()], dim=-1)
    harmonics = spherical_harmonics(points, lmax)
    table = torch.zeros(len(cosine), lmax + 1, lmax + 1, dtype=torch.float64)
    for row in range(lmax + 1):
        table[:, row, : row + 1] = harmonics[:, row * row + row : (row + 1) ** 2]
    table[..., 0] *= 2
    return table * (torch.pi / 2 * weights)[:, None, None] ** (1 / 3)


def _bracket_projection(series: Tensor) -> Tensor:
    r"""Projection (orders, degrees, frequencies) of the bracket times :math:`\sin\theta`.

    Harmonics of even order are cosines of theta and meet sines, those of odd order the reverse.
    """
    lmax = len(series) - 1
    order = torch.arange(lmax + 1)[:, None, None]
    u, v = torch.arange(lmax + 1.0, dtype=torch.float64)[:, None], torch.arange(2.0 * lmax + 1)
    # The integral of sin(a theta) cos(b theta) from 0 to pi is 2 a / (a^2 - b^2) for odd a + b.
    odd = (u + v) % 2 == 1
    difference = torch.where(odd, v.square() - u.square(), 1.0)
    overlap = odd * torch.where(order % 2 == 0, 2 * v, -2 * u) / difference
    return torch.where(order == 0, 2.0, 1.0).double() * torch.pi * (series @ overlap)
