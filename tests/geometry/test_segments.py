"""Segment reductions and gather_nodes against loops, and at their edges."""

import types

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from eqlib.geometry import (
    gather_nodes,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
    segments,
)

INDEX = torch.tensor([3, 0, 0, 3, 3, 5])  # unsorted; 1, 2, 4 and 6 are empty
SEGMENTS = 7
REDUCTIONS = [segment_sum, segment_mean, segment_max, segment_softmax]
reductions = pytest.mark.parametrize("reduce", REDUCTIONS, ids=lambda f: f.__name__)
RTOL = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}


def by_loop(reduce, values, index, num_segments):
    """Reduce segment by segment, in float64."""
    result = torch.zeros(num_segments, *values.shape[1:], dtype=torch.float64)
    weights = torch.zeros(values.shape, dtype=torch.float64)
    for segment in index.unique().tolist():
        rows = values[index == segment].double()
        weights[index == segment] = rows.softmax(0)
        result[segment] = {
            segment_sum: rows.sum(0),
            segment_mean: rows.mean(0),
            segment_max: rows.amax(0),
            segment_softmax: rows.sum(0),
        }[reduce]
    return weights if reduce is segment_softmax else result


@pytest.mark.parametrize("features", [(), (1,), (5,), (2, 3), (0,)], ids=str)
@pytest.mark.parametrize("dtype", list(RTOL), ids=str)
@reductions
def test_matches_a_loop(reduce, dtype, features, rng):
    values = torch.randn(6, *features, generator=rng).to(dtype)
    result = reduce(values, INDEX, SEGMENTS)
    expected = by_loop(reduce, values, INDEX, SEGMENTS)
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), expected, rtol=RTOL[dtype], atol=RTOL[dtype])


@reductions
def test_accepts_values_that_are_not_contiguous(reduce, rng):
    values = torch.randn(3, 6, generator=rng).T
    expected = reduce(values.contiguous(), INDEX, SEGMENTS)
    assert torch.equal(reduce(values, INDEX, SEGMENTS), expected)
    strided = INDEX.repeat_interleave(2)[::2]
    assert torch.equal(reduce(values, strided, SEGMENTS), expected)


@pytest.mark.parametrize("num_segments", [0, 4])
@reductions
def test_no_rows(reduce, num_segments):
    rows = 0 if reduce is segment_softmax else num_segments
    result = reduce(torch.zeros(0, 3), INDEX[:0], num_segments)
    assert torch.equal(result, torch.zeros(rows, 3))


def test_segments_without_rows(rng):
    values = torch.randn(6, 2, generator=rng)
    empty = [1, 2, 4, 6]
    assert (segment_sum(values, INDEX, SEGMENTS)[empty] == 0).all()
    assert (segment_mean(values, INDEX, SEGMENTS)[empty] == 0).all()
    assert (segment_max(values, INDEX, SEGMENTS)[empty] == 0).all()
    lowest = segment_max(values, INDEX, SEGMENTS, empty=-torch.inf)
    assert (lowest[empty] == -torch.inf).all()
    assert lowest[[0, 3, 5]].isfinite().all()


def test_many_half_precision_rows_accumulate_in_float32():
    values = torch.ones(4096, 2, dtype=torch.bfloat16)
    index = torch.zeros(4096, dtype=torch.int64)
    assert (segment_sum(values, index, 1) == 4096).all()
    assert (segment_mean(values, index, 1) == 1).all()
    assert (segment_softmax(values, index, 1) == 1 / 4096).all()
    # control: without a wider accumulator the sum stops growing
    narrow = torch.zeros(1, 2, dtype=torch.bfloat16)
    for row in values:
        narrow += row
    assert (narrow < 4096).all()


@pytest.mark.parametrize("offset", [1e4, -1e4, 1e30])
def test_softmax_is_stable(offset, rng):
    values = torch.randn(6, 2, generator=rng)
    large = torch.where(INDEX[:, None] == 3, values + offset, values)
    weights = segment_softmax(large, INDEX, SEGMENTS)
    others = INDEX != 3
    assert torch.equal(weights[others], segment_softmax(values, INDEX, SEGMENTS)[others])
    torch.testing.assert_close(weights[~others], large[~others].softmax(0))


def test_softmax_of_masked_rows():
    values = torch.tensor([0.0, 1.0, -torch.inf, 2.0, 2.0, -torch.inf], requires_grad=True)
    weights = segment_softmax(values, INDEX, SEGMENTS)
    assert weights[2] == 0
    assert weights[1] == 1
    assert weights[5] == 0  # alone in its segment
    (gradient,) = torch.autograd.grad(weights.square().sum(), values)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
