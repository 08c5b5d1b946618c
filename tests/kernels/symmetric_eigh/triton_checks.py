"""Checks of the Triton kernels, which test_triton.py runs in a process of their own.

With TRITON_INTERPRET=1 the kernels run on the CPU, in numpy; without, on a GPU. The variable counts
when the kernels are first imported, so it cannot be set in a process that runs other tests too.
"""

import os

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from eqlib.geometry import symmetric_eigh
from eqlib.kernels.symmetric_eigh import symmetric_eigh as operation
from eqlib.kernels.symmetric_eigh import symmetric_eigh_gradient, triton_launch
from tests.kernels.symmetric_eigh.families import FAMILIES, errors, matrices
from tests.kernels.symmetric_eigh.test_decompose import LIMITS, within
from tests.kernels.symmetric_eigh.test_derivatives import separated, smooth

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
GUARD = 4099
"""NaN on both sides of every tensor: more than any tile, and no multiple of one."""

dimensions = pytest.mark.parametrize("dimension", [2, 3])
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
counts = pytest.mark.parametrize("count", [1, 31, 129])


def guarded(given, fill=True):
    """Return a tensor between two bands of NaN, and the bands."""
    size = given.numel()
    whole = torch.full((size + 2 * GUARD,), torch.nan, dtype=given.dtype, device=DEVICE)
    inside = whole[GUARD : GUARD + size].view(given.shape)
    if fill:
        inside.copy_(given)
    return inside, (whole[:GUARD], whole[GUARD + size :])


def untouched(*bands):
    return all(bool(band.isnan().all()) for pair in bands for band in pair)


def decompose(given):
    """Decompose between bands."""
    values, below = guarded(given[..., 0], fill=False)
    vectors, above = guarded(given, fill=False)
    triton_launch.decompose_into(values, vectors, guarded(given)[0])
    assert untouched(below, above)
    return values.cpu(), vectors.cpu()


def differentiate(by_values, by_vectors, values, vectors, guard):
    """Differentiate between bands."""
    gradient, bands = guarded(vectors, fill=False)
    operands = [guarded(t)[0] for t in (by_values, by_vectors, values, vectors)]
    triton_launch.differentiate_into(gradient, *operands, guard)
    assert untouched(bands)
    return gradient.cpu()


@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30], ids=str)
@dimensions
@dtypes
def test_errors(dtype, dimension, scale, rng):
    """All kinds of matrices in one batch, as every launch is slow in the interpreter."""
    A = torch.cat([matrices(family, 20, dimension, rng) for family in FAMILIES])
    A = (scale * A).to(dtype)
    values, vectors = decompose(A)
    assert (values.diff(dim=-1) >= 0).all()
    # numpy does not fuse multiplication and addition
    assert within(errors(A, values, vectors), LIMITS[dtype], 1.3)
    torch.testing.assert_close(torch.linalg.det(vectors), torch.ones_like(values[:, 0]))


@counts
@dimensions
@dtypes
def test_gradients(dtype, dimension, count, rng):
    A = separated(count, dimension, rng).to(dtype)
    values, vectors = decompose(A)
    g, G = (torch.randn(t.shape, dtype=dtype, generator=rng) for t in (values, vectors))
    found = differentiate(g, G, values, vectors, 1e-3)
    operands = [t.double() for t in (g, G, values, vectors)]
    expected = symmetric_eigh_gradient(*operands, 1e-3, "naive")
    tolerance = 1e-13 if dtype == torch.float64 else 3e-5
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@dimensions
@dtypes
def test_gradients_are_finite(dtype, dimension, rng):
    A = torch.cat([matrices(family, 5, dimension, rng) for family in FAMILIES]).to(dtype)
    values, vectors = decompose(A)
    g, G = (torch.randn(t.shape, dtype=dtype, generator=rng) for t in (values, vectors))
    guard = 1e-6 if dtype == torch.float64 else 1e-3
    gradient = differentiate(g, G, values, vectors, guard)
    assert gradient.isfinite().all()
    assert torch.equal(gradient, gradient.mT)


