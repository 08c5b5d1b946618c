"""The form that makes all maps at once gives the same as that of torch, with its gradients."""

import pytest
import torch

from eqlib.kernels.pair_linear import whynot_layer
from eqlib.subgraph import Features, PermutationLinear, SubgraphLayer
from eqlib.subgraph.maps import products
from tests.subgraph.batches import ragged_plan

TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6}
INPUTS = [{2: 5, 1: 3, 0: 2}, {2: 5}, {1: 3}, {0: 2}, {2: 5, 1: 3}, {1: 3, 0: 2}]
OUTPUTS = [{2: 4, 1: 6, 0: 3}, {2: 4}, {1: 6}, {0: 3}]


@pytest.fixture(autouse=True)
def _needs_a_compiler():
    if reason := whynot_layer(torch.device("cpu"), torch.float64):
        pytest.skip(reason)


@pytest.fixture
def fused(monkeypatch):
    """Count the calls of the fused form."""
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return apply(*arguments)

    apply = products.apply_fused
    monkeypatch.setattr(products, "apply_fused", counted)
    return calls


def make(kind, inputs, outputs, rng, **options):
    """A layer with biases, and its inputs, in float64."""
    plan = ragged_plan(rooted=options.get("rooted", False))
    layer = kind(inputs, outputs, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64, generator=rng))
    graph = kind is SubgraphLayer
    rows = {
        2: plan.num_slots if graph else plan.num_pairs,
        1: plan.num_nodes if graph else plan.num_members,
        0: plan.num_owners if graph else plan.num_subgraphs,
    }
    given = {q: torch.randn(rows[q], inputs[q], dtype=torch.float64, generator=rng) for q in inputs}
    return layer, Features(given.get(2), given.get(1), given.get(0)), plan


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("normalised", [True, False], ids=["means", "sums"])
@pytest.mark.parametrize("outputs", OUTPUTS, ids=str)
@pytest.mark.parametrize("inputs", INPUTS, ids=str)
@pytest.mark.parametrize("kind", [PermutationLinear, SubgraphLayer], ids=["local", "graph"])
def test_equals_the_usual_way(kind, inputs, outputs, normalised, dtype, rng, fused):
    compare(kind, inputs, outputs, dtype, rng, fused, normalised=normalised)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("outputs", OUTPUTS, ids=str)
@pytest.mark.parametrize("inputs", INPUTS[:4], ids=str)
@pytest.mark.parametrize("kind", [PermutationLinear, SubgraphLayer], ids=["local", "graph"])
def test_equals_the_usual_way_with_roots(kind, inputs, outputs, dtype, rng, fused):
    compare(kind, inputs, outputs, dtype, rng, fused, rooted=True)


def compare(kind, inputs, outputs, dtype, rng, fused, **options):
    """Compare a layer with one that takes the usual way, in values and gradients."""
    layer, given, plan = make(kind, inputs, outputs, rng, **options)
    usual = kind(inputs, outputs, implementation="blocked", **options).double()
    usual.load_state_dict(layer.state_dict())
    expected = with_gradients(usual, given, plan)
    assert fused == []
    given = Features(*(None if x is None else x.to(dtype) for x in given))
    found = with_gradients(layer.to(dtype), given, plan)
    assert len(fused) == 1
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        assert (a - b).abs().max() <= TOLERANCE[dtype] * b.abs().max()


def with_gradients(layer, given, plan):
    """Results, and gradients of a fixed sum of them by features and parameters."""
    leaves = Features(*(None if x is None else x.clone().requires_grad_() for x in given))
    found = [rows for rows in layer(*leaves, plan=plan) if rows is not None]
    total = sum((rows * torch.linspace(-1, 1, rows.numel()).view_as(rows)).sum() for rows in found)
    operands = [rows for rows in leaves if rows is not None] + list(layer.parameters())
    return [*found, *torch.autograd.grad(total, operands)]


@pytest.mark.parametrize(
    "options",
    [
        {"implementation": "blocked"},
        {"weights": "per_size", "sizes": (1, 3)},
        {"weights": "size_embedding"},
    ],
    ids=["blocked", "per size", "size embedding"],
)
def test_other_options_take_the_usual_way(options, rng, fused):
    layer, given, plan = make(PermutationLinear, {2: 5, 1: 3}, {2: 4}, rng, **options)
    with torch.no_grad():
        layer(*given, plan=plan)
    assert fused == []


def test_half_precision_takes_the_usual_way(rng, fused):
    layer, given, plan = make(PermutationLinear, {2: 5, 1: 3}, {2: 4}, rng)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        layer.float()(given.pairs.float(), given.nodes.float(), plan=plan)
    assert fused == []


@pytest.mark.unchecked
def test_is_compiled_without_gradients(rng):
    layer, given, plan = make(PermutationLinear, {2: 5, 1: 3}, {2: 4, 1: 2}, rng)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        found, expected = compiled(*given, plan=plan), layer(*given, plan=plan)
    torch.testing.assert_close(found.pairs, expected.pairs)
    torch.testing.assert_close(found.nodes, expected.nodes)