@reductions
def test_one_bad_segment_leaves_the_others_exact(reduce, poison, rng):
    values = torch.randn(6, 2, generator=rng)
    bad = values.clone()
    bad[3, 0] = poison
    values.requires_grad_()
    bad.requires_grad_()
    clean, dirty = (reduce(x, INDEX, SEGMENTS) for x in (values, bad))
    keep = torch.arange(SEGMENTS) != 3 if len(clean) == SEGMENTS else INDEX != 3
    assert torch.equal(clean[keep], dirty[keep])
    assert torch.equal(clean[:, 1], dirty[:, 1])
    gradients = [
        torch.autograd.grad(out.square().sum(), x)[0] for out, x in ((clean, values), (dirty, bad))
    ]
    assert torch.equal(gradients[0][INDEX != 3], gradients[1][INDEX != 3])


def test_maximum_propagates_nan_and_infinity():
    values = torch.tensor([torch.nan, 1.0, torch.nan, torch.inf, 2.0, -torch.inf])
    result = segment_max(values, INDEX, SEGMENTS)
    assert result[3].isnan() or result[3] == torch.inf
    assert result[0].isnan()
    assert result[5] == -torch.inf


def test_maximum_shares_the_gradient_among_ties():
    values = torch.tensor([2.0, 1.0, 1.0, 2.0, 0.0, 7.0], requires_grad=True)
    weights = torch.arange(1.0, 8.0)
    (gradient,) = torch.autograd.grad((weights * segment_max(values, INDEX, 7)).sum(), values)
    assert torch.equal(gradient, torch.tensor([2.0, 0.5, 0.5, 2.0, 0.0, 6.0]))


def test_maximum_that_is_nan_has_gradient_zero():
    values = torch.tensor([torch.nan, 1.0, 3.0, 2.0, 0.0, 7.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(segment_max(values, INDEX, SEGMENTS).sum(), values)
    assert torch.equal(gradient, torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 1.0]))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # of forward mode
@pytest.mark.parametrize("features", [(), (2,)], ids=str)
@reductions
def test_derivatives(reduce, features, rng):
    values = torch.randn(6, *features, dtype=torch.float64, generator=rng, requires_grad=True)

    def reduced(x):
        return reduce(x, INDEX, SEGMENTS)

    assert gradcheck(reduced, values, check_forward_ad=True)
    assert gradgradcheck(reduced, values, check_fwd_over_rev=True)


def test_derivatives_of_gather_nodes(rng):
    values = torch.randn(6, 2, dtype=torch.float64, generator=rng, requires_grad=True)
    assert gradcheck(lambda x: gather_nodes(x, INDEX), values)
    assert gradgradcheck(lambda x: gather_nodes(x, INDEX), values)


@pytest.mark.parametrize("dtype", list(RTOL), ids=str)
@pytest.mark.parametrize("features", [(), (3,), (2, 3), (0,)], ids=str)
def test_gather_nodes_is_indexing(features, dtype, rng):
    values = torch.randn(6, *features, generator=rng).to(dtype)
    assert torch.equal(gather_nodes(values, INDEX), values[INDEX])
    assert gather_nodes(values, INDEX[:0]).shape == (0, *features)
    assert gather_nodes(values[:0], INDEX[:0]).shape == (0, *features)


@pytest.mark.unchecked
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@reductions
def test_compiles(reduce, backend, rng):
    def gathered(x):
        return reduce(gather_nodes(x, INDEX), INDEX, SEGMENTS)

    torch.compiler.reset()
    compiled = torch.compile(gathered, fullgraph=True, backend=backend)
    values = torch.randn(6, 2, dtype=torch.float64, generator=rng, requires_grad=True)
    results = [f(values) for f in (compiled, gathered)]
    gradients = [torch.autograd.grad(result.square().sum(), values)[0] for result in results]
    torch.testing.assert_close(*results)
    torch.testing.assert_close(*gradients)


@pytest.mark.unchecked
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("entry", [-1, 3])
@pytest.mark.parametrize("operation", [*REDUCTIONS, gather_nodes], ids=lambda f: f.__name__)
def test_compiled_code_stops_on_an_index_out_of_range(operation, entry):
    torch.compiler.reset()
    arguments = (3,) if operation is not gather_nodes else ()
    compiled = torch.compile(operation, fullgraph=True)
    assert compiled(torch.ones(3, 4), torch.tensor([0, 1, 2]), *arguments).isfinite().all()
    with pytest.raises(RuntimeError, match=r"out of bounds|kernel"):
        compiled(torch.ones(3, 4), torch.tensor([0, 1, entry]), *arguments)


@reductions
def test_works_under_functional_transforms(reduce, rng):
    values = torch.randn(4, 6, 2, generator=rng)
    rows = torch.func.vmap(reduce, in_dims=(0, None, None))(values, INDEX, SEGMENTS)
    assert torch.equal(rows, torch.stack([reduce(x, INDEX, SEGMENTS) for x in values]))
    jacobian = torch.func.jacrev(lambda x: reduce(x, INDEX, SEGMENTS))(values[0])
    expected = torch.autograd.functional.jacobian(lambda x: reduce(x, INDEX, SEGMENTS), values[0])
    torch.testing.assert_close(jacobian, expected)


