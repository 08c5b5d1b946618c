"""Checks of the Triton kernels, which test_triton.py runs in a process of their own.

With TRITON_INTERPRET=1 the kernels run on the CPU, in numpy; without, on a GPU. The variable counts
when the kernels are first imported, so it cannot be set in a process that runs other tests too.
"""

import os

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from eqlib.kernels.pair_linear import (
    Pairs,
    naive,
    pair_linear,
    pair_reduce,
    pair_weight_gradient,
    triton_launch,
)
from eqlib.kernels.pair_linear import triton_configurations as configurations
from eqlib.kernels.pair_linear.arguments import Linear, Reduction, WeightGradient
from tests.kernels.pair_linear.cases import CASES, TOLERANCE, Case, close, make
from tests.kernels.pair_linear.oracle import by_dense_sums, by_loop, by_products
from tests.kernels.pair_linear.test_op import TINY, functions, leaves

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
GUARD = 4099
"""NaN on both sides of every tensor: more than any tile, and no multiple of one."""

FULL = {name: case for name, case in CASES.items() if sum(case.sizes)}
FEW = ["ragged, rooted, shared", "small", "copies of a graph, shared", "no channel, rooted"]
SHAPES = {
    "several tiles of channels": Case(channels=140, outputs=3, rooted=True),
    "several tiles of outputs": Case(channels=3, outputs=140, shared=False),
    "tiles without a rest": Case(channels=64, outputs=64, rooted=True, scaled=False),
    "several programs of slots": Case((13, 9), 22, channels=16, outputs=16),
}
cases = pytest.mark.parametrize("case", FULL.values(), ids=FULL.keys())
few = pytest.mark.parametrize("case", [CASES[name] for name in FEW], ids=FEW)
shapes = pytest.mark.parametrize("case", SHAPES.values(), ids=SHAPES.keys())


class Bands:
    """Copies of tensors between two bands of NaN."""

    def __init__(self):
        self.bands = []

    def __call__(self, given):
        if given is None or given.dtype == torch.int64:
            return None if given is None else given.to(DEVICE)
        size = given.numel()
        whole = torch.full((size + 2 * GUARD,), torch.nan, dtype=given.dtype, device=DEVICE)
        inside = whole[GUARD : GUARD + size].view(given.shape)
        inside.copy_(given)
        self.bands += [whole[:GUARD], whole[GUARD + size :]]
        return inside

    def empty(self, *shape, dtype):
        return self(torch.full(shape, torch.nan, dtype=dtype))

    def untouched(self):
        return all(bool(band.isnan().all()) for band in self.bands)


def run(problem, grad):
    """The three functions between bands, on the device."""
    bands = Bands()
    x, weight, spread, scale = (bands(part) for part in problem[:4])
    pairs = Pairs(*[bands(index) for index in problem.pairs])
    wide = torch.promote_types(x.dtype, torch.float32)
    weight = bands(weight.to(wide))
    y = bands.empty(len(x), weight.shape[2], dtype=x.dtype)
    triton_launch.linear_into(y, Linear(x, weight, spread, scale, pairs))
    found = [y]
    if x.shape[1]:
        sums = bands.empty(len(pairs.subgraph), pairs.parts * x.shape[1], dtype=x.dtype)
        triton_launch.reduce_into(sums, Reduction(x, scale, pairs))
        arguments = WeightGradient(x, bands(grad), pairs.transpose)
        parts = bands(triton_launch.empty_parts(arguments).fill_(torch.nan))
        triton_launch.parts_into(parts, arguments)
        found += [sums, parts.sum(0)]
    assert bands.untouched()
    return [part.cpu() for part in found]


def gradient_of(problem, rng):
    shape = (len(problem.x), problem.weight.shape[2])
    return torch.randn(shape, dtype=torch.float64, generator=rng).to(problem.x.dtype)


