"""Checks of the Triton kernels, which test_triton.py runs in a process of their own.

With TRITON_INTERPRET=1 the kernels run on the CPU, in numpy; without, on a GPU. The variable counts
when the kernels are first imported, so it cannot be set in a process that runs other tests too.
"""

import os

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from eqlib.gaunt import gaunt_product, poisson_product
from eqlib.gaunt.tables import plan
from eqlib.harmonics import half_grid, spherical_harmonics
from eqlib.kernels import gaunt_product as kernel
from eqlib.kernels.gaunt_product import triton_launch, triton_tables
from eqlib.kernels.problems import ODD_SHAPES
from tests.gaunt.oracle import VALUE, error, product

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
SPARSE = [(0, 0, 0), (2, 2, 2), (1, 2, 3), (3, 1, 3)]
GRID = [(4, 4, 4), (5, 2, 4), (1, 2, 5)]
LARGE = [(7, 4, 7), (8, 8, 8), (9, 0, 9)]
"""In float32, whose tiles reach further than those of float64."""
GUARD = 4099
"""NaN on both sides of every tensor: more than any tile, and no multiple of one."""

odds = pytest.mark.parametrize("odd", [False, True], ids=["gaunt", "poisson"])
both = pytest.mark.parametrize("lmaxes", [(3, 1, 3), (4, 2, 3)], ids=["sparse", "grid"])
shapes = pytest.mark.parametrize("shape", list(ODD_SHAPES.values())[1:], ids=list(ODD_SHAPES)[1:])


def guarded(shape, dtype, rng=None):
    """Return a tensor between two bands of NaN, and the bands: random, or NaN itself."""
    size = torch.Size(shape).numel()
    whole = torch.full((size + 2 * GUARD,), torch.nan, dtype=dtype, device=DEVICE)
    inside = whole[GUARD : GUARD + size].view(shape)
    if rng is not None:
        inside.copy_(torch.randn(shape, generator=rng, dtype=torch.float64))
    return inside, (whole[:GUARD], whole[GUARD + size :])


def untouched(bands):
    return all(bool(band.isnan().all()) for band in bands)


def operands(lmaxes, shape, dtype, rng, weights=True):
    """Return operands, a cotangent and weights, each between bands."""
    compute = torch.promote_types(dtype, torch.float32)
    tensors = [guarded((shape[0], (lmax + 1) ** 2, shape[1]), dtype, rng)[0] for lmax in lmaxes]
    factors = [guarded((lmax + 1, shape[1]), compute, rng)[0] for lmax in lmaxes]
    return tensors, tuple(factors) if weights else (None, None, None)


def tables(lmaxes, dtype, odd, name="triton"):
    return plan(name, DEVICE, dtype, lmaxes, odd)[1]


def launch(lmaxes, shape, dtype, odd, rng, weights=True, name="triton"):
    """Run a product between bands: the result and what it should be."""
    (x, y, _), factors = operands(lmaxes, shape, dtype, rng, weights)
    z, bands = guarded((shape[0], (lmaxes[2] + 1) ** 2, shape[1]), dtype)
    triton_launch.product_into(z, x, y, factors, tables(lmaxes, dtype, odd, name), odd)
    assert untouched(bands)
    cpu = [t.cpu() if t is not None else None for t in (x, y, *factors)]
    return z.cpu(), product(*cpu[:2], lmaxes[2], odd, cpu[2:])


def launch_gradients(lmaxes, shape, dtype, odd, rng, weights=True):
    """Run both gradients between bands: the results and what they should be."""
    (x, y, gz), factors = operands(lmaxes, shape, dtype, rng, weights)
    results = [guarded(t.shape, dtype) for t in (x, y)]
    (gx, bands_x), (gy, bands_y) = results
    prepared = tables(lmaxes, dtype, odd)
    triton_launch.gradients_into(gx, gy, gz, x, y, factors, prepared, odd)
    assert untouched(bands_x)
    assert untouched(bands_y)
    x, y = (t.cpu().double().requires_grad_() for t in (x, y))
    z = product(x, y, lmaxes[2], odd, [w.cpu() if w is not None else None for w in factors])
    return (gx.cpu(), gy.cpu()), torch.autograd.grad(z, (x, y), gz.cpu().double())