# numpy, which interprets the kernels, warns of infinity minus infinity
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("bad", [torch.nan, torch.inf], ids=str)
@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0)], ids=["diagonal", "above", "below"])
@dimensions
def test_a_bad_matrix_leaves_the_others(dimension, place, bad, rng):
    A = matrices("random", 9, dimension, rng)
    expected = decompose(A)
    A[4, *place] = bad
    found = decompose(A)
    for whole, part in zip(expected, found, strict=True):
        assert part[4].isnan().all()
        others = torch.arange(9) != 4
        assert torch.equal(part[others], whole[others])
    gradient = differentiate(*(torch.ones_like(t) for t in found), *found, 1e-6)
    assert (gradient[4] == 0).all()
    assert gradient.isfinite().all()


def test_every_program_writes_its_own_part(rng, monkeypatch):
    if not INTERPRETED:
        pytest.skip("programs run in no order on a GPU")
    from triton.runtime import interpreter

    A = matrices("random", 300, 3, rng)
    first = decompose(A)
    builder, order = interpreter.interpreter_builder, []

    def backwards(x, y, z, forwards=builder.set_grid_idx):
        order.append(x)
        forwards(builder.grid_dim[0] - 1 - x, y, z)

    monkeypatch.setattr(builder, "set_grid_idx", backwards)
    second = decompose(A)
    assert len(set(order)) > 2
    assert all(map(torch.equal, first, second))


@dimensions
def test_gradcheck_and_gradgradcheck(dimension, rng):
    A = separated(2, dimension, rng).to(DEVICE).requires_grad_()
    assert gradcheck(smooth("triton"), A, fast_mode=True)
    assert gradgradcheck(smooth("triton"), A, fast_mode=True)


def test_strides_batches_and_no_matrices(rng):
    A = matrices("random", 12, 3, rng)
    expected = torch.linalg.eigvalsh(A)
    strided = A.view(2, 6, 3, 3).to(DEVICE).transpose(0, 1)
    values, vectors = symmetric_eigh(strided, implementation="triton")
    assert vectors.is_contiguous()
    torch.testing.assert_close(values.transpose(0, 1).reshape(12, 3).cpu(), expected)
    empty = symmetric_eigh(A[:0].to(DEVICE), implementation="triton")
    assert [tuple(part.shape) for part in empty] == [(0, 3), (0, 3, 3)]


@pytest.mark.unchecked
def test_opcheck(rng):
    A = matrices("random", 4, 3, rng).to(DEVICE)
    torch.library.opcheck(operation, (A.clone().requires_grad_(), 1e-6, "triton"))
    values, vectors = operation(A, 1e-6, "triton")
    operands = [t.clone().requires_grad_() for t in (values, vectors, values, vectors)]
    torch.library.opcheck(symmetric_eigh_gradient, (*operands, 1e-6, "triton"))


@pytest.mark.unchecked
def test_compile(rng):
    A = matrices("random", 8, 3, rng).to(DEVICE)
    function = smooth("triton")
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
    for count in (8, 5):
        torch.testing.assert_close(compiled(A[:count]), function(A[:count]), rtol=0, atol=1e-14)


def test_offsets_beyond_32_bits(rng):
    if INTERPRETED:
        pytest.skip("needs 20 GB")
    count = 2**31 // 9 + 40
    A = torch.zeros(count, 3, 3, device=DEVICE)
    tail = matrices("random", 33, 3, rng).float()
    A[-33:] = tail
    values, _ = symmetric_eigh(A, implementation="triton")
    expected = torch.linalg.eigvalsh(tail.double())
    torch.testing.assert_close(values[-33:].cpu().double(), expected, rtol=1e-5, atol=1e-5)
