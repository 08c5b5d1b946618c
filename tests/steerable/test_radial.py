"""Radial bases and cutoffs: values, limits, and derivatives at zero, at the cutoff and beyond."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import spherical_jn
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.export import Dim, export
from torch.func import functional_call, vmap

from eqlib.steerable import BesselBasis, GaussianBasis, cosine_cutoff, polynomial_cutoff
from eqlib.symmetry import assert_equivariant

CUTOFF = 2.5
BASES = {
    "bessel": lambda: BesselBasis(5, CUTOFF),
    "bessel-trainable": lambda: BesselBasis(5, CUTOFF, trainable=True),
    "gaussian": lambda: GaussianBasis(5, CUTOFF),
    "gaussian-trainable": lambda: GaussianBasis(5, CUTOFF, trainable=True),
}
CUTOFFS = {
    "polynomial": lambda r: polynomial_cutoff(r, CUTOFF),
    "polynomial-2": lambda r: polynomial_cutoff(r, CUTOFF, exponent=2),
    "cosine": lambda r: cosine_cutoff(r, CUTOFF),
}
FUNCTIONS = {
    **CUTOFFS,
    **{name: lambda r, make=make: make().to(r.dtype)(r) for name, make in BASES.items()},
}
bases = pytest.mark.parametrize("name", list(BASES))
cutoffs = pytest.mark.parametrize("name", list(CUTOFFS))
functions = pytest.mark.parametrize("name", list(FUNCTIONS))


def distances(*values):
    return torch.tensor(values, dtype=torch.float64)


def derivative(function, r, order):
    """The values of a function, or those of all functions in sum, differentiated by distance."""
    r = r.clone().requires_grad_()
    result = function(r).reshape(len(r), -1).sum(-1)
    for _ in range(order):
        (result,) = grad(result.sum(), r, create_graph=True)
    return result.detach()


@pytest.mark.parametrize("trainable", [False, True], ids=["fixed", "trainable"])
@pytest.mark.parametrize("cutoff", [0.3, 1.0, 12.0])
def test_bessel_functions_match_scipy(cutoff, trainable, rng):
    r = cutoff * torch.rand(50, dtype=torch.float64, generator=rng)
    r[:3] = torch.tensor([0.0, cutoff, 1.5 * cutoff])
    waves = np.pi * np.arange(1, 9) / cutoff
    expected = np.sqrt(2 / cutoff) * waves * spherical_jn(0, r.numpy()[:, None] * waves)
    values = BesselBasis(8, cutoff, trainable).double()(r).detach().numpy()
    assert np.abs(values - expected).max() < 1e-13 * np.abs(expected).max()


def test_bessel_functions_are_orthonormal_and_end_at_the_cutoff():
    basis = BesselBasis(4, CUTOFF)

    def overlap(r, first, second):
        values = basis(distances(r))[0]
        return float(values[first] * values[second]) * r * r

    for first in range(4):
        for second in range(4):
            integral, _ = quad(overlap, 0, CUTOFF, args=(first, second))
            assert integral == pytest.approx(float(first == second), abs=1e-12)
    assert basis(distances(CUTOFF)).abs().max() < 1e-14


def test_bessel_functions_and_their_derivatives_at_zero():
    basis = BesselBasis(3, CUTOFF)
    waves = math.pi * torch.arange(1.0, 4.0, dtype=torch.float64) / CUTOFF
    norm = math.sqrt(2 / CUTOFF)
    # sin(w r) / r = w - w^3 r^2 / 6 + ...
    zero = distances(0.0)
    torch.testing.assert_close(basis(zero)[0], norm * waves)
    assert derivative(basis, zero, 1) == 0
    torch.testing.assert_close(derivative(basis, zero, 2)[0], -norm * (waves**3).sum() / 3)


@pytest.mark.parametrize("size", [1e-30, 1e-8, 1e-4, 1e-2, 0.1, 0.5])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_derivatives_of_bessel_functions_near_zero_are_precise(order, size):
    # e_1 alone, so that the argument w r covers both sides of the switch to the series at 1
    basis = BesselBasis(1, CUTOFF)
    r = size * torch.linspace(0.5, 2, 31)
    w = math.pi / CUTOFF
    z = w * r.double()
    # sin(z) / z, differentiated term by term
    series = sum(
        (-1) ** k * math.perm(2 * k, order) / math.factorial(2 * k + 1) * z ** (2 * k - order)
        for k in range((order + 1) // 2, 14)
    )
    expected = math.sqrt(2 / CUTOFF) * w ** (order + 1) * series
    found = derivative(basis, r, order).double()
    assert (found - expected).abs().max() < 3e-6 * expected.abs().max()
    exact = derivative(basis, r.double(), order)
    assert (exact - expected).abs().max() < 1e-14 * expected.abs().max()


def test_gaussians_stand_one_width_apart():
    r = torch.linspace(0, 1.2 * CUTOFF, 40, dtype=torch.float64)
    values = GaussianBasis(6, CUTOFF)(r)
    for k, centre in enumerate(np.linspace(0, CUTOFF, 6)):
        width = CUTOFF / 5
        expected = np.exp(-((r.numpy() - centre) ** 2) / (2 * width**2))
        assert np.abs(values[:, k].numpy() - expected).max() < 1e-14


@pytest.mark.parametrize("exponent", [1, 2, 3, 6, 11])
def test_polynomial_cutoff_is_the_envelope_of_dimenet(exponent):
    d = torch.linspace(0, 1, 201, dtype=torch.float64)
    p = exponent
    expected = (
        1
        - (p + 1) * (p + 2) / 2 * d**p
        + p * (p + 2) * d ** (p + 1)
        - p * (p + 1) / 2 * d ** (p + 2)
    )
    found = polynomial_cutoff(d * CUTOFF, CUTOFF, exponent)
    assert (found - expected).abs().max() < 1e-13


def test_cosine_cutoff_is_half_a_wave():
    d = torch.linspace(0, 1, 201, dtype=torch.float64)
    expected = (1 + torch.cos(math.pi * d)) / 2
    assert (cosine_cutoff(d * CUTOFF, CUTOFF) - expected).abs().max() < 1e-15


@cutoffs
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_cutoffs_fall_from_one_to_zero_and_stay_there(name, dtype):
    r = torch.linspace(0, CUTOFF, 300, dtype=torch.float64).to(dtype)
    values = CUTOFFS[name](r)
    assert values[0] == 1
    assert values[-1] == 0
    assert (values[:-1] > 0).all()
    assert (values.diff() <= torch.finfo(dtype).eps).all()
    beyond = torch.tensor([CUTOFF, 1.01 * CUTOFF, 1e30, torch.inf], dtype=dtype)
    assert (CUTOFFS[name](beyond) == 0).all()


@cutoffs
def test_derivatives_of_cutoffs_vanish_at_the_cutoff_and_beyond(name):
    beyond = distances(CUTOFF, math.nextafter(CUTOFF, 3), 2 * CUTOFF, 1e30)
    before = distances(CUTOFF * (1 - 1e-6))
    assert (derivative(CUTOFFS[name], beyond, 1) == 0).all()
    assert derivative(CUTOFFS[name], before, 1).abs() < 1e-5
    assert (derivative(CUTOFFS[name], beyond[1:], 2) == 0).all()
    second = derivative(CUTOFFS[name], before, 2).abs()
    # the second derivative of the cosine jumps
    assert second > 0.5 if name == "cosine" else second < 1e-4


@cutoffs
def test_derivatives_of_cutoffs_vanish_at_zero(name):
    assert derivative(CUTOFFS[name], distances(0.0), 1).abs() < 1e-15


@functions
def test_derivatives(name):
    r = distances(0.0, 1e-3, 0.1, 0.9, 1.7, 2.4, 2.6, 4.0).requires_grad_()
    inner = r[1:]  # numerical derivatives at zero would need distances below it
    assert gradcheck(FUNCTIONS[name], (inner,))
    assert gradgradcheck(FUNCTIONS[name], (inner,))
    assert all(derivative(FUNCTIONS[name], r, order).isfinite().all() for order in (1, 2, 3))


@pytest.mark.parametrize("name", ["bessel-trainable", "gaussian-trainable"])
def test_derivatives_by_what_is_learned(name, rng):
    basis = BASES[name]().double()
    keys, parameters = zip(*basis.named_parameters(), strict=True)
    r = torch.rand(4, dtype=torch.float64, generator=rng).requires_grad_()

    def run(r, *values):
        return functional_call(basis, dict(zip(keys, values, strict=True)), (r,))

    assert gradcheck(run, (r, *parameters))
    assert gradgradcheck(run, (r, *parameters))


@functions
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_dtype_matches_float64(name, dtype, rng):
    r = (3 * torch.rand(100, dtype=torch.float64, generator=rng)).to(dtype)
    result, expected = FUNCTIONS[name](r), FUNCTIONS[name](r.double())
    assert result.dtype == dtype
    tolerance = max(2e-6, torch.finfo(dtype).eps)  # half precision is rounded once
    assert (result - expected).abs().max() <= tolerance * expected.abs().max()


@functions
@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (2, 0, 3)], ids=str)
def test_any_shape(name, shape, rng):
    r = torch.rand(shape, generator=rng).requires_grad_()
    result = FUNCTIONS[name](r)
    assert result.shape == shape + ((5,) if name in BASES else ())
    (gradient,) = grad(result.sum(), r)
    assert gradient.shape == shape


@functions
def test_noncontiguous_and_expanded_distances(name, rng):
    r = torch.rand(4, 3, generator=rng)
    torch.testing.assert_close(FUNCTIONS[name](r.T), FUNCTIONS[name](r.T.contiguous()))
    expected = FUNCTIONS[name](r)
    torch.testing.assert_close(
        FUNCTIONS[name](r.expand(2, 4, 3)), expected.expand(2, *expected.shape)
    )


@functions
def test_one_bad_distance_leaves_the_others_untouched(name, rng):
    r = torch.rand(4, generator=rng)
    bad = r.clone()
    bad[2] = torch.nan
    results = []
    for values in (r, bad):
        values.requires_grad_()
        result = FUNCTIONS[name](values)
        results.append((result, grad(result.sum(), values)[0]))
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(dirty[[0, 1, 3]], clean[[0, 1, 3]])
    assert results[1][0][2].isnan().all()


@bases
def test_bases_are_invariant(name, rng):
    assert_equivariant(BASES[name](), {"distances": torch.rand(4, generator=rng)})


@pytest.mark.unchecked
@functions
def test_compiles_to_one_graph_and_maps(name, rng):
    torch._dynamo.reset()
    function = BASES[name]().double() if name in BASES else CUTOFFS[name]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
    for edges in (3, 8):
        r = torch.rand(edges, dtype=torch.float64, generator=rng).requires_grad_()
        outputs = function(r), compiled(r)
        torch.testing.assert_close(*outputs)
        torch.testing.assert_close(*(grad(out.square().sum(), r)[0] for out in outputs))
    torch.testing.assert_close(vmap(function)(r), function(r))


@pytest.mark.unchecked
@bases
def test_exports_for_any_number_of_edges(name, rng):
    basis = BASES[name]().double()
    example = torch.rand(3, dtype=torch.float64, generator=rng)
    program = export(basis, (example,), dynamic_shapes=({0: Dim.DYNAMIC},))
    r = torch.rand(7, dtype=torch.float64, generator=rng)
    torch.testing.assert_close(program.module()(r), basis(r))


@pytest.mark.unchecked
@bases
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_keeps_the_dtype_of_the_distances(name, dtype, rng):
    r = torch.rand(20, generator=rng).to(dtype)
    expected = BASES[name]()(r.float())
    with torch.autocast("cpu", torch.bfloat16):
        result = BASES[name]()(r)
    assert result.dtype == dtype
    tolerance = torch.finfo(dtype).eps
    assert (result - expected).abs().max() <= tolerance * expected.abs().max()


@bases
def test_state_survives_a_round_trip(name, rng):
    basis = BASES[name]()
    for parameter in basis.parameters():
        parameter.data.mul_(1.1)
    other = BASES[name]()
    other.load_state_dict(basis.state_dict())
    assert set(basis.state_dict()) == set(dict(basis.named_parameters()))
    assert (len(basis.state_dict()) > 0) == name.endswith("trainable")
    r = torch.rand(4, generator=rng)
    assert torch.equal(other(r), basis(r))
    assert torch.equal(copy.deepcopy(basis)(r), basis(r))


@bases
def test_fixed_bases_lose_nothing_in_half_precision_and_back(name, rng):
    r = torch.rand(4, dtype=torch.float64, generator=rng)
    assert torch.equal(BASES[name]().bfloat16().double()(r), BASES[name]().double()(r))


@bases
def test_bases_print_how_they_were_made(name):
    trainable = name.endswith("trainable")
    assert repr(BASES[name]()).endswith(f"(count=5, cutoff=2.5, trainable={trainable})")


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BesselBasis(0, 1.0), ValueError, "count: expected an integer of at least 1, got"),
        (lambda: BesselBasis(2.0, 1.0), TypeError, "count: expected an integer, got 2.0"),
        (lambda: GaussianBasis(1, 1.0), ValueError, "count: expected an integer of at least 2"),
        (lambda: BesselBasis(2, 0.0), ValueError, "cutoff: expected a positive length, got 0.0"),
        (lambda: GaussianBasis(2, -1.0), ValueError, "cutoff: expected a positive length"),
        (lambda: BesselBasis(2, math.nan), ValueError, "cutoff: expected a positive length"),
        (lambda: cosine_cutoff(torch.ones(2), 0), ValueError, "cutoff: expected a positive"),
        (lambda: polynomial_cutoff(torch.ones(2), math.inf), ValueError, "cutoff: expected a pos"),
        (lambda: polynomial_cutoff(torch.ones(2), 1, 0), ValueError, "exponent: expected an int"),
        (lambda: polynomial_cutoff(torch.ones(2), 1, 2.5), TypeError, "exponent: expected an int"),
    ],
    ids=range(10),
)
def test_wrong_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.unchecked
@functions
def test_integers_are_refused(name):
    function = BASES[name]() if name in BASES else CUTOFFS[name]
    with pytest.raises(TypeError, match=r"distances: expected floating-point .*torch.int64; conv"):
        function(torch.ones(3, dtype=torch.int64))


@pytest.mark.unchecked
@bases
def test_other_devices_and_dtypes_are_refused(name):
    with pytest.raises(ValueError, match="distances: on meta, but the basis is on cpu; move one"):
        BASES[name]()(torch.ones(3, device="meta"))
    if name.endswith("trainable"):
        with pytest.raises(TypeError, match=r"distances: got torch.float64, but the weights"):
            BASES[name]()(torch.ones(3, dtype=torch.float64))
    else:  # nothing is lost: its parameters are small integers
        assert BASES[name]()(torch.ones(3, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.gpu
@functions
def test_cuda_matches_the_cpu(name, rng):
    r = 3 * torch.rand(100, dtype=torch.float64, generator=rng)
    function = CUTOFFS[name] if name in CUTOFFS else BASES[name]().double().cuda()
    torch.testing.assert_close(function(r.cuda()).cpu(), FUNCTIONS[name](r))
