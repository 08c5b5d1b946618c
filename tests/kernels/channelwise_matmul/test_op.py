"""Products of matrices for every channel: values, and derivatives of every order."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from eqlib.kernels import native
from eqlib.kernels.channelwise_matmul import NAMES, channelwise_matmul, compiled, pick

TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5}
SIZES = {
    "one of all": (1, 1, 1, 1),
    "less than a block": (3, 5, 2, 3),
    "whole blocks": (20, 12, 8, 32),
    "odd": (21, 13, 7, 37),
    "deep": (70, 20, 20, 18),
    "nothing to add": (0, 4, 3, 5),
    "no rows": (4, 0, 3, 5),
    "no channels": (4, 2, 3, 0),
}
every = pytest.mark.parametrize("implementation", NAMES)
sizes = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


@pytest.fixture(autouse=True)
def _needs_a_compiler():
    if reason := compiled.whynot(torch.float64):
        pytest.skip(reason)


def make(size, rng, dtype=torch.float64):
    depth, rows, columns, channels = size
    shapes = (depth, rows, channels), (depth, columns, channels)
    return [torch.randn(shape, dtype=torch.float64, generator=rng).to(dtype) for shape in shapes]


def by_channel(a, b):
    """One product of matrices after the other, in float64."""
    products = [a[..., c].double().T @ b[..., c].double() for c in range(a.shape[2])]
    empty = torch.zeros(a.shape[1], b.shape[1], 0, dtype=torch.float64)
    return torch.stack(products, -1) if products else empty


def close(found, expected, tolerance):
    scale = float(expected.detach().abs().max()) if expected.numel() else 1.0
    error = (found.double() - expected).abs()
    return found.shape == expected.shape and bool((error <= tolerance * max(scale, 1.0)).all())


@every
@sizes
@dtypes
def test_matches_one_channel_after_the_other(size, dtype, implementation, rng):
    a, b = make(size, rng, dtype)
    found = channelwise_matmul(a, b, implementation)
    assert found.dtype == dtype
    assert found.is_contiguous()
    assert close(found, by_channel(a, b), TOLERANCE[dtype])


@every
def test_axes_in_any_order_in_memory(implementation, rng):
    a, b = make(SIZES["odd"], rng)
    expected = by_channel(a, b)
    turned = [part.transpose(0, 1).contiguous().transpose(0, 1) for part in (a, b)]
    last = [part.permute(2, 0, 1).contiguous().permute(1, 2, 0) for part in (a, b)]
    for operands in (turned, last, (a[:1].expand_as(a), b)):
        found = channelwise_matmul(*operands, implementation)
        assert close(found, by_channel(*operands), 1e-13)
    assert not close(channelwise_matmul(a.flip(0), b, implementation), expected, 1e-2)


@pytest.mark.parametrize("threads", [2, 5, 40], ids=lambda count: f"{count} threads")
def test_threads_change_nothing(threads, rng, monkeypatch):
    a, b = make(SIZES["deep"], rng)
    expected = channelwise_matmul(a, b, "compiled")
    monkeypatch.setattr(native, "_WORK_FOR_THREADS", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.equal(channelwise_matmul(a, b, "compiled"), expected)


@every
def test_derivatives(implementation, rng):
    tensors = [t.requires_grad_() for t in make((3, 4, 2, 2), rng)]

    def run(a, b):
        return channelwise_matmul(a, b, implementation)

    assert gradcheck(run, tensors)
    assert gradgradcheck(run, tensors, fast_mode=True)


@pytest.mark.parametrize("batched", [(0, None), (None, 1), (2, 0), (3, 3)], ids=str)
def test_batches(batched, rng):
    shapes = {None: (3, 4, 5), 0: (6, 3, 4, 5), 1: (3, 6, 4, 5), 2: (3, 4, 6, 5), 3: (3, 4, 5, 6)}
    a, b = (torch.randn(shapes[dim], dtype=torch.float64, generator=rng) for dim in batched)
    found = torch.vmap(lambda a, b: channelwise_matmul(a, b, "auto"), batched)(a, b)
    for index in range(6):
        parts = (
            t if d is None else t.select(d, index) for t, d in zip((a, b), batched, strict=True)
        )
        assert close(found[index], by_channel(*parts), 1e-13)


@pytest.mark.unchecked
@every
def test_the_operation_is_registered_right(implementation, rng):
    tensors = [t.requires_grad_() for t in make((3, 4, 2, 5), rng)]
    opcheck(channelwise_matmul.registered, (*tensors, implementation))


@pytest.mark.unchecked
def test_compiled_graphs_serve_any_size(rng):
    def run(a, b):
        return channelwise_matmul(a.transpose(0, 1), b, "auto").sin()

    traced = torch.compile(run, fullgraph=True, backend="aot_eager", dynamic=True)
    for rows in (4, 9):
        a, b = (t.requires_grad_() for t in make((3, rows, 2, 5), rng))
        a = a.detach().transpose(0, 1).contiguous().requires_grad_()
        results = [(y, *torch.autograd.grad(y.sum(), (a, b))) for y in (run(a, b), traced(a, b))]
        assert all(close(found, known, 1e-13) for known, found in zip(*results, strict=True))


@pytest.mark.unchecked
def test_what_does_not_fit_is_refused(rng):
    a, b = make((3, 4, 2, 5), rng)
    with pytest.raises(ValueError, match=r"a, b: expected \(depth, rows, channels\)"):
        channelwise_matmul(a, b[:2], "auto")
    with pytest.raises(TypeError, match=r"b: expected torch.float64, as a"):
        channelwise_matmul(a, b.float(), "auto")
    with pytest.raises(ValueError, match="implementation is 'fast'"):
        channelwise_matmul(a, b, "fast")
    with pytest.raises(ValueError, match="'compiled' cannot run: it is for float32 and float64"):
        channelwise_matmul(a.half(), b.half(), "compiled")
    assert pick(torch.device("cpu"), torch.float64)[0] == "compiled"
    assert pick(torch.device("cuda"), torch.float64)[0] == "naive"


@pytest.mark.gpu
def test_gpu_matches_the_cpu(rng):
    a, b = make(SIZES["odd"], rng)
    assert close(channelwise_matmul(a.cuda(), b.cuda(), "auto").cpu(), by_channel(a, b), 1e-13)
