"""Spherical harmonics: values against scipy and e3nn, derivatives, extremes, every dtype."""

import math

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.special import sph_harm_y
from torch._subclasses import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck

from eqlib.harmonics import spherical_harmonics, spherical_harmonics_gradient
from eqlib.symmetry import Irreps, O, Signature, Vector, equivariance_error
from tests.tolerances import EQUIVARIANCE

POLES = {"north": [0.0, 1.0, 0.0], "south": [0.0, -1.0, 0.0]}
EPS = {
    dtype: torch.finfo(dtype).eps
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)
}
FUNCTIONS = [spherical_harmonics, spherical_harmonics_gradient]
functions = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
poles = pytest.mark.parametrize("pole", list(POLES.values()), ids=list(POLES))


def random_vectors(rng, *shape, dtype=torch.float64):
    return torch.randn(*shape, 3, dtype=torch.float64, generator=rng).to(dtype)


def degrees(lmax):
    degree = torch.arange(lmax + 1)
    return degree.repeat_interleave(2 * degree + 1).double()


@pytest.mark.parametrize("lmax", [0, 1, 2, 5, 11])
def test_values_are_those_of_e3nn(lmax, rng):
    vectors = random_vectors(rng, 50)
    expected = o3.spherical_harmonics(list(range(lmax + 1)), vectors, True, "integral")
    assert (spherical_harmonics(vectors, lmax) - expected).abs().max() < 1e-13


@pytest.mark.parametrize("lmax", [3, 30])
def test_values_are_those_of_scipy(lmax, rng):
    vectors = random_vectors(rng, 100)
    x, y, z = torch.nn.functional.normalize(vectors, dim=-1).numpy().T
    theta, phi = np.arctan2(np.hypot(x, z), y), np.arctan2(x, z)
    expected = []
    for degree in range(lmax + 1):
        for order in range(-degree, degree + 1):
            value = (-1) ** order * sph_harm_y(degree, abs(order), theta, phi)
            part = value.imag if order < 0 else value.real
            expected.append(part * (1 if order == 0 else math.sqrt(2)))
    difference = spherical_harmonics(vectors, lmax) - torch.tensor(np.stack(expected, -1))
    assert difference.abs().max() < 1e-13


@pytest.mark.parametrize("lmax", [30, 100])
def test_addition_theorem(lmax, rng):
    one, two = random_vectors(rng, 2, 20)
    products = spherical_harmonics(one, lmax) * spherical_harmonics(two, lmax)
    cosine = torch.nn.functional.cosine_similarity(one, two, dim=-1)
    for degree, part in enumerate(products.split([2 * n + 1 for n in range(lmax + 1)], -1)):
        legendre = np.polynomial.legendre.legval(cosine.numpy(), np.eye(degree + 1)[degree])
        expected = (2 * degree + 1) / (4 * math.pi) * torch.tensor(legendre)
        assert (part.sum(-1) - expected).abs().max() < 1e-14 * (2 * degree + 10)


def test_order_and_sign_of_the_first_degree():
    vectors = torch.eye(3, dtype=torch.float64)
    expected = math.sqrt(3 / (4 * math.pi)) * vectors
    torch.testing.assert_close(spherical_harmonics(vectors, 1)[:, 1:], expected)


@pytest.mark.parametrize("dtype", list(EPS), ids=str)
@pytest.mark.parametrize("lmax", [4, 10, 30])
def test_every_dtype_against_float64(dtype, lmax, rng):
    vectors = random_vectors(rng, 100, dtype=dtype)
    result = spherical_harmonics(vectors, lmax)
    expected = spherical_harmonics(vectors.double(), lmax)
    assert result.dtype == dtype
    # Near a pole, degree l changes l (l + 1) / 2 times as fast as the cosine, which is rounded.
    bound = (lmax + 4) ** 2 / 4 * EPS[torch.promote_types(dtype, torch.float32)] + EPS[dtype]
    assert (result.double() - expected).abs().max() < bound * expected.abs().max()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@functions