def check(case, dtype, rng):
    problem = make(case, rng, dtype)
    grad = gradient_of(problem, rng)
    found = run(problem, grad)
    expected = [
        by_loop(problem),
        by_dense_sums(problem),
        by_products(problem.x, grad, problem.pairs.transpose),
    ]
    wide = torch.promote_types(dtype, torch.float32)
    for part, whole, kind in zip(found, expected, (dtype, dtype, wide), strict=False):
        assert part.dtype == kind
        assert close(part, whole, TOLERANCE[dtype])


class TestAll:
    """Takes minutes in the interpreter."""

    @cases
    def test_cases(self, case, rng):
        check(case, torch.float64, rng)

    @shapes
    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
    def test_shapes(self, case, dtype, rng):
        check(case, dtype, rng)


class TestSome:
    @few
    def test_cases(self, case, rng):
        check(case, torch.float64, rng)

    @shapes
    def test_shapes(self, case, rng):
        check(case, torch.float32, rng)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_dtypes(self, dtype, rng):
        check(Case(rooted=True), dtype, rng)


@pytest.mark.parametrize("programs", [1, 4])
def test_programs_of_several_tiles(programs, rng, monkeypatch):
    """Every program goes through several tiles, and the last ones have fewer or none."""
    monkeypatch.setattr(configurations, "PROGRAMS", programs)
    check(Case((9, 4, 8), 21, shared=False), torch.float64, rng)


def test_float32_is_not_rounded_to_tf32(rng, monkeypatch):
    problem = make(Case(channels=32, outputs=32), rng, torch.float32)
    grad = gradient_of(problem, rng)
    exact = [by_loop(problem), by_products(problem.x, grad, problem.pairs.transpose)]
    found = run(problem, grad)[::2]
    assert all(close(a, b, TOLERANCE[torch.float32]) for a, b in zip(found, exact, strict=True))
    # control: one product of TF32 instead of three shows
    constants = configurations.constants

    def rounded(kernel, *how):
        settings, options = constants(kernel, *how)
        return settings | ({} if kernel == "reduce" else {"PRECISION": "tf32"}), options

    monkeypatch.setattr(configurations, "constants", rounded)
    found = run(problem, grad)[::2]
    assert not any(close(a, b, 3e-5) for a, b in zip(found, exact, strict=True))


def test_every_program_writes_its_own_part(rng, monkeypatch):
    if not INTERPRETED:
        pytest.skip("programs run in no order on a GPU")
    from triton.runtime import interpreter

    case = Case((5, 9), 14, channels=70, outputs=16)
    problem = make(case, rng, torch.float32)
    grad = gradient_of(problem, rng)
    first = run(problem, grad)
    builder, order = interpreter.interpreter_builder, []

    def backwards(x, y, z, forwards=builder.set_grid_idx):
        order.append((x, y, z))
        forwards(*(n - 1 - i for n, i in zip(builder.grid_dim, (x, y, z), strict=True)))

    monkeypatch.setattr(builder, "set_grid_idx", backwards)
    second = run(problem, grad)
    assert len(set(order)) > 2
    assert all(map(torch.equal, first, second))


def test_a_second_call_gives_the_same_bits(rng):
    problem = make(SHAPES["several programs of slots"], rng, torch.float32)
    grad = gradient_of(problem, rng)
    assert all(map(torch.equal, run(problem, grad), run(problem, grad)))


def test_what_is_not_finite_stays_in_its_rows(rng):
    problem = make(Case((2, 3, 2), 9, shared=False, scaled=False), rng)
    grad = gradient_of(problem, rng)
    clean, sums, _ = run(problem, grad)
    problem.x[5] = torch.nan  # pair (0, 1) of the second subgraph
    problem.spread[6] = torch.nan  # the last member
    y, found, _ = run(problem, grad)
    reached = torch.zeros(len(y), dtype=torch.bool)
    reached[[5, 7, 14, 15, 16]] = True
    assert y[reached].isnan().all()
    assert torch.equal(y[~reached], clean[~reached])
    found, sums = (part.unflatten(1, (3, -1)) for part in (found, sums))
    reached = torch.zeros(7, 3, dtype=torch.bool)
    reached[2, 1] = reached[3, 2] = True
    assert found[reached].isnan().all()
    assert torch.equal(found[~reached], sums[~reached])


