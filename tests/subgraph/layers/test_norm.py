"""Norms, beside those of torch and sums by hand."""

import pytest
import torch
from torch import nn

from eqlib.subgraph import FeatureBatchNorm, FeatureGraphNorm, Features, Pointwise, extract
from eqlib.subgraph.layers.norm import _BatchNorm
from tests.subgraph.batches import POLICIES, features, graph_rows, random_graphs
from tests.subgraph.maps.stack import normal, randomised

CHANNELS = {2: 3, 1: 2, 0: 5}
levels = pytest.mark.parametrize("local", [False, True], ids=["graph", "subgraphs"])


def kinds_of(plan, local):
    """Which rows are of each kind, per order."""
    first, second = (plan.row, plan.column) if local else plan.pair_index
    return {2: [first == second, first != second], 1: [...], 0: [...]}


def rows_of(rng, plan, local):
    x = features(rng, graph_rows(plan))
    return extract(x, plan) if local else x


@levels
def test_batch_norm_is_that_of_torch_for_each_kind(local, rng):
    plan = POLICIES["ego"](random_graphs(rng))
    norm = randomised(FeatureBatchNorm(CHANNELS), rng).double()
    theirs = {
        order: [nn.BatchNorm1d(CHANNELS[order]).double() for _ in kinds]
        for order, kinds in kinds_of(plan, local).items()
    }
    for order, parts in theirs.items():
        for kind, part in enumerate(parts):
            ours = norm.norms[str(order)]
            part.load_state_dict(
                part.state_dict() | {"weight": ours.weight[kind], "bias": ours.bias[kind]}
            )
    for training in (True, True, False):
        norm.train(training)
        x = rows_of(rng, plan, local)
        found = norm(*x, plan=plan, local=local).by_order()
        for order, rows in x.by_order().items():
            for part, chosen in zip(theirs[order], kinds_of(plan, local)[order], strict=True):
                expected = part.train(training)(rows[chosen])
                torch.testing.assert_close(found[order][chosen], expected)
    for order, parts in theirs.items():
        for name in ("running_mean", "running_var"):
            expected = torch.stack([getattr(part, name) for part in parts])
            torch.testing.assert_close(getattr(norm.norms[str(order)], name), expected)


