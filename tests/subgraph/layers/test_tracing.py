"""Layers that others look at: modes and subclasses of tensors, tracing, devices without values."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from eqlib.subgraph import (
    FeatureBatchNorm,
    FeatureGraphNorm,
    Features,
    PermutationLinear,
    SubgraphLayer,
    SubgraphPlan,
    ego_plan,
    pool,
)
from tests.subgraph.batches import POLICIES, features, graph_rows, random_graphs
from tests.subgraph.maps.stack import normal, randomised

CHANNELS = ({2: 3, 1: 2, 0: 5}, {2: 4, 1: 6, 0: 2})


@pytest.fixture
def layer(rng):
    return randomised(SubgraphLayer(*CHANNELS), rng).double().requires_grad_(False)


@pytest.fixture
def plan(rng):
    return POLICIES["ego"](random_graphs(rng))


@pytest.fixture
def x(rng, plan):
    return features(rng, graph_rows(plan))


@pytest.mark.unchecked  # torch.jit has tensors for sizes
@pytest.mark.filterwarnings("ignore")  # and warns of itself and of what it keeps
def test_a_traced_graph_computes_what_the_layer_does(layer, plan, x):
    def call(*rows):
        return tuple(layer(*rows, plan=plan))

    call(*x)
    twice = [2 * rows for rows in x]
    for traced in (make_fx(call)(*x), torch.jit.trace(call, tuple(x), check_trace=False)):
        for found, expected in zip(traced(*twice), call(*twice), strict=True):
            torch.testing.assert_close(found, expected)


def test_products_are_counted(layer, plan, x):
    with FlopCounterMode(display=False) as counter:
        layer(*x, plan=plan)
    assert counter.get_total_flops() > 0


@pytest.mark.parametrize("inside", [True, False], ids=["mode", "tensors alone"])
def test_tensors_without_values(layer, plan, x, inside):
    expected = layer(*x, plan=plan)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fake = [mode.from_tensor(rows) for rows in x]
    if inside:
        with mode:
            found = layer(*fake, plan=plan)
    else:
        found = layer(*fake, plan=plan)
    assert [rows.shape for rows in found] == [rows.shape for rows in expected]


@pytest.mark.parametrize("norm", [FeatureBatchNorm, FeatureGraphNorm])
@pytest.mark.parametrize("options", [{}, {"activation": nn.ELU()}], ids=["lean", "activation"])
def test_shapes_on_a_device_without_values(norm, options, plan, x):
    def network():
        return SubgraphLayer(*CHANNELS, **options).double(), norm(CHANNELS[1]).double()

    with torch.device("meta"):
        first, second = network()
    shapes = plan.to("meta")
    found = second(*first(*(rows.to("meta") for rows in x), plan=shapes), plan=shapes)
    assert isinstance(found, Features)
    first, second = network()
    expected = second(*first(*x, plan=plan), plan=plan)
    assert [rows.shape for rows in found] == [rows.shape for rows in expected]
    assert pool(found, shapes).shape == pool(expected, plan).shape


def test_the_dense_form_on_a_device_without_values():
    with torch.device("meta"):
        found = PermutationLinear({2: 2}, {2: 3, 1: 4}, rooted=True)(torch.randn(5, 6, 6, 2))
    assert (found.pairs.shape, found.nodes.shape) == ((5, 6, 6, 3), (5, 6, 4))


def test_a_plan_without_values_is_shown(plan):
    assert "unknown" in repr(plan.to("meta"))


def share(plan):
    """Move the indices to memory that processes share, as workers of a DataLoader do."""
    for field in plan:
        if isinstance(field, torch.Tensor):
            field.share_memory_()


def test_a_plan_may_move_to_shared_memory(layer, rng):
    plan = ego_plan(
        torch.randint(400, (2, 800), generator=rng), num_nodes=400, when_dearer="ignore"
    )
    x = features(rng, graph_rows(plan))
    expected = layer(*x, plan=plan)
    share(plan)
    crowd = [torch.full((size,), -1) for size in (400, 800, 4000, 20000) for _ in range(50)]
    found = layer(*x, plan=plan)
    assert len(crowd) == 200
    for rows, others in zip(found, expected, strict=True):
        torch.testing.assert_close(rows, others)


def test_an_index_that_is_replaced_is_looked_at(layer, plan, x):
    layer(*x, plan=plan)
    plan.slot_transpose.data = torch.full_like(plan.slot_transpose, plan.num_slots)
    with pytest.raises(ValueError, match="transpose"):
        layer(*x, plan=plan)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("options", [{}, {"activation": nn.ELU()}], ids=["lean", "activation"])
def test_autocast_keeps_one_dtype_for_all_orders(options, dtype, rng, plan):
    layer = SubgraphLayer(*CHANNELS, **options)
    x = [normal(rng, *rows.shape).to(dtype) for rows in features(rng, graph_rows(plan))]
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(*x, plan=plan)
    assert {rows.dtype for rows in found} == {dtype}


@pytest.mark.unchecked
def test_what_is_no_plan_is_refused(layer, x, plan):
    for wrong in (None, torch.zeros(2, 3).long(), plan._asdict()):
        with pytest.raises(TypeError, match=r"plan is of type .*; expected a SubgraphPlan"):
            layer(*x, plan=wrong)
    assert isinstance(plan, SubgraphPlan)


@pytest.mark.unchecked
def test_what_is_no_feature_is_refused(layer, x, plan):
    with pytest.raises(TypeError, match=r"pairs is of type Features; .* layer\(\*features"):
        layer(Features(*x), plan=plan)
    with pytest.raises(TypeError, match="nodes is of type list; expected a tensor"):
        layer(x[0], x[1].tolist(), x[2], plan=plan)
    with pytest.raises(TypeError, match="features is of type Tensor; expected Features"):
        pool(x[0], plan)
    with pytest.raises(ValueError, match=r"pairs has shape \(\)"):
        pool(Features(torch.tensor(1.0)), plan)