def test_offsets_beyond_32_bits(rng):
    """Only the last rows of features and of members are touched: the others take no memory."""
    problem = make(Case(rooted=True), rng, torch.float16)
    x, weight, spread, scale, pairs = problem[:5]
    sums, far = triton_launch.reduce, 2**31 // x.shape[1] + 100
    near = sums(Reduction(x.to(DEVICE), None, _on_device(pairs)))
    features = _behind(x, far)
    shifted = _on_device(pairs._replace(slot=pairs.slot + far - len(x)))
    assert torch.equal(sums(Reduction(features, None, shifted)), near)
    del features
    scale = scale.to(DEVICE)
    operands = (x.to(DEVICE), weight.float().to(DEVICE))
    near = triton_launch.linear(Linear(*operands, spread.to(DEVICE), scale, _on_device(pairs)))
    far = 2**31 // spread.shape[1] + 100
    more = far - len(spread)
    subgraph = _behind(pairs.subgraph, far)
    shifted = _on_device(
        pairs._replace(row=pairs.row + more, column=pairs.column + more, root=pairs.root + more)
    )._replace(subgraph=subgraph)
    found = triton_launch.linear(Linear(*operands, _behind(spread, far), scale, shifted))
    assert torch.equal(found, near)


def _on_device(pairs):
    return Pairs(*[index if index is None else index.to(DEVICE) for index in pairs])


def _behind(tensor, count):
    """The rows of a tensor after others that nobody has written to."""
    found = torch.empty(count, *tensor.shape[1:], dtype=tensor.dtype, device=DEVICE)
    found[-len(tensor) :] = tensor
    return found


class TestAllOperation:
    @pytest.mark.parametrize("case", TINY.values(), ids=TINY.keys())
    def test_gradcheck_and_gradgradcheck(self, case, rng):
        problem = make(case, rng, device=DEVICE)
        for function, tensors in functions(problem, "triton").values():
            given = leaves(tensors)
            assert gradcheck(function, given, fast_mode=True)
            assert gradgradcheck(function, given, fast_mode=True)

    @pytest.mark.unchecked
    def test_opcheck(self, rng):
        problem = make(TINY["shared, rooted"], rng, device=DEVICE)
        x, weight, spread = leaves(problem[:3])
        rest = (problem.scale, *problem.pairs, "triton")
        opcheck(pair_linear.registered, (x, weight, spread, *rest))
        opcheck(pair_reduce.registered, (x, *rest))
        grad = torch.ones(len(x), weight.shape[2], dtype=x.dtype, device=DEVICE).requires_grad_()
        opcheck(pair_weight_gradient.registered, (x, grad, problem.pairs.transpose, "triton"))


class TestOperation:
    def test_gradients_are_those_of_the_definition(self, rng):
        problem = make(Case(rooted=True), rng, device=DEVICE)
        x, weight, spread, scale, pairs = problem[:5]
        found = []
        for linear, reduce in (
            (
                lambda *o: naive.linear(Linear(*o, scale, pairs)),
                lambda x: naive.reduce(Reduction(x, None, pairs)),
            ),
            (
                lambda *o: pair_linear(*o, scale, *pairs, "triton"),
                lambda x: pair_reduce(x, None, *pairs, "triton"),
            ),
        ):
            given = leaves([x, weight, spread])
            y = linear(*given).square().sum() + reduce(given[0]).square().sum()
            found.append(torch.autograd.grad(y, given))
        for a, b in zip(*found, strict=True):
            assert close(b.cpu(), a.cpu(), 1e-12)

    @pytest.mark.unchecked
    def test_compile(self, rng):
        problem = make(Case(), rng, torch.float32, DEVICE)

        def function(*operands):
            return pair_linear(*operands, problem.scale, *problem.pairs, "triton")

        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(*problem[:3]), function(*problem[:3]))

    def test_nothing(self, rng):
        problem = make(CASES["no subgraph, rooted"], rng, device=DEVICE)
        assert pair_linear(*problem.linear(), "triton").shape == (0, 6)
        assert pair_reduce(*problem.reduction(), "triton").shape == (0, 25)
