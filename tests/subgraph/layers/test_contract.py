"""What holds for all layers: derivatives, compilation, export, dtypes, memory, bad input."""

import pytest
import torch
from torch import nn

from benchmarks.memory import bytes_of
from eqlib.subgraph import (
    FeatureBatchNorm,
    FeatureGraphNorm,
    Features,
    PermutationLinear,
    SubgraphLayer,
    extract,
)
from tests.subgraph.batches import (
    POLICIES,
    error,
    features,
    graph_rows,
    local_rows,
    ragged_plan,
    random_graphs,
)
from tests.subgraph.maps.stack import linear, normal, randomised

CHANNELS = ({2: 3, 1: 2, 0: 5}, {2: 4, 1: 6, 0: 2})
LAYERS = {
    "lean": {},
    "lean rooted": {"rooted": True},
    "sum": {"aggregation": "sum"},
    "activation": {"activation": nn.Tanh()},
    "attention": {"aggregation": "attention", "heads": 2, "rooted": True},
    "per size": {"weights": "per_size", "sizes": (1, 3)},
    "size embedding": {"weights": "size_embedding", "rooted": True},
}
layers = pytest.mark.parametrize("options", list(LAYERS.values()), ids=list(LAYERS))


def layer_of(rng, channels=CHANNELS, **options):
    return randomised(SubgraphLayer(*channels, **options), rng).double()


def call_of(layer, plan):
    """The layer as a function of tensors."""
    return lambda *x: tuple(layer(*x, plan=plan).by_order().values())


@layers
def test_first_and_second_derivatives(options, rng):
    plan = POLICIES["ego rooted"](random_graphs(rng, (3, 1), density=1.0))
    layer = layer_of(rng, ({2: 1, 1: 1, 0: 1}, {2: 2, 1: 2, 0: 2}), **options)
    inputs = tuple(x.requires_grad_() for x in features(rng, graph_rows(plan), (1, 1, 1)))
    assert torch.autograd.gradcheck(call_of(layer, plan), inputs)
    assert torch.autograd.gradgradcheck(call_of(layer, plan), inputs, fast_mode=True)


@pytest.mark.parametrize("rooted", [False, True], ids=["free", "rooted"])
def test_derivatives_by_the_weights(rooted, rng):
    plan = POLICIES["ego rooted"](random_graphs(rng, (3, 1), density=0.7))
    layer = layer_of(rng, ({2: 1, 1: 1}, {2: 1, 1: 1, 0: 1}), rooted=rooted)
    x = features(rng, graph_rows(plan), (1, 1, 1))
    names = [name for name, _ in layer.named_parameters()]

    def call(*weights):
        state = dict(zip(names, weights, strict=True))
        kwargs = {"pairs": x.pairs, "nodes": x.nodes, "plan": plan}
        return tuple(torch.func.functional_call(layer, state, (), kwargs))

    weights = tuple(value.detach().requires_grad_() for value in layer.parameters())
    assert torch.autograd.gradcheck(call, weights)


@pytest.mark.parametrize("rooted", [False, True], ids=["free", "rooted"])
def test_derivatives_of_the_dense_form(rooted, rng):
    layer = linear(rng, {2: 2, 1: 1}, {2: 2, 1: 1, 0: 1}, rooted=rooted)
    inputs = (normal(rng, 3, 3, 2).requires_grad_(), normal(rng, 3, 1).requires_grad_())
    call = lambda *x: tuple(layer(*x))  # noqa: E731
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "name",
    [
        "lean rooted",
        pytest.param("per size", marks=pytest.mark.slow),
        pytest.param("attention", marks=pytest.mark.slow),
        pytest.param("size embedding", marks=pytest.mark.slow),
    ],
)
def test_one_graph_is_compiled_for_all_sizes(name, rng):
    """A second graph is an error of torch, which names the guard that asked for it."""
    layer = layer_of(rng, **LAYERS[name])
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for sizes, first in (((4, 6, 5), True), ((3, 7), False)):
        plan = POLICIES["ego rooted"](random_graphs(rng, sizes))
        x = features(rng, graph_rows(plan))
        with torch._dynamo.config.patch(error_on_recompile=not first):
            found = compiled(*x, plan=plan)
        assert error(found, layer(*x, plan=plan)) < 1e-13
    # control: torch compiles for axes of length 1 apart
    alone = POLICIES["ego rooted"](random_graphs(rng, (1,)))
    with (
        torch._dynamo.config.patch(error_on_recompile=True),
        pytest.raises(torch._dynamo.exc.RecompileError, match="2 <= "),
    ):
        compiled(*features(rng, graph_rows(alone)), plan=alone)
    sum(rows.square().sum() for rows in compiled(*x, plan=plan)).backward()
    grads = [value.grad.clone() for value in layer.parameters()]
    layer.zero_grad()
    sum(rows.square().sum() for rows in layer(*x, plan=plan)).backward()
    for left, right in zip(grads, layer.parameters(), strict=True):
        torch.testing.assert_close(left, right.grad)


