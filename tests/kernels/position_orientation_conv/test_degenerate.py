"""Degenerate geometry: defined values, and finite derivatives of first and second order."""

from dataclasses import replace
from math import inf

import pytest
import torch

from eqlib.kernels.position_orientation_conv import naive, position_orientation_conv
from tests.kernels.position_orientation_conv.cases import CASES, NAMES, implementations, make
from tests.kernels.position_orientation_conv.test_op import convolve, gradients, like, with_tensors

dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
SPACES = ["R3xS2", "R3xS2 pairs", "R2xS1", "SE3", "R3"]


def placed(name, kind, dtype, rng):
    """A problem whose offsets are degenerate."""
    arguments = make(CASES[name], rng)
    offsets = arguments.offsets
    if kind == "coincident":
        offsets = torch.zeros_like(offsets)
    elif kind == "nearly coincident":
        offsets = offsets * 1e-30
    elif kind == "parallel":
        axis = arguments.axes[0, 0, 0] if arguments.axes.numel() else offsets[0] * 0 + 1
        offsets = axis * torch.linspace(-3, 3, len(offsets), dtype=offsets.dtype)[:, None]
    elif kind == "far":
        offsets = offsets * 1e6
        arguments = arguments._replace(radius=inf)
    elif kind == "at the end of the window":
        offsets = offsets / offsets.norm(dim=1, keepdim=True).clamp(min=1e-9) * arguments.radius
    tensors = [arguments[0], offsets, *arguments[2 : len(NAMES)]]
    return with_tensors(arguments, [tensor.to(dtype) for tensor in tensors])


KINDS = ["coincident", "nearly coincident", "parallel", "far", "at the end of the window"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SPACES)
@implementations
@dtypes
def test_derivatives_are_finite(name, kind, implementation, dtype, rng):
    arguments = placed(name, kind, dtype, rng)
    y = convolve(arguments, implementation)
    (grad_y,) = like([y], rng)
    seeds = like(arguments[: len(NAMES)], rng)
    first = gradients(lambda a: convolve(a, implementation), arguments, grad_y)
    second = gradients(lambda a: convolve(a, implementation), arguments, grad_y, seeds)
    assert all(part.isfinite().all() for part in (y, *first, *second))
    if dtype == torch.float64:
        expected = (naive.convolve(arguments), *gradients(naive.convolve, arguments, grad_y))
        for found, exact in zip((y, *first), expected, strict=True):
            largest = exact.abs().max().clamp(min=1.0) if exact.numel() else 1.0
            torch.testing.assert_close(found / largest, exact / largest, rtol=0, atol=1e-12)


@implementations
def test_coincident_points_have_the_kernel_of_no_offset(implementation, rng):
    arguments = placed("R3xS2", "coincident", torch.float64, rng)
    y = convolve(arguments, implementation)
    # without an offset the attributes are zero, whatever the orientations
    turned = arguments._replace(axes=arguments.axes.roll(1, dims=1))
    assert torch.equal(convolve(turned, implementation), y)
    assert y.any()


@pytest.mark.parametrize("name", SPACES)
@implementations
def test_the_window_ends_at_the_radius(name, implementation, rng):
    arguments = make(replace(CASES[name], radius=1.5), rng)
    inside = arguments.offsets.norm(dim=1) < arguments.radius
    assert inside.any()
    assert not inside.all()
    x, offsets, *rest = arguments[: len(NAMES)]
    moved = with_tensors(arguments, [x, torch.where(inside[:, None], offsets, 1e3), *rest])
    assert torch.equal(convolve(moved, implementation), convolve(arguments, implementation))
    # control: without a window they count
    moved, arguments = moved._replace(radius=inf), arguments._replace(radius=inf)
    assert not torch.equal(convolve(moved, implementation), convolve(arguments, implementation))


@implementations
def test_entries_that_are_not_finite_stay_with_their_targets(implementation, rng):
    arguments = make(CASES["R3xS2"], rng)
    expected = convolve(arguments, implementation)
    edge = len(arguments.source) // 2
    offsets = arguments.offsets.clone()
    offsets[edge] = torch.nan
    x, _, *rest = arguments[: len(NAMES)]
    y = position_orientation_conv(*with_tensors(arguments, [x, offsets, *rest]), implementation)
    others = torch.arange(len(y)) != arguments.target[edge]
    assert y[~others].isnan().all()
    assert torch.equal(y[others], expected[others])
