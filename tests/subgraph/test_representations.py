"""Layers on subgraphs are checked as they are, by their signatures."""

import copy
import pickle

import pytest
import torch
from torch import nn

import eqlib
from eqlib.subgraph import (
    FeatureBatchNorm,
    FeatureGraphNorm,
    FeatureRows,
    Features,
    PlanIndex,
    Pointwise,
    SubgraphAttention,
    SubgraphLayer,
    aggregate,
    extract,
    pair_features,
    pool,
)
from eqlib.symmetry import (
    BatchIndex,
    EdgeIndex,
    Element,
    NodeOrder,
    Permutations,
    Scalar,
    Signature,
)
from tests.subgraph.batches import (
    POLICIES,
    ROOTED,
    features,
    graph_rows,
    local_rows,
    ragged_plan,
    random_graphs,
)
from tests.subgraph.maps.stack import normal, randomised

CHANNELS = {2: 3, 1: 2, 0: 5}
OPTIONS = {
    "lean": {},
    "sum": {"aggregation": "sum"},
    "activation": {"activation": nn.Tanh()},
    "attention": {"aggregation": "attention", "heads": 2},
    "per size": {"weights": "per_size", "sizes": (1, 3)},
    "size embedding": {"weights": "size_embedding"},
}
policies = pytest.mark.parametrize("policy", list(POLICIES))
levels = pytest.mark.parametrize("local", [False, True], ids=["graph", "subgraphs"])
ROWS = {"pairs": FeatureRows(2), "nodes": FeatureRows(1), "scalars": FeatureRows(0)}
LOCAL = {name: FeatureRows(rows.order, local=True) for name, rows in ROWS.items()}


def inputs_of(rng, plan, local=False):
    x = features(rng, (local_rows if local else graph_rows)(plan))
    return {**x._asdict(), "plan": plan}


def ego(rng):
    return POLICIES["ego"](random_graphs(rng))


def check(layer, inputs, signature=None):
    """The largest error, where the nodes have moved."""
    report = eqlib.check(layer, inputs, signature)
    assert "permutation" in report.kinds
    assert report.unchecked == ()
    return report.max


@policies
@pytest.mark.parametrize("options", list(OPTIONS.values()), ids=list(OPTIONS))
def test_subgraph_layers(policy, options, rng):
    layer = SubgraphLayer(CHANNELS, {2: 4, 0: 2}, rooted=policy in ROOTED, **options)
    inputs = inputs_of(rng, POLICIES[policy](random_graphs(rng)))
    assert check(randomised(layer, rng).double(), inputs) < 1e-12


@pytest.mark.parametrize("policy", ["ego rooted", "deleted", "whole"])
def test_attention(policy, rng):
    layer = randomised(SubgraphAttention(CHANNELS, rooted=policy in ROOTED), rng).double()
    inputs = inputs_of(rng, POLICIES[policy](random_graphs(rng)), local=True)
    assert check(layer, inputs) < 1e-12


@levels
@pytest.mark.parametrize("policy", ["ego", "whole"])
@pytest.mark.parametrize("norm", [FeatureBatchNorm, FeatureGraphNorm])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_norms(norm, policy, local, training, rng):
    layer = randomised(norm(CHANNELS), rng).double().train(training)
    plan = POLICIES[policy](random_graphs(rng))
    assert check(layer, {**inputs_of(rng, plan, local), "local": local}) < 1e-12


def test_modules_that_act_entry_by_entry(rng):
    plan = ego(rng)
    x = features(rng, graph_rows(plan))
    for given in ({"pairs": x.pairs}, {"pairs": x.pairs, "nodes": x.nodes, "scalars": None}):
        assert check(Pointwise(nn.ELU()), {**given, "plan": plan}) < 1e-12
    mixed = Pointwise(nn.Softmax(0))  # over the rows: no permutation is seen
    assert check(mixed, {"nodes": x.nodes, "plan": plan}) < 1e-12
    running = Pointwise(RunningSum())  # control
    assert check(running, {"nodes": x.nodes, "plan": plan}) > 1e-2


class RunningSum(nn.Module):
    def forward(self, rows):
        return rows.cumsum(0)


