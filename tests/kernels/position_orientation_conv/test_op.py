"""The operation: values against loops over edges, gradients against those of the definition."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from eqlib.kernels.position_orientation_conv import (
    Arguments,
    naive,
    position_orientation_conv,
    position_orientation_conv_backward,
)
from tests.kernels.position_orientation_conv.cases import (
    CASES,
    NAMES,
    TOLERANCE,
    Case,
    close,
    graph,
    implementations,
    make,
)
from tests.kernels.position_orientation_conv.oracle import by_loop

cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
TINY = {
    "perpendicular": Case(edges=5, orientations=2, channels=2, hidden=2, basis=2, degree=2),
    "pairs": Case(
        edges=5, sources=3, targets=3, orientations=2, channels=2, hidden=2, basis=2, pairs=True
    ),
    "axes turned": Case(
        "axes", n=2, m=2, edges=5, orientations=2, channels=1, hidden=2, basis=2, frames=2, degree=2
    ),
    "distance": Case("distance", m=0, edges=5, orientations=1, channels=2, hidden=2, basis=2),
}


def convolve(arguments, implementation):
    return position_orientation_conv(*arguments, implementation)


def with_tensors(arguments, tensors):
    """The arguments with other tensors for the differentiable ones."""
    return Arguments(*tensors, *arguments[len(NAMES) :])


def leaves(arguments):
    return [tensor.clone().requires_grad_() for tensor in arguments[: len(NAMES)]]


def like(tensors, rng):
    """Random tensors of the same shapes."""
    return [torch.randn(t.shape, dtype=torch.float64, generator=rng).to(t.dtype) for t in tensors]


def gradients(function, arguments, grad_y, seeds=None):
    """First derivatives of an inner product, or derivatives of theirs."""
    tensors = leaves(arguments)
    grad_y = grad_y.clone().requires_grad_()
    settings = {"allow_unused": True, "materialize_grads": True}
    y = function(with_tensors(arguments, tensors))
    found = torch.autograd.grad(y, tensors, grad_y, create_graph=seeds is not None, **settings)
    if seeds is None:
        return found
    total = sum((part * seed).sum() for part, seed in zip(found, seeds, strict=True))
    return torch.autograd.grad(total, [grad_y, *tensors], **settings)


@implementations
@cases
def test_matches_a_loop_over_edges(case, implementation, rng):
    arguments = make(case, rng)
    y = convolve(arguments, implementation)
    assert y.shape == (case.targets, case.orientations, case.channels)
    assert close(y, by_loop(arguments), TOLERANCE[torch.float64])


@implementations
@cases
def test_gradients_are_those_of_the_definition(case, implementation, rng):
    arguments = make(case, rng)
    y = naive.convolve(arguments)
    (grad_y,) = like([y], rng)
    expected = gradients(naive.convolve, arguments, grad_y)
    found = gradients(lambda a: convolve(a, implementation), arguments, grad_y)
    for name, a, b in zip(NAMES, found, expected, strict=True):
        assert close(a, b, TOLERANCE[torch.float64]), name


@cases
def test_second_derivatives_are_those_of_the_definition(case, rng):
    arguments = make(case, rng)
    (grad_y,) = like([naive.convolve(arguments)], rng)
    seeds = like(arguments[: len(NAMES)], rng)
    expected = gradients(naive.convolve, arguments, grad_y, seeds)
    found = gradients(lambda a: convolve(a, "blocked"), arguments, grad_y, seeds)
    for name, a, b in zip(("grad_y", *NAMES), found, expected, strict=True):
        assert close(a, b, TOLERANCE[torch.float64]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@implementations
@cases
def test_lower_precision(case, implementation, dtype, rng):
    arguments = make(case, rng, dtype)
    exact = with_tensors(arguments, [t.double() for t in arguments[: len(NAMES)]])
    y = convolve(arguments, implementation)
    assert y.dtype == dtype
    assert close(y, naive.convolve(exact), TOLERANCE[dtype])
    (grad_y,) = like([y], rng)
    found = gradients(lambda a: convolve(a, implementation), arguments, grad_y)
    expected = gradients(naive.convolve, exact, grad_y.double())
    assert {part.dtype for part in found} == {dtype}
    for name, a, b in zip(NAMES, found, expected, strict=True):
        assert close(a, b, TOLERANCE[dtype]), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@implementations
def test_half_features_beside_full_weights(implementation, dtype, rng):
    arguments = make(CASES["R3xS2 pairs"], rng, torch.float32)
    arguments = arguments._replace(x=arguments.x.to(dtype))
    y = convolve(arguments, implementation)
    exact = with_tensors(arguments, [t.double() for t in arguments[: len(NAMES)]])
    assert y.dtype == dtype
    assert close(y, naive.convolve(exact), TOLERANCE[dtype])
    tensors = leaves(arguments)
    convolve(with_tensors(arguments, tensors), implementation).float().square().sum().backward()
    assert [t.grad.dtype for t in tensors] == [t.dtype for t in tensors]


@implementations
def test_autocast_changes_nothing(implementation, rng):
    arguments = make(CASES["R3xS2"], rng, torch.float32)
    expected = convolve(arguments, implementation)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(convolve(arguments, implementation), expected)


@implementations
@pytest.mark.parametrize("name", ["R3xS2", "R3xS2 pairs", "SE3 turned", "R3"])
def test_what_is_not_wanted_is_not_computed(name, implementation, rng):
    arguments = make(CASES[name], rng)
    (grad_y,) = like([naive.convolve(arguments)], rng)
    count = len(NAMES)

    def run(wants):
        return position_orientation_conv_backward(grad_y, *arguments, implementation, wants)

    every = run([True] * count)
    sets = [[i == j for j in range(count)] for i in range(count)]
    for wants in [*sets, [True, *[False] * 3, *[True] * 5], [False] * count]:
        for part, wish, full in zip(run(wants), wants, every, strict=True):
            assert close(part, full, 1e-13) if wish else part.numel() == 0


@pytest.mark.parametrize("case", TINY.values(), ids=TINY.keys())
def test_derivatives(case, rng):
    arguments = make(case, rng)
    tensors = [t.requires_grad_(t.numel() > 0) for t in leaves(arguments)]

    def run(*tensors):
        return convolve(with_tensors(arguments, tensors), "blocked")

    assert gradcheck(run, tensors)
    assert gradgradcheck(run, tensors, fast_mode=True)


@implementations
@pytest.mark.parametrize("name", ["R3xS2", "R3xS2 pairs turned", "R2xS1", "SE3 turned", "R3"])
def test_turning_offsets_and_axes_together_changes_nothing(name, implementation, rng):
    case = CASES[name]
    arguments = make(case, rng)
    x, offsets, axes, *rest = arguments[: len(NAMES)]
    square = torch.randn(case.n, case.n, dtype=torch.float64, generator=rng)
    turn = torch.linalg.qr(square).Q
    expected = convolve(arguments, implementation)
    turned = with_tensors(arguments, [x, offsets @ turn.mT, axes @ turn.mT, *rest])
    assert close(convolve(turned, implementation), expected, TOLERANCE[torch.float64])
    # control: another length for distances, the old axes for all others
    moved = offsets * 2 if case.attributes == "distance" else offsets @ turn.mT
    wrong = with_tensors(arguments, [x, moved, axes, *rest])
    assert not close(convolve(wrong, implementation), expected, 1e-2)


def test_pairs_are_edges_of_both_directions(rng):
    case = CASES["R3xS2 pairs"]
    arguments = make(case, rng)
    loops = arguments.source == arguments.target
    source = torch.cat([arguments.source, arguments.target[~loops]])
    target = torch.cat([arguments.target, arguments.source[~loops]])
    order = target.argsort(stable=True)
    both = Arguments(
        arguments.x,
        torch.cat([arguments.offsets, -arguments.offsets[~loops]])[order],
        arguments.axes,
        torch.cat([arguments.scalars, arguments.scalars[~loops]])[order],
        *arguments[4:9],
        *graph(source[order], target[order], case),
        arguments.frame,
        arguments.opposite[:0],
        *arguments[16:],
    )
    expected = convolve(both, "naive")
    assert close(convolve(arguments, "naive"), expected, TOLERANCE[torch.float64])
    # control: the same edges without the way back
    one_way = arguments._replace(opposite=arguments.opposite[:0])
    assert not close(convolve(one_way, "naive"), expected, 1e-2)


@implementations
@pytest.mark.parametrize(
    "sizes",
    [
        {"edges": 0},
        {"edges": 0, "sources": 0, "targets": 0},
        {"edges": 0, "sources": 3, "targets": 0},
        {"edges": 0, "frames": 0},
        {"orientations": 0},
        {"channels": 0},
    ],
    ids=["no edges", "no nodes", "no targets", "no graphs", "no orientations", "no channels"],
)
def test_empty_input(sizes, implementation, rng):
    full = make(Case(sources=3, targets=3), rng)
    kept = {"edges": 23, "sources": 3, "targets": 3, "orientations": 4, "channels": 5, "frames": 1}
    kept |= sizes
    edges, sources, targets, o, c, frames = kept.values()
    arguments = full._replace(
        x=full.x[:sources, :o, :c],
        offsets=full.offsets[:edges],
        axes=full.axes[:frames, :o],
        scalars=full.scalars[:edges],
        w3=full.w3[:c],
        source=full.source[:edges],
        target=full.target[:edges],
        starts=full.starts[: targets + 1] * bool(edges),
        by_source=full.by_source[:edges],
        source_starts=full.source_starts[: sources + 1] * bool(edges),
    )
    tensors = leaves(arguments)
    y = convolve(with_tensors(arguments, tensors), implementation)
    assert y.shape == (targets, o, c)
    assert not y.any()
    found = torch.autograd.grad(y.sum(), tensors, create_graph=True)
    assert [part.shape for part in found] == [t.shape for t in tensors]
    assert not any(part.any() for part in found)
    torch.autograd.grad(found[0].sum() + found[1].sum(), tensors, allow_unused=True)


@implementations
def test_layout_in_memory_does_not_matter(implementation, rng):
    arguments = make(CASES["SE3 turned"], rng)
    expected = convolve(arguments, implementation)
    strided = [t.mT.contiguous().mT if t.ndim > 1 else t for t in arguments[: len(NAMES)]]
    assert torch.equal(convolve(with_tensors(arguments, strided), implementation), expected)
    alike = arguments._replace(
        x=arguments.x[:1].expand_as(arguments.x), scalars=arguments.scalars[:1, :1].expand(23, 1)
    )
    copied = alike._replace(x=alike.x.clone(), scalars=alike.scalars.clone())
    assert torch.equal(convolve(alike, implementation), convolve(copied, implementation))
    tensors = leaves(arguments)
    convolve(with_tensors(arguments, tensors), implementation).sum().backward()  # an expanded one
    ones = torch.ones_like(expected)
    found = gradients(lambda a: convolve(a, implementation), arguments, ones)
    assert all(torch.equal(t.grad, part) for t, part in zip(tensors, found, strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("implementation", ["naive", "blocked"])
@cases
def test_gpu_matches_the_cpu(case, implementation, rng):
    arguments = make(case, rng)
    (grad_y,) = like([naive.convolve(arguments)], rng)
    seeds = like(arguments[: len(NAMES)], rng)
    on_gpu = Arguments(*(p.cuda() if isinstance(p, torch.Tensor) else p for p in arguments))
    assert close(convolve(on_gpu, implementation).cpu(), by_loop(arguments), 1e-12)
    for given in (None, seeds):
        moved = None if given is None else [seed.cuda() for seed in given]
        found = gradients(lambda a: convolve(a, implementation), on_gpu, grad_y.cuda(), moved)
        expected = gradients(naive.convolve, arguments, grad_y, given)
        assert all(close(a.cpu(), b, 1e-12) for a, b in zip(found, expected, strict=True))
