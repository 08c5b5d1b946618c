"""The operations: values against dense matrices and loops, gradients against the definition."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from eqlib.kernels.pair_linear import naive, pair_linear, pair_reduce, pair_weight_gradient
from eqlib.kernels.pair_linear.arguments import Linear, Reduction
from tests.kernels.pair_linear.cases import (
    CASES,
    TOLERANCE,
    Case,
    close,
    implementations,
    make,
)
from tests.kernels.pair_linear.oracle import by_dense_sums, by_loop, by_products

cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
halves = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
TINY = {
    "shared": Case((1, 3, 2), 3, channels=2, outputs=1),
    "own": Case((1, 3, 2), 3, channels=1, outputs=2, shared=False, scaled=False),
    "shared, rooted": Case((1, 3), 3, channels=1, outputs=2, rooted=True),
    "own, rooted": Case((1, 2), 3, channels=2, outputs=1, rooted=True, shared=False),
}
tiny = pytest.mark.parametrize("case", TINY.values(), ids=TINY.keys())


def like(tensor, rng):
    """Random numbers of the same shape and dtype."""
    return torch.randn(tensor.shape, dtype=torch.float64, generator=rng).to(tensor.dtype)


def functions(problem, implementation):
    """The three operations as functions of what they can be differentiated by, with operands."""
    x, weight, spread, scale, pairs = problem[:5]
    grad = torch.ones(len(x), weight.shape[2], dtype=x.dtype).cumsum(0) / 7
    settings = (*pairs, implementation)
    return {
        "linear": (
            lambda x, w, u: pair_linear(x, w, u, scale, *settings),
            (x, weight, spread),
        ),
        "alone": (lambda x, w: pair_linear(x, w, None, None, *settings), (x, weight)),
        "reduce": (lambda x: pair_reduce(x, scale, *settings), (x,)),
        "weights": (
            lambda x, g: pair_weight_gradient(x, g, pairs.transpose, implementation),
            (x, grad),
        ),
    }


def leaves(tensors):
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


@implementations
@cases
def test_values(case, implementation, rng):
    problem = make(case, rng)
    y = pair_linear(*problem.linear(), implementation)
    sums = pair_reduce(*problem.reduction(), implementation)
    by_weight = pair_weight_gradient(problem.x, y, problem.pairs.transpose, implementation)
    assert close(y, by_loop(problem), TOLERANCE[torch.float64])
    assert close(sums, by_dense_sums(problem), TOLERANCE[torch.float64])
    expected = by_products(problem.x, y, problem.pairs.transpose)
    assert close(by_weight, expected, TOLERANCE[torch.float64])


@implementations
def test_without_a_spread_only_the_transpose_counts(implementation, rng):
    problem = make(Case(), rng)
    empty = problem._replace(spread=torch.zeros_like(problem.spread))
    pairs = problem.pairs.without_members(problem.pairs.transpose)
    y = pair_linear(problem.x, problem.weight, None, None, *pairs, implementation)
    assert close(y, by_loop(empty), TOLERANCE[torch.float64])
    assert torch.equal(
        y, pair_linear(problem.x, problem.weight, None, None, *problem.pairs, implementation)
    )


@implementations
@cases
def test_gradients_are_those_of_the_definition(case, implementation, rng):
    problem = make(case, rng)
    expected = {
        "linear": lambda x, w, u: naive.linear(Linear(x, w, u, problem.scale, problem.pairs)),
        "reduce": lambda x: naive.reduce(Reduction(x, problem.scale, problem.pairs)),
    }
    for name, definition in expected.items():
        function, tensors = functions(problem, implementation)[name]
        seed, found = None, []
        for run in (definition, function):
            given = leaves(tensors)
            result = run(*given)
            seed = like(result, rng) if seed is None else seed
            found.append(torch.autograd.grad(result, given, seed, materialize_grads=True))
        for a, b in zip(*found, strict=True):
            assert close(b, a, TOLERANCE[torch.float64]), name


@tiny
@pytest.mark.parametrize("implementation", ["blocked", "auto"])
def test_gradcheck_and_gradgradcheck(case, implementation, rng):
    problem = make(case, rng)
    for function, tensors in functions(problem, implementation).values():
        given = leaves(tensors)
        assert gradcheck(function, given)
        assert gradgradcheck(function, given)


@tiny
def test_third_derivatives(case, rng):
    """Of a polynomial in all operands, beside those that torch finds for the definition."""
    problem = make(case, rng)
    runs = {
        "op": lambda x, w, u: pair_linear(x, w, u, problem.scale, *problem.pairs, "blocked"),
        "naive": lambda x, w, u: naive.linear(Linear(x, w, u, problem.scale, problem.pairs)),
    }
    sums = {
        "op": lambda x: pair_reduce(x, problem.scale, *problem.pairs, "blocked"),
        "naive": lambda x: naive.reduce(Reduction(x, problem.scale, problem.pairs)),
    }
    found = []
    for how, run in runs.items():
        given = leaves(problem[:3])
        value = (run(*given) ** 3).sum() + (sums[how](given[0]) ** 4).sum()
        for _ in range(3):
            slopes = torch.autograd.grad(value, given, create_graph=True, materialize_grads=True)
            value = sum((slope * slope.detach().ne(0).cumsum(0).cos()).sum() for slope in slopes)
        found.append(slopes)
    for a, b in zip(*found, strict=True):
        assert a.abs().max() > 1e-3
        assert close(a, b, 1e-11)


@implementations
@cases
def test_float32(case, implementation, rng):
    check_precision(case, torch.float32, implementation, rng)


@halves
@pytest.mark.parametrize("name", ["ragged, rooted, shared", "small, shared", "wide"])
@pytest.mark.parametrize("implementation", ["naive", "blocked", "auto"])
def test_half_precision(name, dtype, implementation, rng):
    check_precision(CASES[name], dtype, implementation, rng)


def check_precision(case, dtype, implementation, rng):
    problem = make(case, rng, dtype)
    y = pair_linear(*problem.linear(), implementation)
    sums = pair_reduce(*problem.reduction(), implementation)
    by_weight = pair_weight_gradient(problem.x, y, problem.pairs.transpose, implementation)
    assert (y.dtype, sums.dtype) == (dtype, dtype)
    assert by_weight.dtype == torch.promote_types(dtype, torch.float32)
    assert close(y, by_loop(problem), TOLERANCE[dtype])
    assert close(sums, by_dense_sums(problem), TOLERANCE[dtype])
    expected = by_products(problem.x, y, problem.pairs.transpose)
    assert close(by_weight, expected, TOLERANCE[torch.float32] * 4)


@halves
def test_gradients_have_the_dtypes_of_the_operands(dtype, rng):
    problem = make(CASES["ragged, rooted, shared"], rng, dtype)
    weight = problem.weight.float()
    given = leaves([problem.x, weight, problem.spread.float()])
    pair_linear(*given, problem.scale, *problem.pairs, "blocked").sum().backward()
    assert [leaf.grad.dtype for leaf in given] == [dtype, torch.float32, torch.float32]


@implementations
def test_strides_do_not_matter(implementation, rng):
    problem = make(Case(rooted=True), rng)
    expected = pair_linear(*problem.linear(), implementation)
    x, weight, spread = (t.transpose(-1, -2).contiguous().transpose(-1, -2) for t in problem[:3])
    scale = problem.scale.repeat_interleave(2)[::2]
    pairs = [index.repeat_interleave(2)[::2] for index in problem.pairs]
    found = pair_linear(x, weight, spread, scale, *pairs, implementation)
    assert torch.equal(found, expected)
    sums = pair_reduce(*problem.reduction(), implementation)
    assert torch.equal(pair_reduce(x, scale, *pairs, implementation), sums)
    assert found.is_contiguous()
    assert sums.is_contiguous()


@implementations
def test_what_is_not_finite_stays_in_its_rows(implementation, rng):
    case = Case((2, 3, 2), 9, shared=False, scaled=False)
    problem = make(case, rng)
    clean = pair_linear(*problem.linear(), implementation)
    sums = pair_reduce(*problem.reduction(), implementation)
    problem.x[5] = torch.nan  # pair (0, 1) of the second subgraph
    problem.spread[6] = torch.inf  # the last member
    y = pair_linear(*problem.linear(), implementation)
    reached = torch.zeros(len(y), dtype=torch.bool)
    reached[[5, 7, 14, 15, 16]] = True
    assert not y[reached].isfinite().any()
    assert torch.equal(y[~reached], clean[~reached])
    found = pair_reduce(*problem.reduction(), implementation).unflatten(1, (3, -1))
    sums = sums.unflatten(1, (3, -1))
    reached = torch.zeros(7, 3, dtype=torch.bool)
    reached[2, 1] = reached[3, 2] = True
    assert found[reached].isnan().all()
    assert torch.equal(found[~reached], sums[~reached])


@implementations
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_second_call_gives_the_same_bits(implementation, dtype, rng):
    problem = make(CASES["ragged, rooted, shared"], rng, dtype)
    runs = [functions(problem, implementation) for _ in range(2)]
    for name in runs[0]:
        first, second = (function(*tensors) for function, tensors in (r[name] for r in runs))
        assert torch.equal(first, second), name