def test_length_does_not_matter(function, dtype, scale, rng):
    vectors = random_vectors(rng, 20, dtype=dtype)
    difference = function(scale * vectors, 6) - function(vectors, 6)
    assert difference.abs().max() < 100 * EPS[dtype]


@pytest.mark.parametrize("length", [1e-42, 3e38])
def test_reaches_the_ends_of_the_range(length):
    vector = torch.tensor([[0.0, length, 0.0]])
    unit = torch.tensor([[0.0, 1.0, 0.0]])
    assert torch.equal(spherical_harmonics(vector, 4), spherical_harmonics(unit, 4))


def gradients(vectors, lmax=6):
    """First gradient of a sum of harmonics, and the gradient of its first component."""
    vectors = vectors.clone().requires_grad_()
    values = spherical_harmonics(vectors, lmax)
    weights = torch.linspace(-1, 1, values.shape[-1], dtype=values.dtype)
    (first,) = torch.autograd.grad((values * weights).sum(), vectors, create_graph=True)
    (second,) = torch.autograd.grad(first[..., 0].sum(), vectors)
    return first.detach(), second


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_at_extreme_lengths(dtype, scale, rng):
    vectors = random_vectors(rng, 20)
    reference = gradients(vectors)
    for power, (result, expected) in enumerate(
        zip(gradients((scale * vectors).to(dtype)), reference, strict=True), start=1
    ):
        assert result.isfinite().all()
        largest = torch.finfo(dtype).max
        expected = (expected * scale**-power).clamp(-largest, largest)
        error = (result.double() - expected).abs().max() / expected.abs().max().clamp(min=1e-300)
        # Near 1e-60 float32 has only zeros.
        assert error < 1e-4 or expected.abs().max() < torch.finfo(dtype).tiny


@functions
def test_zero_vector_has_a_value_and_derivatives(function):
    zeros = torch.zeros(2, 3, dtype=torch.float64)
    values = function(zeros, 3)
    expected = torch.zeros_like(values)
    if function is spherical_harmonics:
        expected[:, 0] = (4 * math.pi) ** -0.5
    torch.testing.assert_close(values, expected, rtol=1e-15, atol=0)
    assert (torch.autograd.functional.jacobian(lambda x: function(x, 3), zeros) == 0).all()
    hessian = torch.autograd.functional.hessian(
        lambda x: (
            function(x, 3) * torch.arange(1.0, 1 + values[0].numel()).view_as(values[0])
        ).sum(),
        zeros,
    )
    assert (hessian == 0).all()
    # control: e3nn's harmonics have no second derivative there
    plain = torch.autograd.functional.hessian(
        lambda x: o3.spherical_harmonics([1, 2, 3], x, True).sum(), zeros
    )
    assert not plain.isfinite().all() or plain.abs().max() > 1e10


def test_zero_rows_leave_the_gradient_of_others_exact(rng):
    vectors = random_vectors(rng, 4)
    mixed = torch.cat([vectors, torch.zeros(1, 3)])
    for alone, beside in zip(gradients(vectors), gradients(mixed), strict=True):
        torch.testing.assert_close(beside[:4], alone, rtol=1e-14, atol=1e-14)
        assert (beside[4] == 0).all()


@poles
def test_values_and_slopes_at_the_poles(pole):
    lmax = 30
    pole = torch.tensor(pole, dtype=torch.float64)
    degree = degrees(lmax)
    order = torch.cat([torch.arange(-n, n + 1) for n in range(lmax + 1)])
    sign = torch.where(degree % 2 == 0, 1.0, pole[1])
    height = ((2 * degree + 1) / (4 * math.pi)).sqrt()
    values = spherical_harmonics(pole, lmax)
    torch.testing.assert_close(values, torch.where(order == 0, sign * height, 0.0))
    slope = height * (degree * (degree + 1) / 2).sqrt() * sign * pole[1]
    expected = torch.zeros(len(degree), 3, dtype=torch.float64)
    expected[:, 0] = torch.where(order == -1, slope, 0.0)
    expected[:, 2] = torch.where(order == 1, slope, 0.0)
    torch.testing.assert_close(spherical_harmonics_gradient(pole, lmax), expected)
    jacobian = torch.func.jacrev(lambda x: spherical_harmonics(x, lmax))(pole)
    torch.testing.assert_close(jacobian, expected)


