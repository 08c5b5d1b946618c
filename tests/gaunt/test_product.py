"""The products on the sphere as users call them."""

import math

import pytest
import torch

from eqlib.gaunt import gaunt_product, poisson_product
from eqlib.harmonics import wigner_d
from eqlib.symmetry import O
from tests.gaunt.oracle import VALUE, error, product
from tests.tolerances import EQUIVARIANCE

OPERATIONS = {gaunt_product: False, poisson_product: True}
operations = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda f: f.__name__)
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def features(lmax, rng, batch=(3,), channels=2, dtype=torch.float64):
    return torch.randn(*batch, (lmax + 1) ** 2, channels, dtype=dtype, generator=rng)


@pytest.mark.parametrize(
    ("one", "two"),
    [((), ()), ((4,), (4,)), ((2, 3), (2, 3)), ((3,), (2, 3)), ((2, 1), (3,)), ((), (5,))],
    ids=str,
)
@operations
def test_batch_axes_broadcast(operation, one, two, rng):
    x, y = features(2, rng, one), features(1, rng, two)
    z = operation(x, y, 3)
    assert z.shape == (*torch.broadcast_shapes(one, two), 16, 2)
    assert error(z, product(x, y, 3, OPERATIONS[operation])) <= 1e-12


@pytest.mark.parametrize(("one", "two"), [(1, 5), (5, 1), (1, 1)], ids=str)
@operations
def test_one_channel_broadcasts(operation, one, two, rng):
    x, y = features(2, rng, channels=one).requires_grad_(), features(1, rng, channels=two)
    z = operation(x, y, 2)
    assert error(z, product(x, y, 2, OPERATIONS[operation])) <= 1e-12
    assert torch.autograd.grad(z.sum(), x)[0].shape == x.shape


@pytest.mark.parametrize(
    ("batch", "channels"), [((0,), 2), ((3, 0), 2), ((3,), 0), ((0,), 0)], ids=str
)
@operations
def test_empty(operation, batch, channels, rng):
    x, y = (features(lmax, rng, batch, channels).requires_grad_() for lmax in (2, 1))
    weights = [torch.ones(lmax + 1, channels, dtype=x.dtype).requires_grad_() for lmax in (2, 1, 3)]
    z = operation(x, y, 3, weights)
    assert z.shape == (*batch, 16, channels)
    leaves = (x, y, *weights)
    for leaf, gradient in zip(leaves, torch.autograd.grad(z.sum(), leaves), strict=True):
        assert gradient.shape == leaf.shape
        assert not gradient.any()


@operations
def test_layouts_in_memory(operation, rng):
    x, y = features(2, rng, (4, 3), channels=6), features(2, rng, (4, 3), channels=6)
    expected = operation(x, y, 2)
    transposed = x.transpose(0, 1).contiguous().transpose(0, 1)
    channels_first = y.mT.contiguous().mT
    assert torch.equal(operation(transposed, channels_first, 2), expected)
    assert torch.equal(operation(x[..., ::2], y[..., ::2], 2), expected[..., ::2])
    row = features(2, rng, (), channels=1)
    many = row.expand(4, 9, 3)
    torch.testing.assert_close(operation(many, many, 2), operation(row, row, 2).expand(4, 9, 3))


@operations
def test_degrees_beyond_the_product_are_zero(operation, rng):
    x, y = features(1, rng), features(2, rng)
    for name in ("naive", "fourier", "blocked"):
        z = operation(x, y, 6, implementation=name)
        assert z[:, :16].abs().max() > 0.1
        assert z[:, 16:].abs().max() <= 1e-14


def test_product_of_functions_at_points(rng):
    from eqlib.harmonics import spherical_harmonics

    points = torch.randn(20, 3, dtype=torch.float64, generator=rng)
    values = spherical_harmonics(points, 5)
    x, y = features(2, rng, (), 1), features(3, rng, (), 1)
    z = gaunt_product(x, y, 5)
    expected = (values[:, :9] @ x) * (values[:, :16] @ y)
    torch.testing.assert_close(values @ z, expected, rtol=1e-12, atol=1e-12)


def test_vectors(rng):
    x, y = (torch.zeros(5, 4, 1, dtype=torch.float64) for _ in range(2))
    u, v = (torch.randn(5, 3, dtype=torch.float64, generator=rng) for _ in range(2))
    x[:, 1:, 0], y[:, 1:, 0] = u, v
    cross = math.sqrt(3 / (4 * math.pi)) * torch.linalg.cross(u, v)
    torch.testing.assert_close(poisson_product(x, y, 1)[:, 1:, 0], cross)
    dot = (u * v).sum(-1) / math.sqrt(4 * math.pi)
    torch.testing.assert_close(gaunt_product(x, y, 0)[:, 0, 0], dot)


def test_symmetries(rng):
    x, y = features(3, rng), features(3, rng)
    torch.testing.assert_close(gaunt_product(x, y, 3), gaunt_product(y, x, 3))
    torch.testing.assert_close(poisson_product(x, y, 3), -poisson_product(y, x, 3))
    assert poisson_product(x, x, 3).abs().max() <= 1e-13