class TestProduct:
    @pytest.mark.parametrize("dtype", list(VALUE), ids=str)
    @odds
    @pytest.mark.parametrize("lmaxes", SPARSE, ids=str)
    def test_sparse(self, lmaxes, odd, dtype, rng):
        assert error(*launch(lmaxes, (5, 3), dtype, odd, rng)) < VALUE[dtype]

    @pytest.mark.parametrize("dtype", [*VALUE][:3], ids=str)
    @odds
    @pytest.mark.parametrize("lmaxes", GRID, ids=str)
    def test_grid(self, lmaxes, odd, dtype, rng):
        assert error(*launch(lmaxes, (5, 3), dtype, odd, rng)) < VALUE[dtype]

    @odds
    @pytest.mark.parametrize("lmaxes", LARGE, ids=str)
    def test_large_degrees(self, lmaxes, odd, rng):
        dtype = torch.float32
        assert error(*launch(lmaxes, (2, 2), dtype, odd, rng, weights=False)) < VALUE[dtype]

    @shapes
    @both
    def test_shapes(self, lmaxes, shape, rng):
        dtype = torch.float64
        assert error(*launch(lmaxes, shape, dtype, False, rng)) < VALUE[dtype]

    @odds
    @both
    def test_every_program_writes_its_own_part(self, lmaxes, odd, rng, monkeypatch):
        if not INTERPRETED:
            pytest.skip("programs run in no order on a GPU")
        from triton.runtime import interpreter

        seed = rng.get_state()
        first, _ = launch(lmaxes, (9, 130), torch.float32, odd, rng)
        builder, order = interpreter.interpreter_builder, []

        def backwards(x, y, z, forwards=builder.set_grid_idx):
            order.append((x, y))
            forwards(builder.grid_dim[0] - 1 - x, builder.grid_dim[1] - 1 - y, z)

        monkeypatch.setattr(builder, "set_grid_idx", backwards)
        second, _ = launch(lmaxes, (9, 130), torch.float32, odd, rng.set_state(seed))
        assert len(set(order)) > 2
        assert torch.equal(first, second)

    @both
    def test_tf32_rounds_and_three_products_do_not(self, lmaxes, rng):
        single = error(*launch(lmaxes, (7, 5), torch.float32, False, rng, name="triton_tf32"))
        if max(lmaxes) <= triton_tables.SPARSE_UP_TO:
            assert single < VALUE[torch.float32]
        else:
            assert 2e-5 < single < 2e-3

    def test_bfloat16_products(self, rng):
        if INTERPRETED:
            pytest.skip("the interpreter does bfloat16 arithmetic wrongly")
        result = launch((4, 4, 4), (33, 32), torch.float32, False, rng, name="triton_bf16")
        assert 1e-4 < error(*result) < 2e-2

    def test_offsets_beyond_32_bits(self, rng):
        if INTERPRETED:
            pytest.skip("needs 13 GB")
        for lmaxes in ((1, 1, 1), (4, 0, 4)):
            entries = 2**31 // (128 * (lmaxes[0] + 1) ** 2) + 40
            x, y = (
                torch.zeros(entries, (n + 1) ** 2, 128, dtype=torch.bfloat16, device=DEVICE)
                for n in lmaxes[:2]
            )
            x[-33:] = torch.randn(x[-33:].shape, generator=rng)
            y[-33:] = torch.randn(y[-33:].shape, generator=rng)
            z = gaunt_product(x, y, lmaxes[2], implementation="triton")[-33:].cpu()
            expected = product(x[-33:].cpu(), y[-33:].cpu(), lmaxes[2], False)
            assert error(z, expected) < VALUE[torch.bfloat16]


class TestGradients:
    @odds
    @pytest.mark.parametrize("lmaxes", [(1, 2, 3), (2, 2, 2), (5, 2, 4), (6, 1, 6)], ids=str)
    def test_values(self, lmaxes, odd, rng):
        dtype = torch.float64
        results, expected = launch_gradients(lmaxes, (5, 3), dtype, odd, rng)
        assert all(error(g, e) < VALUE[dtype] for g, e in zip(results, expected, strict=True))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    @odds
    @both
    def test_dtypes(self, lmaxes, odd, dtype, rng):
        results, expected = launch_gradients(lmaxes, (5, 3), dtype, odd, rng)
        assert all(error(g, e) < VALUE[dtype] for g, e in zip(results, expected, strict=True))

    @pytest.mark.parametrize("shape", [(1, 1), (33, 3), (1, 130)], ids=str)
    @both
    def test_shapes(self, lmaxes, shape, rng):
        dtype = torch.float64
        results, expected = launch_gradients(lmaxes, shape, dtype, True, rng, weights=False)
        assert all(error(g, e) < VALUE[dtype] for g, e in zip(results, expected, strict=True))