@poles
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_second_gradients_at_the_poles(pole, dtype):
    pole = torch.tensor([pole], dtype=dtype)
    assert all(gradient.isfinite().all() for gradient in gradients(pole, 12))
    if dtype == torch.float64:
        assert gradgradcheck(lambda x: spherical_harmonics(x, 4), pole.requires_grad_())


@functions
def test_derivatives(function, rng):
    vectors = random_vectors(rng, 3).requires_grad_()
    assert gradcheck(lambda x: function(x, 4), vectors)
    assert gradgradcheck(lambda x: function(x, 3), vectors)


@pytest.mark.parametrize("lmax", [3, 30])
def test_gradient_is_that_of_autograd(lmax, rng):
    vectors = torch.nn.functional.normalize(random_vectors(rng, 5), dim=-1)
    total = torch.func.jacrev(lambda x: spherical_harmonics(x, lmax).sum(0))(vectors)
    jacobian = total.movedim(1, 0)
    gradient = spherical_harmonics_gradient(vectors, lmax)
    assert (gradient - jacobian).abs().max() < 1e-12 * jacobian.abs().max()
    assert (gradient * vectors[:, None]).sum(-1).abs().max() < 1e-12
    degree = degrees(lmax)
    expected = degree * (degree + 1) * (2 * degree + 1) / (4 * math.pi)
    sums = torch.zeros(5, lmax + 1, dtype=torch.float64)
    sums.index_add_(1, degree.long(), gradient.square().sum(-1))
    assert (sums - expected.unique()).abs().max() < 1e-12 * expected.max()


@pytest.mark.parametrize("dtype", list(EPS), ids=str)
def test_is_equivariant(dtype, rng):
    lmax = 6
    irreps = Irreps("+".join(f"1x{n}{'eo'[n % 2]}" for n in range(lmax + 1)))
    inputs = {"vectors": random_vectors(rng, 10, dtype=dtype)}

    def error(function):
        signature = Signature(O(3), {"vectors": Vector()}, irreps)
        return equivariance_error(function, inputs, signature=signature, generator=rng).max

    assert error(lambda vectors: spherical_harmonics(vectors, lmax)) < EQUIVARIANCE[dtype]
    # control: harmonics of the pole's neighbour rather than of the vector
    shift = torch.tensor([0.0, 0.5, 0.0], dtype=dtype)
    assert error(lambda vectors: spherical_harmonics(vectors + shift, lmax)) > 1e-2


@pytest.mark.parametrize("shape", [(0,), (2, 0), (), (2, 5)], ids=str)
@functions
def test_any_batch(function, shape, rng):
    vectors = random_vectors(rng, *shape)
    expected = (*shape, 16) if function is spherical_harmonics else (*shape, 16, 3)
    result = function(vectors, 3)
    assert result.shape == expected
    assert result.is_contiguous()


@functions
def test_any_strides(function, rng):
    vectors = random_vectors(rng, 4)
    for view in (
        vectors.T.contiguous().T,
        torch.cat([vectors, vectors], -1)[:, :3],
        vectors[:1].expand(4, 3),
    ):
        torch.testing.assert_close(function(view, 3), function(view.contiguous(), 3))


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
def test_one_bad_vector_leaves_the_others_exact(poison, rng):
    vectors = random_vectors(rng, 4)
    bad = vectors.clone()
    bad[2, 1] = poison
    for clean, dirty in zip(
        (spherical_harmonics(vectors, 4), *gradients(vectors)),
        (spherical_harmonics(bad, 4), *gradients(bad)),
        strict=True,
    ):
        assert torch.equal(clean[[0, 1, 3]], dirty[[0, 1, 3]])
        assert not dirty[2].isfinite().all()
    assert spherical_harmonics(bad, 4)[2, 1:].isnan().all()