@reductions
def test_order_of_rows_does_not_matter(reduce, rng):
    values = torch.randn(6, 2, dtype=torch.float64, generator=rng)
    order = torch.randperm(6, generator=rng)
    result, shuffled = (
        reduce(values, INDEX, SEGMENTS),
        reduce(values[order], INDEX[order], SEGMENTS),
    )
    torch.testing.assert_close(shuffled, result[order] if reduce is segment_softmax else result)
    # control: rows shuffled without their index give something else
    other = reduce(values[order], INDEX, SEGMENTS)
    assert not torch.allclose(other, result[order] if reduce is segment_softmax else result)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("index", "num_segments", "error", "message"),
    [
        (INDEX.int(), 7, TypeError, r"index has dtype torch.int32; .*\.long\(\)"),
        (INDEX.double(), 7, TypeError, "index has dtype torch.float64"),
        (INDEX[:, None], 7, ValueError, r"index has shape \(6, 1\); expected one dimension"),
        (INDEX[:5], 7, ValueError, r"values has shape \(6, 2\) and index \(5,\)"),
        (INDEX, 5, ValueError, "entries from 0 to 5; expected 0 <= index < num_segments = 5"),
        (INDEX - 1, 7, ValueError, "entries from -1 to 4"),
        (INDEX, -1, ValueError, "num_segments is -1; expected at least 0"),
        (INDEX.to("meta"), 7, ValueError, "values is on cpu and index on meta"),
    ],
    ids=["int32", "float", "matrix", "short", "large", "negative", "size", "device"],
)
@reductions
def test_bad_index(reduce, index, num_segments, error, message):
    with pytest.raises(error, match=message):
        reduce(torch.zeros(6, 2), index, num_segments)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("values", "index", "error", "message"),
    [
        (torch.zeros(4, 2), INDEX, ValueError, r"expected 0 <= index < len\(values\) = 4"),
        (torch.zeros(6, 2), INDEX - 1, ValueError, "entries from -1 to 4"),
        (torch.zeros(6, 2), INDEX.int(), TypeError, "dtype torch.int32"),
        (torch.zeros(()), INDEX, ValueError, "values is a scalar"),
        (torch.zeros(6), INDEX.to("meta"), ValueError, "values is on cpu and index on meta"),
    ],
    ids=["large", "negative", "int32", "scalar", "device"],
)
def test_bad_index_of_gather_nodes(values, index, error, message):
    with pytest.raises(error, match=message):
        gather_nodes(values, index)


@pytest.fixture
def scatter_calls(monkeypatch):
    """Put a stand-in for torch-scatter in place; list the shapes it sums."""
    calls = []

    def scatter_sum(values, index, dim, out):
        calls.append(tuple(values.shape))
        rows = index.reshape(-1, *(1 for _ in values.shape[1:])).expand_as(values)
        return out.scatter_add_(dim, rows, values)

    stand_in = types.SimpleNamespace(scatter_sum=scatter_sum)
    monkeypatch.setattr(segments, "_torch_scatter", lambda: stand_in)
    return calls


@pytest.mark.unchecked
def test_torch_scatter_sums_in_eager_mode_only(scatter_calls, rng):
    torch.compiler.reset()
    values = torch.randn(6, 2, generator=rng)
    result = segment_sum(values, INDEX, SEGMENTS)
    assert scatter_calls == [(6, 2)]
    compiled = torch.compile(segment_sum, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(values, INDEX, SEGMENTS), result)
    assert scatter_calls == [(6, 2)]


@reductions
def test_torch_scatter_gives_the_same(reduce, rng, monkeypatch):
    pytest.importorskip("torch_scatter", reason="torch-scatter is not installed")
    values = torch.randn(6, 2, generator=rng, requires_grad=True)
    results = [reduce(values, INDEX, SEGMENTS)]
    monkeypatch.setattr(segments, "_torch_scatter", lambda: None)
    results.append(reduce(values, INDEX, SEGMENTS))
    assert torch.equal(*results)
    assert torch.equal(*(torch.autograd.grad(x.square().sum(), values)[0] for x in results))


def test_torch_scatter_that_does_not_load_is_reported(monkeypatch):
    def broken(name):
        raise OSError("undefined symbol")

    monkeypatch.setattr(segments.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(segments.importlib, "import_module", broken)
    with pytest.warns(RuntimeWarning, match=r"does not load \(undefined symbol\)"):
        assert segments._torch_scatter.__wrapped__() is None


@pytest.mark.gpu
@reductions
def test_cuda_agrees(reduce, rng):
    values = torch.randn(1000, 3, dtype=torch.float64, generator=rng)
    index = torch.randint(0, 50, (1000,), generator=rng)
    result = reduce(values.cuda(), index.cuda(), 60)
    torch.testing.assert_close(result.cpu(), reduce(values, index, 60))
