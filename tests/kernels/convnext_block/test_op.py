"""The block: values against loops in numbers, derivatives against those of the definition."""

from math import erf, inf, sqrt

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from eqlib.kernels import native
from eqlib.kernels.convnext_block import (
    NAMES,
    compiled,
    convnext_block,
    convnext_block_backward,
    implementations,
    naive,
    pick,
)

TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6}
EPSILON = 1e-5
SIZES = {
    "one row": (1, 4, 8),
    "one channel": (5, 1, 3),
    "one hidden unit": (5, 3, 1),
    "a tile": (96, 16, 64),
    "a tile and a row": (97, 16, 20),
    "odd": (50, 35, 71),
    "several panels": (101, 130, 70),
    "no rows": (0, 4, 8),
}
sizes = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
every = pytest.mark.parametrize("implementation", NAMES)
scales = pytest.mark.parametrize("scaled", [True, False], ids=["scale", "no scale"])
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


@pytest.fixture(autouse=True)
def _needs_a_compiler(request):
    name = request.node.callspec.params.get("implementation") if _has_parameters(request) else None
    if name != "naive" and (reason := compiled.whynot(torch.float64)):
        pytest.skip(reason)


def _has_parameters(request):
    return hasattr(request.node, "callspec")


def make(size, rng, dtype=torch.float64, scaled=True):
    """x and the tensors of the block."""
    rows, channels, hidden = size
    shapes = [(rows, channels)] * 2 + [(channels,)] * 2
    shapes += [(hidden, channels), (hidden,), (channels, hidden), (channels,)]
    shapes += [(channels * scaled,)]
    return [torch.randn(shape, dtype=torch.float64, generator=rng).to(dtype) for shape in shapes]


def run(tensors, implementation):
    return convnext_block(*tensors, EPSILON, implementation)


def close(found, expected, tolerance):
    scale = expected.abs().max().clamp(min=1.0) if expected.numel() else 1.0
    error = (found.double() - expected.double()).abs()
    return found.shape == expected.shape and bool((error <= tolerance * scale).all())


def by_loop(tensors):
    """The formula for one row after the other, in numbers."""
    x, z, norm_weight, norm_bias, w1, b1, w2, b2, scale = (t.double() for t in tensors)
    y = x.clone()
    for row in range(len(z)):
        shifted = z[row] - z[row].mean()
        normal = shifted / sqrt(float(shifted @ shifted) / len(shifted) + EPSILON)
        hidden = w1 @ (normal * norm_weight + norm_bias) + b1
        active = [h * (1 + erf(h / sqrt(2))) / 2 for h in hidden.tolist()]
        mixed = w2 @ torch.tensor(active, dtype=torch.float64) + b2
        y[row] += mixed * scale if len(scale) else mixed
    return y


def derivatives(tensors, implementation, seeds=None):
    """First derivatives of an inner product, or derivatives of theirs."""
    leaves = [t.double().clone().requires_grad_() for t in tensors]
    if implementation != "reference":
        leaves = [t.clone().requires_grad_() for t in tensors]
    x, *others = leaves
    grad_y = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x).requires_grad_()
    reference = implementation == "reference"
    y = naive.mix(x, others, EPSILON) if reference else run(leaves, implementation)
    settings = {"allow_unused": True, "materialize_grads": True}
    found = torch.autograd.grad(y, leaves, grad_y, create_graph=seeds is not None, **settings)
    if seeds is None:
        return found
    total = sum((part * seed).sum() for part, seed in zip(found, seeds, strict=True))
    return torch.autograd.grad(total, [grad_y, *leaves], **settings)


@every
@sizes
@scales
@dtypes
def test_values_and_gradients(size, implementation, scaled, dtype, rng):
    tensors = make(size, rng, dtype, scaled)
    assert close(run(tensors, implementation), by_loop(tensors), TOLERANCE[dtype])
    found, expected = derivatives(tensors, implementation), derivatives(tensors, "reference")
    for index, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.dtype == dtype
        assert close(a, b, 4 * TOLERANCE[dtype]), index