class TestOperation:
    @pytest.mark.parametrize(
        ("lmaxes", "odd", "weighted"),
        [((1, 1, 1), False, True), ((1, 1, 1), True, True), ((4, 0, 4), False, False)],
        ids=["sparse gaunt", "sparse poisson", "grid"],
    )
    def test_gradcheck_and_gradgradcheck(self, lmaxes, odd, weighted, rng):
        shapes = [(1, (lmax + 1) ** 2, 2) for lmax in lmaxes[:2]]
        shapes += [(lmax + 1, 2) for lmax in lmaxes] if weighted else []
        inputs = [
            torch.randn(shape, dtype=torch.float64, generator=rng).to(DEVICE).requires_grad_()
            for shape in shapes
        ]

        def function(x, y, *weights):
            operation = poisson_product if odd else gaunt_product
            return operation(x, y, lmaxes[2], weights or None, implementation="triton")

        assert gradcheck(function, inputs, fast_mode=True)
        assert gradgradcheck(function, inputs, fast_mode=True)

    @both
    def test_strides_batches_and_no_rows(self, lmaxes, rng):
        sizes = [(lmax + 1) ** 2 for lmax in lmaxes]
        x = torch.randn(3, 4, sizes[0], generator=rng).to(DEVICE).transpose(1, 2)[:, :, ::2]
        y = torch.randn(1, sizes[1], 1, generator=rng).to(DEVICE).expand(3, sizes[1], 2)
        z = gaunt_product(x, y, lmaxes[2], implementation="triton")
        expected = product(x.cpu(), y.cpu(), lmaxes[2], False)
        assert error(z.cpu(), expected) < VALUE[torch.float32]
        none = gaunt_product(x[:0], y[:0], lmaxes[2], implementation="triton")
        assert none.shape == (0, sizes[2], 2)

    # numpy, which interprets the kernels, warns of infinity minus infinity
    @pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
    @pytest.mark.parametrize("bad", [torch.nan, torch.inf], ids=str)
    @both
    def test_a_row_that_is_not_finite_leaves_the_others(self, lmaxes, bad, rng):
        (x, y, _), _ = operands(lmaxes, (5, 3), torch.float32, rng, weights=False)
        expected = gaunt_product(x, y, lmaxes[2], implementation="triton")
        x[2, 1, 1] = bad
        result = gaunt_product(x, y, lmaxes[2], implementation="triton")
        touched = torch.zeros(5, 1, 3, dtype=torch.bool, device=DEVICE)
        touched[2, 0, 1] = True
        assert torch.equal(result.masked_fill(touched, 0), expected.masked_fill(touched, 0))
        assert not result[2, :, 1].isfinite().all()

    @pytest.mark.unchecked
    def test_opcheck(self, rng):
        lmaxes = (1, 2, 2)
        (x, y, gz), weights = operands(lmaxes, (2, 2), torch.float64, rng)
        inputs = [t.clone().requires_grad_() for t in (x, y, *weights)]
        prepared = tables(lmaxes, torch.float64, False)
        torch.library.opcheck(kernel.gaunt_product, (*inputs, prepared, 2, False, "triton"))
        inputs = (gz.clone().requires_grad_(), *inputs, prepared, False, "triton", True)
        torch.library.opcheck(kernel.gaunt_product_gradients, inputs)

    @pytest.mark.unchecked
    def test_compile(self, rng):
        (x, y, _), _ = operands((2, 2, 2), (4, 3), torch.float32, rng, weights=False)

        def function(x, y):
            return gaunt_product(x, y, 2, implementation="triton").square().sum()

        compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
        for rows in (4, 2):
            assert torch.equal(compiled(x[:rows], y[:rows]), function(x[:rows], y[:rows]))


def test_the_grid_form_needs_half_a_grid_of_the_degree_of_the_integrand(rng):
    lmaxes, dtype = (2, 2, 2), torch.float64
    (x, y, _), none = operands(lmaxes, (5, 3), dtype, rng, weights=False)
    expected = product(x.cpu(), y.cpu(), 2, False)
    errors = []
    for degree in (6, 3):
        points, weights, _ = half_grid(degree)
        values = spherical_harmonics(points, 2) * weights.sign()[:, None]
        values = values * weights.abs().pow(1 / 3)[:, None]
        parts = (values[:, [0, *range(4, 9)]][None], values[:, 1:4][None])
        prepared = triton_tables.pack_grid(*parts, dtype, "tf32x3")
        prepared = [table.to(DEVICE) for table in prepared]
        z = triton_launch.product(x, y, none, prepared, 2, False)
        errors.append(error(z.cpu(), expected))
    assert errors[0] < VALUE[dtype]
    # control: a grid that is too coarse gives another function
    assert errors[1] > 1e-2