@layers
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_without_derivatives_values_are_the_same(options, dtype, rng):
    layer = layer_of(rng, **options).to(dtype)
    for policy in ("ego rooted", "whole"):
        plan = POLICIES[policy](random_graphs(rng))
        if layer.linear.rooted and not plan.is_rooted:
            continue
        x = features(rng, graph_rows(plan), dtype=dtype)
        expected = layer(*x, plan=plan)
        with torch.no_grad():
            assert error(layer(*x, plan=plan), expected) < {8: 1e-13, 4: 2e-6}[dtype.itemsize]


@pytest.mark.unchecked
@pytest.mark.parametrize("norm", [FeatureBatchNorm, FeatureGraphNorm])
def test_norms_are_compiled(norm, rng):
    module = randomised(norm(CHANNELS[0]), rng).double()
    twin = norm(CHANNELS[0]).double()
    twin.load_state_dict(module.state_dict())
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    for sizes in ((4, 6), (3, 7, 5)):
        plan = POLICIES["ego"](random_graphs(rng, sizes))
        x = features(rng, graph_rows(plan))
        assert error(compiled(*x, plan=plan), twin(*x, plan=plan)) < 1e-12
    for left, right in zip(module.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.unchecked
def test_the_dense_form_is_compiled(rng):
    layer = linear(rng, {2: 3, 1: 2}, {2: 4, 0: 2}, rooted=True)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch, nodes in ((2, 5), (3, 7)):
        x = normal(rng, batch, nodes, nodes, 3), normal(rng, batch, nodes, 2)
        assert error(compiled(*x), layer(*x)) < 1e-13


@pytest.mark.unchecked
@pytest.mark.parametrize("options", [{}, {"activation": nn.Tanh()}], ids=["lean", "activation"])
def test_a_layer_is_exported(options, rng):
    layer = layer_of(rng, rooted=True, **options)
    plan = POLICIES["ego rooted"](random_graphs(rng))
    x = features(rng, graph_rows(plan))
    program = torch.export.export(layer, tuple(x), {"plan": plan})
    assert error(program.module()(*x, plan=plan), layer(*x, plan=plan)) < 1e-13


@layers
def test_weights_are_saved_and_loaded(options, rng, tmp_path):
    layer = layer_of(rng, **options)
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    other = SubgraphLayer(*CHANNELS, **options).double()
    other.load_state_dict(torch.load(tmp_path / "layer.pt"))
    plan = POLICIES["ego rooted"](random_graphs(rng))
    x = features(rng, graph_rows(plan))
    assert error(layer(*x, plan=plan), other(*x, plan=plan)) == 0


def test_weights_of_other_sizes_are_not_loaded():
    layer, other = (
        PermutationLinear({2: 1}, {2: 1}, weights="per_size", sizes=sizes)
        for sizes in ((2, 3), (7, 8))
    )
    before = other.weight["2_2"].clone()
    with pytest.raises(RuntimeError, match=r"sizes \(2, 3\); the layer has sizes=\(7, 8\)"):
        other.load_state_dict(layer.state_dict())
    assert torch.equal(other.weight["2_2"], before)


@layers
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), (torch.bfloat16, 5e-2), (torch.float16, 5e-3)],
    ids=str,
)
def test_dtypes(options, dtype, tolerance, rng):
    exact = layer_of(rng, **options)
    plan = POLICIES["ego rooted"](random_graphs(rng))
    x = features(rng, graph_rows(plan), dtype=dtype)
    layer = SubgraphLayer(*CHANNELS, **options)
    layer.load_state_dict(exact.state_dict())
    layer.to(dtype)
    exact.load_state_dict(layer.state_dict())
    found = layer(*x, plan=plan)
    assert {rows.dtype for rows in found} == {dtype}
    expected = exact(*(rows.double() for rows in x), plan=plan)
    assert error([rows.double() for rows in found], expected) < tolerance


@layers
def test_autocast(options, rng):
    layer = layer_of(rng, **options).float()
    plan = POLICIES["ego rooted"](random_graphs(rng))
    x = features(rng, graph_rows(plan), dtype=torch.float32)
    expected = layer(*x, plan=plan)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(*x, plan=plan)
    assert error(found, expected) < 5e-2
    sum(rows.float().square().sum() for rows in found).backward()
    assert all(value.grad.isfinite().all() for value in layer.parameters())