@every
@scales
def test_second_derivatives(implementation, scaled, rng):
    tensors = make(SIZES["odd"], rng, scaled=scaled)
    seeds = [torch.randn(t.shape, dtype=t.dtype, generator=rng) for t in tensors]
    found = derivatives(tensors, implementation, seeds)
    expected = derivatives(tensors, "reference", seeds)
    assert all(close(a, b, TOLERANCE[torch.float64]) for a, b in zip(found, expected, strict=True))


@every
def test_numerical_derivatives(implementation, rng):
    tensors = [t.requires_grad_() for t in make((3, 3, 2), rng)]
    assert gradcheck(lambda *given: run(given, implementation), tensors)
    assert gradgradcheck(lambda *given: run(given, implementation), tensors, fast_mode=True)


@every
def test_weights_that_are_not_wanted(implementation, rng):
    x, *others = make(SIZES["a tile and a row"], rng)
    settings = (EPSILON, implementation)
    full = convnext_block_backward(x, *others, *settings, True)
    by_z, *rest = convnext_block_backward(x, *others, *settings, False)
    assert torch.equal(by_z, full[0])
    assert not any(part.numel() for part in rest)
    z = others[0].clone().requires_grad_()
    (found,) = torch.autograd.grad(convnext_block(x, z, *others[1:], *settings), z, x)
    assert torch.equal(found, full[0])
    frozen = [*others[1:], *settings]
    (slope,) = torch.autograd.grad(
        convnext_block(x, z, *frozen).square().sum(), z, create_graph=True
    )
    (again,) = torch.autograd.grad(slope.square().sum(), z)
    reference = naive.mix(x, [z, *others[1:]], EPSILON).square().sum()
    (expected,) = torch.autograd.grad(reference, z, create_graph=True)
    (twice,) = torch.autograd.grad(expected.square().sum(), z)
    assert close(again, twice, 1e-12)


@pytest.mark.parametrize("threads", [2, 3, 7], ids=lambda count: f"{count} threads")
def test_threads_agree_and_repeat_themselves(threads, rng, monkeypatch):
    tensors = make((500, 6, 9), rng)
    monkeypatch.setattr(compiled, "_threads", lambda z, w1: threads)
    first, again = (derivatives(tensors, "compiled") for _ in range(2))
    expected = derivatives(tensors, "reference")
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(close(a, b, 1e-12) for a, b in zip(first, expected, strict=True))
    assert close(run(tensors, "compiled"), by_loop(tensors), 1e-12)


@every
@dtypes
def test_rows_without_variance_and_far_ones(implementation, dtype, rng):
    tensors = make((6, 8, 12), rng, dtype)
    z = tensors[1]
    z[0], z[1], z[2] = 0, 3, 1e6  # all channels alike
    z[3] = torch.arange(8) * 1e6
    z[4] = 1e-20
    tensors = [t.requires_grad_() for t in tensors]
    y = run(tensors, implementation)
    found = torch.autograd.grad(y.sum(), tensors, create_graph=True)
    assert all(part.isfinite().all() for part in (y, *found))
    (second,) = torch.autograd.grad(found[1].square().sum(), tensors[1])
    assert second.isfinite().all()
    assert close(y, by_loop([t.detach() for t in tensors]), TOLERANCE[dtype])


@every
def test_not_a_number_stays_in_its_row(implementation, rng):
    tensors = make((5, 8, 12), rng)
    tensors[1][2, 3] = inf
    y = run(tensors, implementation)
    assert y.isfinite().all(1).tolist() == [True, True, False, True, True]


@every
def test_layout_in_memory_does_not_matter(implementation, rng):
    tensors = make(SIZES["odd"], rng)
    expected = run(tensors, implementation)
    strided = [t.mT.contiguous().mT if t.ndim > 1 else t for t in tensors]
    assert torch.equal(run(strided, implementation), expected)
    leaves = [t.clone().requires_grad_() for t in tensors]
    run(leaves, implementation).sum().backward()  # an expanded gradient
    ones = torch.ones_like(expected)
    found = convnext_block_backward(ones, *tensors[1:], EPSILON, implementation, True)
    assert all(torch.equal(t.grad, part) for t, part in zip(leaves[1:], found, strict=True))