def representation(lmax, group, kind, rng):
    """A matrix on the coefficients of functions; reflections are the negative of a rotation."""
    element = group.sample(rng, 1, kinds=[kind])
    return torch.block_diag(*(d[0] for d in wigner_d(element.matrix, lmax)))


@pytest.mark.parametrize("kind", ["rotation", "reflection"])
@pytest.mark.parametrize("name", ["naive", "fourier", "blocked", "auto"])
@dtypes
@operations
def test_commutes_with_rotations_and_reflections(operation, dtype, name, kind, rng):
    matrix = representation(4, O(3), kind, rng)
    x, y = features(4, rng, dtype=dtype), features(3, rng, dtype=dtype)
    # Brackets of functions are pseudo-functions.
    sign = -1 if kind == "reflection" and operation is poisson_product else 1
    turned = [(matrix @ x.double()).to(dtype), (matrix[:16, :16] @ y.double()).to(dtype)]
    moved = operation(*turned, 4, implementation=name)
    expected = sign * matrix @ operation(x, y, 4, implementation=name).double()
    assert error(moved, expected) <= EQUIVARIANCE[dtype]
    # control: a product of coefficients, one by one, does not commute
    moved = (matrix[:16, :16] @ x[:, :16].double()) * (matrix[:16, :16] @ y.double())
    assert error(moved, matrix[:16, :16] @ (x[:, :16] * y).double()) > 0.1


def test_every_path_is_that_of_clebsch_and_gordan(rng):
    from e3nn.o3 import wigner_3j

    lmax, size = 4, 25
    unit = torch.eye(size, dtype=torch.float64)
    x = unit[:, None, :, None].expand(size, size, size, 1)
    y = unit[None, :, :, None].expand(size, size, size, 1)
    tables = [operation(x, y, lmax)[..., 0] for operation in (gaunt_product, poisson_product)]
    paths = 0
    for one in range(lmax + 1):
        for two in range(lmax + 1):
            for three in range(abs(one - two), min(one + two, lmax) + 1):
                parts = [slice(n * n, (n + 1) ** 2) for n in (one, two, three)]
                even, odd = (table[tuple(parts)] for table in tables)
                path, none = (odd, even) if (one + two + three) % 2 else (even, odd)
                coupling = wigner_3j(one, two, three, dtype=torch.float64)
                constant = (path * coupling).sum()  # those couplings have norm 1
                assert constant > 0.05
                assert (path - constant * coupling).abs().max() <= 1e-12
                assert none.abs().max() <= 1e-14
                paths += 1
    assert paths == 65


@pytest.mark.unchecked
@pytest.mark.parametrize("mode", ["strict", "non-strict"])
@operations
def test_exports(operation, mode, rng):
    class Product(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(3, 2, dtype=torch.float64))

        def forward(self, x, y):
            return operation(x, y, 2, (self.weight, None, None))

    x, y = features(2, rng), features(2, rng)
    dynamic = {0: torch.export.Dim("batch")}
    program = torch.export.export(
        Product(), (x, y), dynamic_shapes=(dynamic, dynamic), strict=mode == "strict"
    )
    x, y = features(2, rng, (7,)), features(2, rng, (7,))
    torch.testing.assert_close(program.module()(x, y), operation(x, y, 2))
    # a table made by the tracer must not be what later calls get
    assert type(operation(x, y, 2)) is torch.Tensor


@pytest.mark.unchecked
@pytest.mark.parametrize("dynamic", [True, None], ids=["dynamic", "automatic"])
@operations
def test_compiles(operation, dynamic, rng):
    torch.compiler.reset()

    def loss(x, y, w):
        return operation(x, y, 3, (w, None, None)).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for batch in (3, 5, 8):
        leaves = [features(2, rng, (batch,)), features(1, rng, (batch,))]
        leaves.append(torch.randn(3, 2, dtype=torch.float64, generator=rng))
        leaves = [t.requires_grad_() for t in leaves]
        results = [f(*leaves) for f in (compiled, loss)]
        torch.testing.assert_close(*results)
        gradients = [torch.autograd.grad(result, leaves) for result in results]
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("one", "two", "result"),
    [
        (torch.bfloat16, torch.bfloat16, torch.bfloat16),
        (torch.float32, torch.float32, torch.float32),
        (torch.bfloat16, torch.float32, torch.float32),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["auto", "naive", "blocked", "fourier"])
def test_autocast_lowers_no_precision(name, one, two, result, weights, rng):
    x, y = features(3, rng, dtype=one), features(3, rng, dtype=two)
    w = torch.rand(4, 2, generator=rng).to(weights)
    with torch.autocast("cpu", torch.bfloat16):
        z = gaunt_product(x.requires_grad_(), y, 3, (w, None, w), name)
    assert z.dtype == result
    expected = product(x, y, 3, False, (w, None, w))
    assert error(z, expected) <= VALUE[result]
    (gradient,) = torch.autograd.grad(z.sum(), x)
    assert gradient.dtype == one