def saved_bytes(layer, x, plan):
    """Memory of what a layer keeps for its backward pass, beside its arguments."""
    known = {
        t.untyped_storage().data_ptr()
        for t in (*x, *plan, *layer.parameters())
        if isinstance(t, torch.Tensor)
    }
    kept = []

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in known and tensor.is_floating_point():
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(*x, plan=plan)
    return bytes_of(kept)


def test_a_lean_layer_keeps_nothing_for_pairs_of_subgraphs(rng):
    plan = POLICIES["ego 2"](random_graphs(rng, (24, 24), density=0.2))
    assert plan.num_pairs > 5 * plan.num_slots
    channels = 16
    lean = layer_of(rng, ({2: channels}, {2: channels}))
    full = layer_of(rng, ({2: channels}, {2: channels}), activation=nn.Tanh())
    x = Features(normal(rng, plan.num_slots, channels).requires_grad_())
    given = (x.pairs,)
    rows_of_members = 3 * channels * plan.num_members
    kept = saved_bytes(lean, given, plan)
    assert kept <= 8 * (1.2 * rows_of_members + 8 * plan.num_slots)
    # control: with an activation inside, there is a row for each pair of each subgraph
    assert saved_bytes(full, given, plan) >= 8 * 2 * channels * plan.num_pairs


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (({3: 1}, {2: 1}), ValueError, "channels_in has order 3; expected 2"),
        (({2: 1}, {}), ValueError, "channels_out is empty"),
        (({2: 0}, {2: 1}), ValueError, r"channels_in\[2\] is 0; expected at least 1"),
        (({2: 1.5}, {2: 1}), TypeError, r"channels_in\[2\] is 1.5; expected an integer"),
        ((4, {2: 1}), TypeError, "channels_in is of type int"),
        (({2: 1}, {2: 1}, False, "own"), ValueError, "weights is 'own'; expected one of shared"),
        (({2: 1}, {2: 1}, False, "per_size"), ValueError, "sizes is empty"),
        (({2: 1}, {2: 1}, False, "shared", (1,)), ValueError, "sizes is .1,.; expected none"),
        (({2: 1}, {2: 1}, False, "per_size", (0,)), ValueError, "sizes has 0; expected at least"),
        (({2: 1}, {2: 1}, False, "per_size", (1.0,)), TypeError, "sizes has 1.0"),
        (({2: 1}, {2: 1}, False, "per_size", (1, 1)), ValueError, "expected each size once"),
        (
            ({2: 1}, {2: 1}, False, "shared", (), True, True, "fast"),
            ValueError,
            "implementation is 'fast'; expected one of auto, naive",
        ),
    ],
    ids=str,
)
def test_bad_options_of_maps_are_refused(arguments, kind, message):
    with pytest.raises(kind, match=message):
        PermutationLinear(*arguments)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": "max"}, "aggregation is 'max'; expected mean, sum or attention"),
        ({"residual": True}, "residual=True expects each order of the output in the input"),
        ({"aggregation": "attention", "heads": 3}, "heads is 3"),
        ({"heads": 2}, 'heads is 2; expected none with aggregation="mean"'),
    ],
    ids=["aggregation", "residual", "heads", "heads of a mean"],
)
def test_bad_options_of_layers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SubgraphLayer({2: 3}, {2: 4}, **options)


@pytest.mark.unchecked
def test_features_that_do_not_fit_are_refused(rng):
    plan = POLICIES["ego"](random_graphs(rng, (6,), density=0.9))
    layer, x = layer_of(rng), features(rng, graph_rows(plan))
    local = extract(x, plan)
    cases = [
        ((x.pairs, x.nodes), ValueError, "scalars is None; expected 5 channels"),
        ((x.pairs, x.nodes, x.scalars[:, :4]), ValueError, "expected 5 channels in the last axis"),
        ((x.pairs.float(), *x[1:]), TypeError, "pairs has dtype torch.float32, the layer"),
        ((x.pairs.long(), *x[1:]), TypeError, "pairs has dtype torch.int64; expected floating"),
        ((x.pairs[:-1], *x[1:]), ValueError, r"pairs has shape .* expected \d+ rows"),
        (tuple(local), ValueError, "rows of the other level: aggregate"),
    ]
    for given, kind, message in cases:
        with pytest.raises(kind, match=message):
            layer(*given, plan=plan)
    with pytest.raises(ValueError, match="rows of the other level: extract"):
        layer.linear(*x, plan=plan)
    with pytest.raises(ValueError, match=r"plan \(ego, 1 hop\) has no roots"):
        layer_of(rng, rooted=True)(*x, plan=plan)
    sized = layer_of(rng, weights="per_size", sizes=(2,)).linear
    with pytest.raises(ValueError, match="weights is 'per_size'; rows of the graph"):
        sized.map_shared(x, plan)