@pytest.mark.unchecked
@every
@scales
def test_operations_are_registered_right(implementation, scaled, rng):
    tensors = [t.requires_grad_() for t in make((4, 3, 5), rng, scaled=scaled)]
    opcheck(convnext_block.registered, (*tensors, EPSILON, implementation))
    for wants in (True, False):
        opcheck(convnext_block_backward.registered, (*tensors, EPSILON, implementation, wants))


@pytest.mark.unchecked
def test_compiled_graphs_serve_any_number_of_rows(rng):
    def both(*tensors):
        y = run(tensors, "auto")
        return y, convnext_block_backward(2 * y, *tensors[1:], EPSILON, "auto", True)[0]

    traced = torch.compile(both, fullgraph=True, backend="aot_eager", dynamic=True)
    for rows in (5, 17, 40):
        tensors = [t.requires_grad_() for t in make((rows, 6, 8), rng)]
        results = []
        for function in (both, traced):
            y, by_z = function(*tensors)
            loss = y.sum() + by_z.square().sum()
            results.append((y, by_z, *torch.autograd.grad(loss, tensors)))
        assert all(close(b, a, 1e-12) for a, b in zip(*results, strict=True))


@pytest.mark.unchecked
def test_export_keeps_the_operation(rng):
    class Layer(torch.nn.Module):
        def forward(self, *tensors):
            return run(tensors, "auto")

    rows = {0: torch.export.Dim("rows", min=2, max=1000)}
    tensors = make((5, 6, 8), rng)
    shapes = {"tensors": (rows, rows, *[None] * 7)}
    program = torch.export.export(Layer(), tuple(tensors), dynamic_shapes=shapes)
    other = [make((9, 6, 8), rng)[0] for _ in range(2)]
    assert torch.equal(program.module()(*other, *tensors[2:]), run([*other, *tensors[2:]], "auto"))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("index", "value", "error", "message"),
    [
        (0, torch.zeros(3, 3), ValueError, r"x: expected shape \(4, 3\), got \(3, 3\)"),
        (1, torch.zeros(4), ValueError, r"z: expected \(rows, channels\)"),
        (2, torch.zeros(2), ValueError, "norm_weight: expected shape"),
        (4, torch.zeros(5, 2), ValueError, "w1: expected shape"),
        (6, torch.zeros(3, 3), ValueError, "w2: expected shape"),
        (8, torch.zeros(2), ValueError, "scale: expected shape"),
        (7, torch.zeros(3), TypeError, "b2: expected float32 or float64, as all the others"),
    ],
    ids=["x", "z", "norm_weight", "w1", "w2", "scale", "dtype"],
)
def test_what_does_not_fit_is_refused(index, value, error, message, rng):
    tensors = make((4, 3, 5), rng)
    tensors[index] = value if error is TypeError else value.double()
    with pytest.raises(error, match=message):
        run(tensors, "auto")


@pytest.mark.unchecked
def test_names_of_implementations(rng, monkeypatch):
    tensors = make((4, 3, 5), rng)
    with pytest.raises(ValueError, match="implementation is 'fast'; expected 'auto' or one of"):
        run(tensors, "fast")
    assert pick(torch.device("cpu"), torch.float32)[0] == "compiled"
    name, reason = pick(torch.device("cuda"), torch.float32)
    assert (name, reason) == ("naive", "compiled cannot run: it runs on the CPU, not on cuda")
    monkeypatch.setattr(native, "_compiler", lambda: ())
    monkeypatch.setattr(compiled, "whynot", lambda dtype: "no C compiler was found")
    assert pick(torch.device("cpu"), torch.float32)[0] == "naive"
    with pytest.raises(ValueError, match="'compiled' cannot run: no C compiler was found"):
        implementations.load("compiled", torch.device("cpu"), torch.float32)
    assert close(run(tensors, "auto"), by_loop(tensors), 1e-12)


@pytest.mark.gpu
@scales
def test_gpu_matches_the_cpu(scaled, rng):
    tensors = make(SIZES["odd"], rng, scaled=scaled)
    y = run([t.cuda() for t in tensors], "auto")
    assert close(y.cpu(), by_loop(tensors), 1e-12)