@policies
def test_functions(policy, rng):
    plan = POLICIES[policy](random_graphs(rng))
    given, local = inputs_of(rng, plan), inputs_of(rng, plan, local=True)
    plans = {"plan": PlanIndex()}
    inward = Signature(Permutations(), {**ROWS, **plans}, LOCAL)
    outward = Signature(Permutations(), {**LOCAL, **plans}, ROWS)
    pooled = Signature(Permutations(), {**ROWS, **plans}, Scalar())
    gather = lambda plan, **x: extract(Features(**x), plan)  # noqa: E731
    scatter = lambda plan, **x: aggregate(Features(**x), plan)  # noqa: E731
    assert check(gather, given, inward) < 1e-12
    assert check(scatter, local, outward) < 1e-12
    assert check(lambda plan, **x: pool(Features(**x), plan), given, pooled) < 1e-12


def test_a_network_that_takes_a_plan_and_axes_of_nodes(rng):
    graphs = random_graphs(rng)
    first, second = SubgraphLayer({2: 2, 1: 4}, CHANNELS), SubgraphLayer(CHANNELS, {1: 1})
    layers = randomised(nn.ModuleList([first, second]), rng).double()

    def net(x, edge_index, batch, plan):
        pairs = pair_features(plan, edge_index, dtype=x.dtype)
        return layers[1](*layers[0](pairs, x, plan=plan), plan=plan).nodes

    inputs = {
        "x": normal(rng, graphs.num_nodes, 4),
        "edge_index": graphs.edge_index,
        "batch": graphs.batch,
        "plan": POLICIES["ego"](graphs),
    }
    nodes = Scalar() * NodeOrder(-2)
    kinds = {"x": nodes, "edge_index": EdgeIndex(), "batch": BatchIndex(), "plan": PlanIndex()}
    assert check(net, inputs, Signature(Permutations(), kinds, nodes)) < 1e-12
    inputs["x"] = inputs["x"][1:]
    with pytest.raises(ValueError, match="the numbers of nodes differ: x has 15, batch has 16"):
        check(net, inputs, Signature(Permutations(), kinds, nodes))


class Changed(nn.Module):
    """A layer with a mistake."""

    def __init__(self, mistake, rng):
        super().__init__()
        self.layer = randomised(SubgraphLayer({2: 3, 1: 2}, {2: 3, 1: 2}), rng).double()
        self.mistake = mistake
        self.signature = self.layer.signature

    def forward(self, pairs, nodes, *, plan):
        return self.layer(*self.mistake(pairs, nodes, plan), plan=plan)


def upper_triangle(pairs, nodes, plan):
    """As where a graph is stored by its pairs (i, j) with i < j alone."""
    first, second = plan.pair_index
    turned = pairs[plan.slot_transpose]
    return torch.where((first < second)[:, None], pairs, turned), nodes


def other_transpose(pairs, nodes, plan):
    return pairs + pairs[plan.slot_transpose.roll(1)], nodes


def weights_of_nodes(pairs, nodes, plan):
    return pairs, nodes * torch.linspace(1, 2, plan.num_nodes, dtype=nodes.dtype)[:, None]


def weights_of_pairs(pairs, nodes, plan):
    return pairs * torch.linspace(1, 2, plan.num_slots, dtype=pairs.dtype)[:, None], nodes


def weights_of_subgraphs(pairs, nodes, plan):
    weight = torch.linspace(1, 2, plan.num_subgraphs, dtype=nodes.dtype)
    local = extract(Features(nodes=nodes), plan).nodes * weight[plan.subgraph][:, None]
    return pairs, aggregate(Features(nodes=local), plan).nodes


def both_transposes(pairs, nodes, plan):
    return pairs + 2 * pairs[plan.slot_transpose], nodes


def test_control_what_depends_on_the_order_is_seen(rng):
    plan = ego(rng)
    x = features(rng, graph_rows(plan))
    inputs = {"pairs": x.pairs, "nodes": x.nodes, "plan": plan}
    for mistake in (
        upper_triangle,
        other_transpose,
        weights_of_nodes,
        weights_of_pairs,
        weights_of_subgraphs,
    ):
        assert check(Changed(mistake, rng), inputs) > 1e-2, mistake.__name__
    assert check(Changed(both_transposes, rng), inputs) < 1e-12


def test_control_a_plan_that_stays_as_it_was_is_seen(rng):
    layer = randomised(SubgraphLayer({2: 3, 1: 2}, {2: 3}), rng).double()
    plan = ego(rng)
    x = features(rng, graph_rows(plan))
    unmoved = lambda pairs, nodes, **_: layer(pairs, nodes, plan=plan)  # noqa: E731
    inputs = {"pairs": x.pairs, "nodes": x.nodes, "plan": plan}
    assert eqlib.check(unmoved, inputs, layer.signature).max > 1e-2


