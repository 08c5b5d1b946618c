"""Features beside polynomials: Gaussians of lengths and random waves of invariants."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.functional import hessian, jacobian
from torch.export import Dim, export
from torch.testing import assert_close

from eqlib.position_orientation.spaces.features import GaussianDistances, RandomFourierFeatures

MODULES = {
    "gaussian": lambda: GaussianDistances(5, 2.5),
    "waves": lambda: RandomFourierFeatures(3, 5, 0.7),
}
modules = pytest.mark.parametrize("name", list(MODULES))


def test_gaussians_stand_one_width_apart():
    r = torch.linspace(0, 3, 40, dtype=torch.float64)
    offsets = r[:, None] * torch.tensor([0.6, 0.0, -0.8], dtype=torch.float64)
    values = GaussianDistances(6, 2.5, softening=1e-9)(offsets)
    for k, centre in enumerate((0.0, 0.5, 1.0, 1.5, 2.0, 2.5)):
        expected = torch.exp(-((r - centre) ** 2) / (2 * 0.5**2))
        assert (values[:, k] - expected).abs().max() < 1e-8


def test_gaussians_are_invariant(rng):
    offsets = torch.randn(20, 3, dtype=torch.float64, generator=rng)
    turned, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=rng))
    features = GaussianDistances(5, 2.5)
    assert_close(features(offsets @ turned), features(offsets))
    assert (features(offsets * 1.1) - features(offsets)).abs().max() > 1e-2  # control


@pytest.mark.parametrize("length", [0.0, 1e-300, 1e-8, 1e6], ids=str)
def test_gaussians_have_finite_derivatives(length):
    r = torch.tensor([length, 0.0, 0.0], dtype=torch.float64)

    def total(r):
        return GaussianDistances(5, 2.5)(r).sum()

    assert jacobian(total, r).isfinite().all()
    assert hessian(total, r).isfinite().all()
    if length == 0:
        assert (jacobian(total, r) == 0).all()


@pytest.mark.parametrize("length_scale", [0.5, 1.0, 3.0])
def test_inner_products_of_waves_are_a_gaussian_kernel(length_scale, rng):
    features = RandomFourierFeatures(3, 20_000, length_scale)
    first, second = torch.randn(2, 30, 3, dtype=torch.float64, generator=rng)
    found = (features(first) * features(second)).sum(-1)
    expected = torch.exp(-(first - second).square().sum(-1) / (2 * length_scale**2))
    assert (found - expected).abs().max() < 4 / math.sqrt(20_000)
    assert_close(features(first).square().sum(-1), torch.ones(30, dtype=torch.float64))
    # control: another scale is another kernel
    other = torch.exp(-(first - second).square().sum(-1) / (8 * length_scale**2))
    assert (found - other).abs().max() > 0.1


def test_frequencies_come_from_the_generator():
    def draw(seed):
        return RandomFourierFeatures(3, 5, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1).frequencies, draw(1).frequencies)
    assert not torch.equal(draw(1).frequencies, draw(2).frequencies)
    state = torch.get_rng_state()
    first = RandomFourierFeatures(3, 5).frequencies
    assert torch.equal(first, draw(0).frequencies)
    assert torch.equal(torch.get_rng_state(), state)  # no global randomness


@modules
def test_derivatives(name, rng):
    x = torch.randn(4, 3, dtype=torch.float64, generator=rng).requires_grad_()
    assert gradcheck(MODULES[name](), x)
    assert gradgradcheck(MODULES[name](), x)


@modules
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("cast", [False, True], ids=["as-made", "cast"])
def test_every_dtype_matches_float64(name, dtype, cast, rng):
    x = torch.randn(50, 3, generator=rng).to(dtype)
    module = MODULES[name]()
    expected = module(x.double())
    values = module.to(dtype)(x) if cast else module(x)
    assert values.dtype == dtype
    tolerance = max(2e-6, torch.finfo(dtype).eps)
    assert (values - expected).abs().max() <= tolerance * expected.abs().max()


@modules
@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 5, 3), (2, 0, 3)], ids=str)
def test_any_shape(name, shape, rng):
    module = MODULES[name]()
    count = {"gaussian": 5, "waves": 10}[name]
    x = torch.randn(shape, generator=rng)
    assert module(x).shape == (*shape[:-1], count)
    assert_close(module(x.expand(4, *shape)), module(x).expand(4, *shape[:-1], count))


@modules
def test_state_survives_casts_and_round_trips(name, rng):
    module, other = MODULES[name](), MODULES[name]()
    x = torch.randn(4, 3, dtype=torch.float64, generator=rng)
    expected = module(x)
    if name == "waves":
        other = RandomFourierFeatures(3, 5, generator=torch.Generator().manual_seed(7))
        assert (other(x) - expected).abs().max() > 0.1
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x), expected)
    net = nn.Sequential(copy.deepcopy(module), nn.Linear(2, 2)).bfloat16().double()
    assert torch.equal(net[0](x), expected)


@pytest.mark.unchecked
@modules
def test_compiles_and_exports(name, rng):
    torch._dynamo.reset()
    module = MODULES[name]()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    for edges in (3, 8):
        x = torch.randn(edges, 3, generator=rng)
        assert_close(compiled(x), module(x))
    program = export(module, (x,), dynamic_shapes=({0: Dim("edges")},))
    assert_close(program.module()(x[:5]), module(x[:5]))


@pytest.mark.unchecked
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_does_not_round_phases(dtype, rng):
    x = torch.randn(20, 3, generator=rng).to(dtype)
    expected = MODULES["waves"]()(x.double())
    with torch.autocast("cpu", torch.bfloat16):
        values = MODULES["waves"]()(x)
    assert values.dtype == dtype
    assert (values - expected).abs().max() <= max(2e-6, torch.finfo(dtype).eps)


def test_modules_print_how_they_were_made():
    assert repr(MODULES["gaussian"]()) == "GaussianDistances(count=5, radius=2.5, softening=0.1)"
    assert repr(MODULES["waves"]()) == "RandomFourierFeatures(inputs=3, count=5)"


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GaussianDistances(1, 1.0), ValueError, "count: expected an integer of at least 2"),
        (lambda: GaussianDistances(4.0, 1.0), TypeError, "count: expected an integer, got 4.0"),
        (lambda: GaussianDistances(4, 0.0), ValueError, "radius: expected a positive number, got"),
        (lambda: GaussianDistances(4, math.inf), ValueError, "radius: expected a positive number"),
        (lambda: GaussianDistances(4, 1.0, 0.0), ValueError, "softening: expected a positive numb"),
        (lambda: RandomFourierFeatures(0, 4), ValueError, "inputs: expected an integer of at leas"),
        (lambda: RandomFourierFeatures(3, 0), ValueError, "count: expected an integer of at least"),
        (lambda: RandomFourierFeatures(3, 4, -1.0), ValueError, "length_scale: expected a positiv"),
        (
            lambda: RandomFourierFeatures(3, 4)(torch.ones(2, 4)),
            ValueError,
            r"invariants: expected shape \(..., 3\), got \(2, 4\)",
        ),
        (
            lambda: GaussianDistances(3, 4.0)(torch.ones(2, 3, dtype=torch.int64)),
            TypeError,
            "offsets: expected floating-point numbers, got torch.int64; convert with",
        ),
    ],
    ids=range(10),
)
def test_wrong_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.gpu
@modules
def test_cuda_matches_the_cpu(name, rng):
    x = torch.randn(20, 3, dtype=torch.float64, generator=rng)
    assert_close(MODULES[name]().cuda()(x.cuda()).cpu(), MODULES[name]()(x))