def test_inference_mode_leaves_no_trace(rng):
    x, y = features(5, rng), features(5, rng)
    with torch.inference_mode():
        gaunt_product(x, y, 5)
    gaunt_product(x.requires_grad_(), y, 5).sum().backward()
    assert x.grad.isfinite().all()


X, Y, W = torch.zeros(2, 9, 3), torch.zeros(2, 4, 3), torch.ones(3, 3)


@operations
def test_shapes_without_data(operation):
    x = torch.randn(3, 9, 2, device="meta", requires_grad=True)
    weight = torch.ones(3, 2, device="meta")
    z = operation(x, x, 1, (weight, None, None))
    assert (z.shape, z.device.type) == ((3, 4, 2), "meta")
    assert torch.autograd.grad(z.sum(), x)[0].shape == x.shape


@pytest.mark.unchecked
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own
@operations
def test_works_under_functional_transforms(operation, rng):
    x, y = features(2, rng, (3, 4)), features(1, rng, (3, 4))
    rows = torch.func.vmap(lambda x, y: operation(x, y, 2))(x, y)
    torch.testing.assert_close(rows, operation(x, y, 2))
    tangent = features(2, rng, (3, 4))
    _, moved = torch.func.jvp(lambda x: operation(x, y, 2), (x,), (tangent,))
    torch.testing.assert_close(moved, operation(tangent, y, 2))


CASES = [
    "not square",
    "layout",
    "one axis",
    "degree",
    "negative degree",
    "high degree",
    "float degree",
    "bool degree",
    "int",
    "complex",
    "dtype",
    "device",
    "channels",
    "batch",
    "two weights",
    "tensor of weights",
    "shape of weights",
    "dtype of weights",
    "int weights",
    "device of weights",
    "name nearby",
    "name",
    "naive degree",
    "triton on the CPU",
    "compiled half",
]


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((X[:, :8], Y, 2), ValueError, r"x has shape \(2, 8, 3\); .* 8 is not a square number"),
        ((X, Y.mT, 2), ValueError, r"y has shape \(2, 3, 4\); .* axis before the channels"),
        ((X, Y[0, 0], 2), ValueError, r"y has shape \(3,\); expected \(..., coeffs, channels\)"),
        ((torch.zeros(2, 32**2, 3), Y, 2), ValueError, "at most 961, degree 30"),
        ((X, Y, -1), ValueError, "lmax_out is -1; expected 0 <= lmax_out <= 30"),
        ((X, Y, 31), ValueError, "lmax_out is 31"),
        ((X, Y, 2.0), TypeError, "lmax_out is 2.0; expected a whole number"),
        ((X, Y, True), TypeError, "lmax_out is True"),
        ((X.int(), Y, 2), TypeError, r"x has dtype torch.int32; .* x.float\(\)"),
        ((X, Y.to(torch.complex64), 2), TypeError, "y has dtype torch.complex64"),
        ((X, Y.double(), 2), ValueError, "x has dtype torch.float32 and y torch.float64"),
        ((X, Y.to("meta"), 2), ValueError, "x is on cpu and y on meta"),
        ((X, Y[..., :2], 2), ValueError, "x has 3 channels and y 2; expected the same number, or"),
        ((X, Y[[0, 0, 0]], 2), ValueError, r"x has batch axes \(2,\) and y \(3,\)"),
        ((X, Y, 2, (W, None)), ValueError, "weights: expected three, .* got 2 of them"),
        ((X, Y, 2, W), ValueError, "weights: expected three, .* got a tensor"),
        ((X, Y, 2, (None, W, None)), ValueError, r"weights\[1\] has shape \(3, 3\); .* \(2, 3\)"),
        ((X, Y, 2, (W.double(), None, None)), ValueError, r"weights\[0\] has dtype torch.float64"),
        ((X, Y, 2, (W.int(), None, None)), TypeError, r"weights\[0\] has dtype torch.int32"),
        (
            (X, Y, 2, (None, None, W.to("meta"))),
            ValueError,
            r"weights\[2\] is on meta and x on cpu",
        ),
        ((X, Y, 2, None, "block"), ValueError, "implementation is 'block'; .* mean 'blocked'"),
        ((X, Y, 2, None, "cuda"), ValueError, "expected one of auto, naive, .*triton"),
        ((X, Y, 13, None, "naive"), ValueError, "'naive' cannot run here: .* end at degree 12"),
        ((X, Y, 2, None, "triton"), ValueError, "'triton' cannot run here: "),
        ((X.half(), Y.half(), 2, None, "compiled"), ValueError, "'compiled' cannot run here: "),
    ],
    ids=CASES,
)
@operations
def test_bad_input(operation, arguments, kind, message):
    with pytest.raises(kind, match=message):
        operation(*arguments)
