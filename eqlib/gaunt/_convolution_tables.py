"""Constants of the convolution: grids with harmonics on them, and coupling coefficients."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import pi

import torch
from torch import Tensor

from eqlib.harmonics import (
    gaunt_coefficients,
    half_grid,
    poisson_coefficients,
    spherical_harmonics,
    spherical_harmonics_gradient,
    tangent_frames,
)
from eqlib.kernels.tracing import constant_result

Degrees = tuple[int, int, int]
"""Largest degrees of the features, of the filter and of the result."""


# Dynamo runs what assume_constant_result marks instead of tracing it. It takes one tensor from each
# function, but any number of lists.


@constant_result
def convolution_tables(
    degrees: Degrees, complete: bool, dense: bool, dtype: torch.dtype, device: torch.device
) -> list[Tensor]:
    """Return the tables of the operation ``eqlib::gaunt_convolution``: for reading only.

    Args:
        degrees: the largest ones of features, filter and result.
        complete: that of the odd paths, by the Poisson bracket, as well as that of the even ones.
        dense: the coefficients of the implementation "naive" instead of the grid of "blocked".
        dtype: in which to compute.
        device: where to compute.
    """
    paths = (False, True) if complete else (False,)
    return [_cast(_float64, (degrees, odd, dense), dtype, device) for odd in paths]


@constant_result
def aligned_blocks(
    degrees: Degrees, odd: bool, dtype: torch.dtype, device: torch.device
) -> list[Tensor]:
    r"""Return, for each order m, the coupling to a filter along the polar axis: for reading only.

    Entry (o, a, l) of the block of order m couples the components (a, m) and (l, 0) to (o, m), or
    to (o, -m) for odd paths, with the factor :math:`Y_{l0} = \sqrt{(2l+1)/4\pi}` of the filter;
    degrees o and a start at m.
    """
    orders = range(min(degrees[0], degrees[2]) + 1)
    return [_cast(_aligned, (degrees, order, odd), dtype, device) for order in orders]


@cache
def _cast(
    build: Callable[..., Tensor],
    arguments: tuple[object, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    # A thread of its own sees no inference mode and no fake tensors of a tracer.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: build(*arguments).to(device, dtype)).result()


def _float64(degrees: Degrees, odd: bool, dense: bool) -> Tensor:
    if dense:
        return (poisson_coefficients if odd else gaunt_coefficients)(*(max(degrees),) * 3)
    lmax = max(degrees)
    half = half_grid(max(0, sum(degrees) - odd))
    # Products of three parts of allowed degrees are even on the sphere, so half a grid would do;
    # but with both halves a filter is evaluated as it is, instead of in an even and an odd part.
    points = torch.cat([half.points, -half.points])
    weights = torch.cat([half.weights, half.weights]) / 2
    roots = (weights.sign() * weights.abs() ** (1 / 3))[:, None]
    values = spherical_harmonics(points, lmax) * roots
    if not odd:
        return values[None]
    gradient = spherical_harmonics_gradient(points, lmax)
    slopes = torch.einsum("gci,gki->kgc", gradient, tangent_frames(points)) * roots
    return torch.cat([values[None], slopes])


def _aligned(degrees: Degrees, order: int, odd: bool) -> Tensor:
    first, degree, out = (torch.arange(lmax + 1) for lmax in degrees)
    first, out = first[order:], out[order:]
    rows = first * (first + 1) + order
    columns = out * (out + 1) + (-order if odd else order)
    coefficients = (poisson_coefficients if odd else gaunt_coefficients)(*degrees)
    block = coefficients[rows[:, None, None], (degree * (degree + 1))[:, None], columns]
    return block.permute(2, 0, 1) * ((2 * degree.double() + 1) / (4 * pi)).sqrt()