@pytest.mark.unchecked
def test_dense_features_that_do_not_fit_are_refused(rng):
    layer, rooted = linear(rng, {2: 3, 1: 2}, {2: 4}), linear(rng, {2: 3}, {2: 4}, rooted=True)
    x, nodes = normal(rng, 5, 5, 3), normal(rng, 5, 2)
    cases = [
        (layer, {"pairs": x, "nodes": nodes[:4]}, r"nodes has shape \(4, 2\); expected \(5, 2\)"),
        (layer, {"pairs": x[:4], "nodes": nodes}, r"expected \(4, 4, 3\) for subgraphs of 4 nodes"),
        (layer, {"pairs": x[0], "nodes": nodes}, r"expected \(..., m, m, channels\), or a plan"),
        (layer, {"pairs": x, "nodes": nodes, "root": 1}, "root is given; the layer expects none"),
        (layer, {"pairs": x, "nodes": nodes, "size": 4}, "with size=4"),
        (rooted, {"pairs": x, "root": 5}, "root has entries from 5 to 5; expected 0 to 4"),
        (rooted, {"pairs": x, "root": torch.tensor([1, 2])}, r"root has shape \(2,\)"),
        (linear(rng, {0: 2}, {2: 1}), {"scalars": normal(rng, 2)}, "size is None; scalars alone"),
        (rooted, {"pairs": x, "root": 0, "plan": ragged_plan()}, "root, size: expected none with"),
    ]
    for module, given, message in cases:
        with pytest.raises(ValueError, match=message):
            module(**given)
    with pytest.raises(TypeError, match=r"root has dtype torch.int32; expected torch.int64"):
        rooted(x, root=torch.tensor(1, dtype=torch.int32))


@pytest.mark.unchecked
def test_coefficients_that_do_not_fit_are_refused(rng):
    layer = linear(rng, {2: 3}, {2: 4})
    with pytest.raises(ValueError, match=r"coefficients has \(1, 1\); the layer maps \(2, 2\)"):
        layer.set_coefficients({(1, 1): torch.zeros(2, 3, 4)})
    with pytest.raises(ValueError, match=r"has shape \(14, 3, 4\); expected \(15, 3, 4\)"):
        layer.set_coefficients({(2, 2): torch.zeros(14, 3, 4)})
    several = linear(rng, {2: 3, 1: 2}, {2: 4})
    before = several.weight["2_2"].clone()
    with pytest.raises(ValueError, match=r"coefficients\[\(1, 2\)\] has shape"):
        several.set_coefficients({(2, 2): torch.zeros(15, 3, 4), (1, 2): torch.zeros(4, 2, 4)})
    assert torch.equal(several.weight["2_2"], before)
    with pytest.raises(ValueError, match='size is 3; expected None with weights="shared"'):
        layer.set_coefficients({}, size=3)
    sized = PermutationLinear({2: 1}, {2: 1}, weights="per_size", sizes=(1, 2))
    with pytest.raises(ValueError, match="size is None"):
        sized.coefficients()
    with pytest.raises(ValueError, match="size is 3; expected one of the sizes"):
        sized.set_coefficients({}, size=3)


def test_layers_print_what_they_are():
    layer = SubgraphLayer(*CHANNELS, aggregation="sum", weights="per_size", sizes=(2, 1))
    assert "aggregation='sum', residual=False" in repr(layer)
    assert "{2: 3, 1: 2, 0: 5}, {2: 4, 1: 6, 0: 2}, rooted=False" in repr(layer)
    assert "sizes=(1, 2)" in repr(layer)
    assert "heads=2" in repr(SubgraphLayer({2: 2}, {2: 2}, aggregation="attention", heads=2))
    assert "{2: 3}" in repr(FeatureBatchNorm({2: 3}))
    assert "{2: 3}" in repr(FeatureGraphNorm({2: 3}))


@pytest.mark.gpu
@layers
def test_layers_on_a_gpu(options, rng):
    layer = layer_of(rng, **options)
    plan = POLICIES["ego rooted"](random_graphs(rng))
    x = features(rng, graph_rows(plan))
    expected = layer(*x, plan=plan)
    found = layer.cuda()(*(rows.cuda() for rows in x), plan=plan.to("cuda"))
    assert error([rows.cpu() for rows in found], expected) < 1e-12
    assert len(local_rows(plan)) == 3
