"""The window of kernels: values, and derivatives at zero, at the radius and beyond."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.functional import hessian, jacobian
from torch.export import Dim, export
from torch.testing import assert_close

from eqlib.position_orientation.spaces.windows import polynomial_window

RADIUS = 2.5


def along(*lengths):
    """Offsets of given lengths in one direction."""
    direction = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64) / 3
    return torch.tensor(lengths, dtype=torch.float64)[:, None] * direction


def test_it_is_the_published_polynomial():
    u = torch.linspace(0, 1, 101, dtype=torch.float64)
    offsets = (u * RADIUS)[:, None] * along(1.0)
    expected = 1 - 28 * u**6 + 48 * u**7 - 21 * u**8
    assert (polynomial_window(offsets, RADIUS) - expected).abs().max() < 1e-14


def test_there_is_nothing_beyond_the_radius_and_nothing_changes_without_one():
    offsets = along(0.0, 1.0, RADIUS, math.nextafter(RADIUS, 3), 1e30)
    values = polynomial_window(offsets, RADIUS)
    assert values[0] == 1
    assert 0 < values[1] < 1
    assert values[2] < 1e-40
    assert (values[3:] == 0).all()
    assert (polynomial_window(offsets) == 1).all()


def test_it_is_invariant(rng):
    offsets = torch.randn(50, 3, dtype=torch.float64, generator=rng)
    turned, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=rng))
    values = polynomial_window(offsets, RADIUS)
    assert_close(polynomial_window(offsets @ turned, RADIUS), values)
    stretched = polynomial_window(offsets * torch.tensor([1.0, 1.0, 1.3]), RADIUS)
    assert (stretched - values).abs().max() > 1e-2  # control: maps that change lengths


def test_two_derivatives_vanish_at_the_radius():
    for length in (RADIUS * (1 + 1e-12), 2 * RADIUS):
        r = along(length)[0]
        assert (jacobian(lambda r: polynomial_window(r, RADIUS), r) == 0).all()
        assert (hessian(lambda r: polynomial_window(r, RADIUS), r) == 0).all()
    r = along(RADIUS * (1 - 1e-6))[0]
    assert jacobian(lambda r: polynomial_window(r, RADIUS), r).abs().max() < 1e-10
    assert hessian(lambda r: polynomial_window(r, RADIUS), r).abs().max() < 1e-4
    # control: inside they do not
    assert jacobian(lambda r: polynomial_window(r, RADIUS), along(1.5)[0]).abs().max() > 0.1


@pytest.mark.parametrize("length", [0.0, 1e-300, 1e-20, 1e-3], ids=str)
def test_derivatives_at_zero_are_right(length):
    """The expansion begins with the sixth power of the length."""
    r = along(length)[0]
    assert jacobian(lambda r: polynomial_window(r, RADIUS), r).abs().max() <= 1e-14
    assert hessian(lambda r: polynomial_window(r, RADIUS), r).abs().max() <= 1e-11


def test_derivatives(rng):
    offsets = torch.randn(6, 3, dtype=torch.float64, generator=rng).requires_grad_()
    assert gradcheck(lambda r: polynomial_window(r, RADIUS), offsets)
    assert gradgradcheck(lambda r: polynomial_window(r, RADIUS), offsets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_dtype_matches_float64(dtype, rng):
    offsets = torch.randn(100, 3, generator=rng).to(dtype)
    values = polynomial_window(offsets, RADIUS)
    assert values.dtype == dtype
    expected = polynomial_window(offsets.double(), RADIUS)
    assert (values - expected).abs().max() <= max(2e-6, torch.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 5, 2), (2, 0, 3)], ids=str)
def test_any_shape(shape, rng):
    offsets = torch.randn(shape, generator=rng)
    values = polynomial_window(offsets, RADIUS)
    assert values.shape == shape[:-1]
    expanded = offsets.expand(4, *shape)
    assert_close(polynomial_window(expanded, RADIUS), values.expand(4, *shape[:-1]))


@pytest.mark.unchecked
def test_compiles_and_exports(rng):
    torch._dynamo.reset()

    class Window(torch.nn.Module):
        def forward(self, offsets):
            return polynomial_window(offsets, RADIUS)

    compiled = torch.compile(Window(), fullgraph=True, backend="aot_eager", dynamic=True)
    for edges in (3, 8):
        offsets = torch.randn(edges, 3, generator=rng)
        assert_close(compiled(offsets), Window()(offsets))
    program = export(Window(), (offsets,), dynamic_shapes=({0: Dim("edges")},))
    assert_close(program.module()(offsets[:5]), Window()(offsets[:5]))


@pytest.mark.unchecked
def test_wrong_arguments_are_refused():
    for radius in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="radius: expected a positive length, or infinity, go"):
            polynomial_window(torch.ones(2, 3), radius)
    with pytest.raises(TypeError, match=r"offsets: expected floating-point numbers, got torch.int"):
        polynomial_window(torch.ones(2, 3, dtype=torch.int64), 1.0)