@pytest.mark.unchecked
@functions
def test_compiles(function, rng):
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
    for count in (5, 8):
        vectors = random_vectors(rng, count)
        vectors[2] = 0
        vectors.requires_grad_()
        results = [f(vectors, 2) for f in (function, compiled)]
        torch.testing.assert_close(*results, rtol=0, atol=1e-14)
        slopes = [torch.autograd.grad(y.square().sum(), vectors)[0] for y in results]
        torch.testing.assert_close(*slopes, rtol=0, atol=1e-13)


@pytest.mark.unchecked
@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])
@functions
def test_exports(function, strict, rng):
    class Layer(torch.nn.Module):
        def forward(self, vectors):
            return function(vectors, 2)

    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(
        Layer(), (random_vectors(rng, 4),), dynamic_shapes=(batch,), strict=strict
    )
    vectors = random_vectors(rng, 7)
    torch.testing.assert_close(program.module()(vectors), function(vectors, 2))
    # what export traced with is not what later calls find
    assert function(vectors, 2).sum().item() != 0


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # jacfwd's own
def test_works_under_functional_transforms(rng):
    vectors = random_vectors(rng, 4)
    vectors[2] = 0

    def function(x):
        return spherical_harmonics(x, 3)

    assert torch.equal(torch.func.vmap(function)(vectors), function(vectors))
    jacobian = torch.func.vmap(torch.func.jacrev(function))(vectors)
    torch.testing.assert_close(jacobian, torch.func.vmap(torch.func.jacfwd(function))(vectors))
    hessian = torch.func.vmap(torch.func.hessian(function))(vectors)
    expected = torch.stack([torch.func.jacrev(torch.func.jacrev(function))(row) for row in vectors])
    torch.testing.assert_close(hessian, expected)
    assert (hessian[2] == 0).all()


def test_tables_made_in_inference_mode_serve_training(rng):
    lmax = 17  # of no other test
    with torch.inference_mode():
        spherical_harmonics(random_vectors(rng, 2), lmax)
    assert gradients(random_vectors(rng, 2), lmax)[0].isfinite().all()


@functions
def test_tables_made_for_fake_tensors_stay_apart(function, rng):
    lmax = 18  # of no other test
    vectors = random_vectors(rng, 2, dtype=torch.float32)
    for _ in range(2):
        with FakeTensorMode():
            assert function(torch.empty(4, 3), lmax).shape[:2] == (4, (lmax + 1) ** 2)
        assert function(vectors, lmax).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@functions
def test_autocast_changes_nothing(function, dtype, rng):
    vectors = random_vectors(rng, 5, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        result = function(vectors, 5)
    assert torch.equal(result, function(vectors, 5))


@pytest.mark.gpu
@functions
def test_on_a_gpu(function, rng):
    vectors = random_vectors(rng, 100)
    torch.testing.assert_close(function(vectors.cuda(), 8).cpu(), function(vectors, 8))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("vectors", "lmax", "error", "message"),
    [
        (torch.ones(2, 3, dtype=torch.int64), 2, TypeError, "vectors has dtype torch.int64"),
        (torch.ones(2, 4), 2, ValueError, r"vectors has shape \(2, 4\); expected \(\.\.\., 3\)"),
        (torch.tensor(1.0), 2, ValueError, r"vectors has shape \(\); expected"),
        (torch.ones(2, 3), -1, ValueError, "lmax is -1; expected a degree of at least 0"),
        (torch.ones(2, 3), 1.5, TypeError, r"lmax is 1\.5; expected a whole number"),
        (torch.ones(2, 3), True, TypeError, "lmax is True; expected a whole number"),
    ],
    ids=["integers", "four components", "no axis", "negative", "fraction", "boolean"],
)
@functions
def test_bad_input_is_refused(function, vectors, lmax, error, message):
    with pytest.raises(error, match=message):
        function(vectors, lmax)