@pytest.mark.parametrize("norm", [FeatureBatchNorm, FeatureGraphNorm])
def test_norms_start_anew(norm, rng):
    fresh, plan = norm(CHANNELS), POLICIES["ego"](random_graphs(rng))
    used = randomised(norm(CHANNELS), rng)
    used(*(rows.float() for rows in rows_of(rng, plan, local=False)), plan=plan)
    used.reset_parameters()
    for name, value in fresh.state_dict().items():
        assert torch.equal(used.state_dict()[name], value), name


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_form_for_compilation_is_the_same(training, rng):
    kind, x = torch.tensor([0, 1, 1, 0, 1]), normal(rng, 5, 3)
    norms = [_BatchNorm(2, 3, 1e-5, 0.1).double().train(training) for _ in range(2)]
    norms[1].load_state_dict(randomised(norms[0], rng).state_dict())
    for _ in range(2):
        torch.testing.assert_close(norms[0](x, kind), norms[1]._without_splitting(x, kind))
    for left, right in zip(norms[0].buffers(), norms[1].buffers(), strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("split", [True, False], ids=["split", "whole"])
def test_a_kind_with_one_row_keeps_to_the_running_statistics(split, rng):
    norm = _BatchNorm(2, 3, 1e-5, 0.1).double()
    x = normal(rng, 4, 3)
    call = norm if split else norm._without_splitting
    y = call(x, torch.tensor([1, 1, 0, 1]))
    torch.testing.assert_close(y[2], x[2] / (1 + 1e-5) ** 0.5)
    assert torch.equal(norm.running_mean[0], torch.zeros(3).double())
    assert (norm.running_mean[1] != 0).all()
    assert call(x[:0], torch.zeros(0).long()).shape == (0, 3)


@pytest.mark.parametrize("policy", ["ego", "whole"])
@levels
def test_graph_norm_by_hand(policy, local, rng):
    plan = POLICIES[policy](random_graphs(rng))
    norm = randomised(FeatureGraphNorm(CHANNELS), rng).double()
    x = rows_of(rng, plan, local)
    found = norm(*x, plan=plan, local=local).by_order()
    of_pair = plan.graph[plan.subgraph[plan.row]] if local else plan.batch[plan.pair_index[0]]
    of_node = plan.graph[plan.subgraph] if local else plan.batch
    of_scalar = plan.graph if local else plan.batch
    if policy == "whole":
        assert torch.equal(found.pop(0), x.scalars)
    for order, rows in found.items():
        part = norm.norms[str(order)]
        graph = (of_scalar, of_node, of_pair)[order]
        for kind, chosen in enumerate(kinds_of(plan, local)[order]):
            of_kind = torch.ones_like(graph, dtype=torch.bool) if chosen is ... else chosen
            for g in graph.unique():
                here = of_kind & (graph == g)
                if not here.any():
                    continue
                before = x.by_order()[order][here]
                centred = before - part.mean_scale[kind] * before.mean(0)
                scaled = centred / (centred.square().mean(0) + 1e-5).sqrt()
                expected = scaled * part.weight[kind] + part.bias[kind]
                torch.testing.assert_close(rows[here], expected)


@pytest.mark.parametrize("norm", [FeatureBatchNorm, FeatureGraphNorm])
def test_norms_have_all_derivatives(norm, rng):
    plan = POLICIES["ego"](random_graphs(rng, (3, 2), density=0.8))
    module = randomised(norm({2: 2, 1: 1}), rng).double()
    x = features(rng, graph_rows(plan), (2, 1, 1))
    inputs = (x.pairs.requires_grad_(), x.nodes.requires_grad_())
    call = lambda *x: tuple(module(*x, plan=plan).by_order().values())  # noqa: E731
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


def test_a_module_acts_on_what_there_is(rng):
    act = Pointwise(nn.ELU())
    x = Features(normal(rng, 3, 2), None, normal(rng, 1, 4))
    found = act(*x, plan=None)
    assert torch.equal(found.pairs, nn.functional.elu(x.pairs))
    assert found.nodes is None


@pytest.mark.parametrize("norm", [FeatureBatchNorm, FeatureGraphNorm])
def test_half_precision_keeps_statistics_in_float32(norm, rng):
    plan = POLICIES["ego"](random_graphs(rng))
    x = features(rng, graph_rows(plan))
    exact, half = norm(CHANNELS).double(), norm(CHANNELS).to(torch.bfloat16)
    found = half(*(rows.to(torch.bfloat16) for rows in x), plan=plan)
    for left, right in zip(found, exact(*x, plan=plan), strict=True):
        assert left.dtype == torch.bfloat16
        torch.testing.assert_close(left.double(), right, rtol=2e-2, atol=5e-2)


@pytest.mark.parametrize(
    ("norm", "others"),
    [(FeatureBatchNorm, ["running_mean", "running_var"]), (FeatureGraphNorm, ["mean_scale"])],
    ids=["batch", "graph"],
)
def test_weights_keep_their_names_and_shapes(norm, others):
    """Files of trained networks hold them."""
    found = {name: tuple(value.shape) for name, value in norm({1: 2, 2: 3}).state_dict().items()}
    names = ["weight", "bias", *others]
    assert found == {
        f"norms.{order}.{name}": shape
        for order, shape in ((2, (2, 3)), (1, (1, 2)))
        for name in names
    }


@pytest.mark.unchecked
@pytest.mark.parametrize("norm", [FeatureBatchNorm, FeatureGraphNorm])
def test_bad_arguments_are_refused(norm, rng):
    plan = POLICIES["ego"](random_graphs(rng))
    x = features(rng, graph_rows(plan))
    with pytest.raises(ValueError, match="channels is empty"):
        norm({})
    with pytest.raises(ValueError, match="scalars is given; the layer has no channels of order 0"):
        norm({2: 3, 1: 2})(*x, plan=plan)
    with pytest.raises(ValueError, match="rows on the level of the subgraphs"):
        norm(CHANNELS).double()(*x, plan=plan, local=True)
