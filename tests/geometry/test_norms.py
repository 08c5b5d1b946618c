"""Norms and directions: values against float64, derivatives also at zero and at extremes."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from eqlib.geometry import safe_direction, safe_norm
from eqlib.symmetry import SO, Scalar, Signature, Vector, equivariance_error
from tests.tolerances import EQUIVARIANCE

FUNCTIONS = [safe_norm, safe_direction]
functions = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
EPS = {dtype: torch.finfo(dtype).eps for dtype in (torch.float64, torch.float32, torch.bfloat16)}


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30])
@pytest.mark.parametrize("dtype", list(EPS), ids=str)
def test_matches_float64(dtype, scale, rng):
    x = (scale * torch.randn(50, 3, generator=rng)).to(dtype)
    expected = torch.linalg.vector_norm(x.double(), dim=1, keepdim=True)
    norm, direction = safe_norm(x, keepdim=True), safe_direction(x)
    assert norm.dtype == direction.dtype == dtype
    assert ((norm - expected).abs() <= 4 * EPS[dtype] * expected).all()
    torch.testing.assert_close(
        direction.double(), x.double() / expected, rtol=0, atol=4 * EPS[dtype]
    )


@pytest.mark.parametrize("x", [1e-42, 3e38])
def test_reaches_the_ends_of_the_range(x):
    vector = torch.tensor([[0.0, x]])
    assert safe_norm(vector) == torch.tensor([x])
    assert torch.equal(safe_direction(vector), torch.tensor([[0.0, 1.0]]))


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("keepdim", [False, True])
def test_any_axis(dim, keepdim, rng):
    x = torch.randn(2, 3, 4, generator=rng).transpose(0, 1)
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    expected = norm if keepdim else norm.squeeze(dim)
    torch.testing.assert_close(safe_norm(x, dim, keepdim), expected)
    torch.testing.assert_close(safe_direction(x, dim), x / norm)


def test_no_vectors():
    assert safe_norm(torch.zeros(0, 3)).shape == (0,)
    assert safe_direction(torch.zeros(0, 3)).shape == (0, 3)


@functions
def test_value_and_derivatives_at_zero(function):
    x = torch.zeros(2, 3, dtype=torch.float64)
    assert (function(x) == 0).all()
    jacobian = torch.autograd.functional.jacobian(function, x)
    assert (jacobian == 0).all()
    for entry in range(function(x).numel()):
        hessian = torch.autograd.functional.hessian(lambda y, e=entry: function(y).flatten()[e], x)
        assert (hessian == 0).all()
    # control: the plain norm has no second derivative there
    plain = torch.autograd.functional.hessian(lambda y: y.square().sum().sqrt(), x)
    assert plain.isnan().any()


@functions
def test_zero_rows_leave_the_gradient_of_others_exact(function, rng):
    x = torch.randn(4, 3, generator=rng)
    mixed = torch.cat([x, torch.zeros(1, 3)])
    gradients = []
    for y in (x, mixed):
        y.requires_grad_()
        gradients.append(torch.autograd.grad(function(y).sum(), y)[0])
    assert torch.equal(gradients[0], gradients[1][:4])


@functions
def test_derivatives(function, rng):
    x = torch.randn(5, 3, dtype=torch.float64, generator=rng, requires_grad=True)
    assert gradcheck(function, x)
    assert gradgradcheck(function, x)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_derivatives_do_not_overflow(scale, rng):
    x = (scale * torch.randn(5, 3, generator=rng)).requires_grad_()
    (gradient,) = torch.autograd.grad(safe_norm(x).sum(), x, create_graph=True)
    torch.testing.assert_close(gradient.detach(), safe_direction(x.detach()))
    (second,) = torch.autograd.grad(gradient[:, 0].sum(), x)
    unit = x.detach().double() / scale
    direction = safe_direction(unit)
    expected = (torch.eye(3)[0] - direction[:, :1] * direction) / safe_norm(unit)[:, None]
    torch.testing.assert_close(second.double() * scale, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
@functions
def test_one_bad_vector_leaves_the_others_exact(function, poison, rng):
    x = torch.randn(4, 3, generator=rng)
    bad = x.clone()
    bad[2, 1] = poison
    results, gradients = [], []
    for y in (x, bad):
        y.requires_grad_()
        results.append(function(y))
        gradients.append(torch.autograd.grad(results[-1].sum(), y)[0])
    for clean, dirty in (results, gradients):
        assert torch.equal(clean[[0, 1, 3]], dirty[[0, 1, 3]])
    assert not results[1][2].isfinite().all()


def test_norm_of_infinite_vectors():
    x = torch.tensor([[torch.inf, 1.0], [-torch.inf, torch.inf], [torch.nan, torch.inf]])
    assert torch.equal(safe_norm(x)[:2], torch.tensor([torch.inf, torch.inf]))
    assert safe_norm(x)[2].isnan()


@pytest.mark.unchecked
@functions
def test_compiles(function, rng):
    torch.compiler.reset()
    x = torch.randn(5, 3, generator=rng)
    x[2] = 0
    x.requires_grad_()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    results = [f(x) for f in (function, compiled)]
    assert torch.equal(*results)
    assert torch.equal(*(torch.autograd.grad(y.sum(), x)[0] for y in results))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # jacfwd's own
@functions
def test_works_under_functional_transforms(function, rng):
    x = torch.randn(5, 3, dtype=torch.float64, generator=rng)
    x[2] = 0
    assert torch.equal(torch.func.vmap(function)(x), function(x))
    jacobian = torch.func.vmap(torch.func.jacrev(function))(x)
    torch.testing.assert_close(jacobian, torch.func.vmap(torch.func.jacfwd(function))(x))
    expected = [torch.autograd.functional.jacobian(function, row) for row in x]
    torch.testing.assert_close(jacobian, torch.stack(expected))
    hessian = torch.func.vmap(torch.func.hessian(function))(x)
    assert (hessian[2] == 0).all()
    assert hessian.isfinite().all()


@pytest.mark.parametrize("dtype", list(EPS), ids=str)
@pytest.mark.parametrize(
    ("function", "output"), [(safe_norm, Scalar()), (safe_direction, Vector())]
)
def test_is_equivariant(function, output, dtype, rng):
    vectors = torch.randn(10, 3, generator=rng).to(dtype)

    def error(fn):
        if output == Scalar():
            fn = unsqueezed(fn)
        signature = Signature(SO(3), {"x": Vector()}, output)
        return equivariance_error(fn, {"x": vectors}, signature=signature, generator=rng).max

    assert error(function) < EQUIVARIANCE[dtype]
    # control: a norm that weighs the axes differently is not equivariant
    assert error(lambda x: function(x * torch.tensor([1, 2, 3], dtype=dtype))) > 1e-2


def unsqueezed(function):
    return lambda x: function(x)[..., None]


@pytest.mark.unchecked
@functions
def test_integers_are_refused(function):
    with pytest.raises(TypeError, match=r"x has dtype torch.int64; expected floating point"):
        function(torch.ones(2, 3, dtype=torch.int64))