def test_layers_that_write_to_the_plan_leave_the_inputs_alone(rng):
    layer = randomised(SubgraphLayer({1: 2}, {1: 2}), rng).double()

    def writing(nodes, *, plan):
        found = layer(nodes=nodes, plan=plan)
        plan.node.zero_()
        return found

    plan = ego(rng)
    before, x = plan.node.clone(), features(rng, graph_rows(plan))
    inputs = {"nodes": x.nodes, "plan": plan}
    assert check(writing, inputs, layer.signature) < 1e-12
    assert torch.equal(plan.node, before)


def test_signatures_print_and_are_copied():
    signature = SubgraphLayer({2: 3, 1: 2}, {2: 4}).signature
    assert repr(signature) == (
        "Signature(\n"
        "    Permutations(),\n"
        "    inputs={\n"
        "        'pairs': FeatureRows(2),\n"
        "        'nodes': FeatureRows(1),\n"
        "        'plan': PlanIndex(),\n"
        "    },\n"
        "    outputs={\n"
        "        'pairs': FeatureRows(2),\n"
        "    },\n"
        ")"
    )
    assert pickle.loads(pickle.dumps(signature)) == signature == copy.deepcopy(signature)
    assert (
        repr(FeatureBatchNorm({2: 3}).signature.inputs["pairs"]) == "FeatureRows(2, local='local')"
    )
    assert repr(FeatureRows(0, plan="coarse")) == "FeatureRows(0, plan='coarse')"


def test_a_report_keeps_no_plan(rng):
    layer, plan = SubgraphLayer({1: 2}, {1: 2}).double(), ego(rng)
    inputs = {"nodes": features(rng, graph_rows(plan)).nodes, "plan": plan}
    assert eqlib.check(layer, inputs).signature.inputs["nodes"].bound is None


@pytest.mark.unchecked
def test_arguments_that_do_not_fit_are_refused(rng):
    plan = ego(rng)
    layer, x = SubgraphLayer({2: 3}, {2: 3}).double(), features(rng, graph_rows(plan))
    cases = [
        ({"pairs": x.pairs}, ValueError, "input 'plan' is missing; the signature has pairs, plan"),
        ({"pairs": x.pairs, "plan": None}, TypeError, "input 'plan': expected a SubgraphPlan"),
        ({"pairs": x.pairs, "plan": x.pairs}, TypeError, r"such as ego_plan.*, got Tensor"),
        ({"pairs": x.pairs[1:], "plan": plan}, ValueError, r"input 'pairs': expected \d+ rows for"),
        ({"pairs": x, "plan": plan}, TypeError, "input 'pairs': expected a tensor, got Features"),
    ]
    for inputs, kind, message in cases:
        with pytest.raises(kind, match=message):
            eqlib.check(layer, inputs)
    with pytest.raises(TypeError, match=r"input 'plan': expected a SubgraphPlan, .* got NoneType"):
        eqlib.check(Pointwise(nn.ELU()), {"pairs": x.pairs})
    with pytest.raises(ValueError, match="order is 3; expected 2"):
        FeatureRows(3)
    turn = Element(permutation=torch.arange(plan.num_nodes))
    with pytest.raises(ValueError, match=r"FeatureRows\(2\): not bound to a plan; call .bind"):
        FeatureRows(2).act(turn, x.pairs)
    with pytest.raises(ValueError, match=r"outputs: 'plan' is PlanIndex\(\); only inputs can be"):
        Signature(Permutations(), {"plan": PlanIndex()}, {"plan": PlanIndex()})


def test_elements_without_permutations_change_nothing(rng):
    plan, x = ragged_plan(), normal(rng, 3, 2)
    assert PlanIndex().act(Element(), plan) is plan
    assert FeatureRows(2).act(Element(), x) is x


@pytest.mark.gpu
def test_layers_on_a_gpu(rng):
    plan = ego(rng).to("cuda")
    layer = randomised(SubgraphLayer(CHANNELS, CHANNELS), rng).double().cuda()
    x = features(rng, graph_rows(plan))
    inputs = {name: rows.cuda() for name, rows in x._asdict().items()}
    assert check(layer, {**inputs, "plan": plan}) < 1e-12
