"""The layer on graphs: its lean form, its activation, and what it is on whole graphs."""

import pytest
import torch
from torch import nn

from eqlib.subgraph import (
    Features,
    PermutationLinear,
    SubgraphLayer,
    aggregate,
    ego_plan,
    extract,
    pair_features,
)
from tests.subgraph.batches import (
    POLICIES,
    ROOTED,
    error,
    features,
    graph_rows,
    random_graphs,
)
from tests.subgraph.maps.stack import randomised

policies = pytest.mark.parametrize("policy", list(POLICIES))
CHANNELS = ({2: 3, 1: 2, 0: 5}, {2: 4, 1: 3, 0: 2})
SAME = {torch.float64: 1e-12, torch.float32: 1e-5}


def layer_of(rng, *channels, dtype=torch.float64, **options):
    return randomised(SubgraphLayer(*(channels or CHANNELS), **options), rng).to(dtype)


def with_weights_of(layer, **options):
    """Return a layer with other options and the same weights."""
    linear = layer.linear
    other = SubgraphLayer(
        linear.channels_in,
        linear.channels_out,
        **{"rooted": linear.rooted, "aggregation": layer.how, **options},
    ).to(next(layer.parameters()).dtype)
    other.linear.load_state_dict(linear.state_dict())
    return other


@policies
@pytest.mark.parametrize("aggregation", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_lean_form_equals_extraction_map_and_aggregation(policy, aggregation, dtype, rng):
    plan = POLICIES[policy](random_graphs(rng))
    exact = layer_of(rng, rooted=policy in ROOTED, aggregation=aggregation)
    full = with_weights_of(exact, activation=nn.Identity())
    assert (exact.lean, full.lean) == (True, False)
    x = features(rng, graph_rows(plan))
    expected = full(*x, plan=plan)
    by_hand = aggregate(full.linear(*extract(x, plan), plan=plan), plan, aggregation)
    assert error(expected, by_hand) == 0
    found = exact.to(dtype)(*(rows.to(dtype) for rows in x), plan=plan)
    assert error(found, expected) < SAME[dtype]


@pytest.mark.parametrize("p", [0, 1, 2])
@pytest.mark.parametrize("q", [0, 1, 2])
@pytest.mark.parametrize("aggregation", ["mean", "sum"])
def test_the_lean_form_of_one_order(p, q, aggregation, rng):
    plan = POLICIES["ego rooted"](random_graphs(rng))
    lean = layer_of(rng, {p: 3}, {q: 4}, rooted=True, aggregation=aggregation)
    x = features(rng, graph_rows(plan), (3, 3, 3)).by_order()[p]
    given = {("scalars", "nodes", "pairs")[p]: x}
    full = with_weights_of(lean, activation=nn.Identity())
    found, expected = lean(**given, plan=plan), full(**given, plan=plan)
    assert list(found.by_order()) == [q]
    assert error(found, expected) < 1e-12


@pytest.mark.parametrize(
    "options",
    [{"weights": "per_size", "sizes": (1, 2, 4)}, {"weights": "size_embedding"}],
    ids=["per_size", "size_embedding"],
)
def test_weights_by_size_act_in_each_subgraph(options, rng):
    plan = POLICIES["ego"](random_graphs(rng))
    layer = layer_of(rng, **options)
    assert not layer.lean
    x = features(rng, graph_rows(plan))
    expected = aggregate(layer.linear(*extract(x, plan), plan=plan), plan)
    assert error(layer(*x, plan=plan), expected) == 0


@policies
def test_an_activation_acts_before_copies_are_joined(policy, rng):
    plan = POLICIES[policy](random_graphs(rng))
    layer = layer_of(rng, rooted=policy in ROOTED, activation=nn.ELU())
    x = features(rng, graph_rows(plan))
    local = layer.linear(*extract(x, plan), plan=plan)
    acted = Features(*(nn.functional.elu(rows) for rows in local))
    assert error(layer(*x, plan=plan), aggregate(acted, plan)) < 1e-14
    # control: after joining is not the same, where subgraphs overlap
    after = Features(*(nn.functional.elu(rows) for rows in aggregate(local, plan)))
    assert (error(layer(*x, plan=plan), after) > 1e-2) == (policy != "whole")


def test_on_whole_graphs_it_is_the_dense_linear_map(rng):
    graphs = random_graphs(rng)
    plan = POLICIES["whole"](graphs)
    x = features(rng, graph_rows(plan))
    layer = layer_of(rng)
    found = layer(*x, plan=plan)
    first_pair = 0
    for graph in range(graphs.num_graphs):
        nodes = (graphs.batch == graph).nonzero().flatten()
        m = len(nodes)
        pairs = slice(first_pair, first_pair := first_pair + m * m)
        alone = layer.linear(x.pairs[pairs].reshape(m, m, 3), x.nodes[nodes], x.scalars[graph])
        torch.testing.assert_close(found.pairs[pairs].reshape(m, m, 4), alone.pairs)
        torch.testing.assert_close(found.nodes[nodes], alone.nodes)
        torch.testing.assert_close(found.scalars[graph], alone.scalars)


def test_without_roots_the_root_mark_changes_nothing(rng):
    graphs = random_graphs(rng)
    layer = layer_of(rng)
    plain, marked = POLICIES["ego"](graphs), POLICIES["ego rooted"](graphs)
    x = features(rng, graph_rows(plain))
    assert error(layer(*x, plan=plain), layer(*x, plan=marked)) == 0


def test_residuals_add_the_input(rng):
    plan = POLICIES["ego"](random_graphs(rng))
    layer = layer_of(rng, {2: 3, 1: 2, 0: 5}, {2: 3, 1: 2}, residual=True)
    x = features(rng, graph_rows(plan))
    bare = with_weights_of(layer)(*x, plan=plan)
    found = layer(*x, plan=plan)
    assert torch.equal(found.pairs, bare.pairs + x.pairs)
    assert torch.equal(found.nodes, bare.nodes + x.nodes)
    assert found.scalars is None


def test_layers_follow_each_other(rng):
    plan = POLICIES["ego rooted"](random_graphs(rng))
    first = layer_of(rng, {2: 3}, {2: 4, 1: 3, 0: 2}, rooted=True)
    second = layer_of(rng, {2: 4, 1: 3, 0: 2}, {0: 6}, rooted=True)
    x = features(rng, graph_rows(plan))
    assert second(*first(x.pairs, plan=plan), plan=plan).scalars.shape == (plan.num_nodes, 6)


@pytest.mark.parametrize("sizes", [(), (0,), (0, 0), (1,), (1, 0, 1), (2,)], ids=str)
@policies
def test_empty_and_tiny_graphs(policy, sizes, rng):
    plan = POLICIES[policy](random_graphs(rng, sizes))
    x = features(rng, graph_rows(plan))
    for options in ({}, {"activation": nn.Tanh()}, {"aggregation": "attention"}):
        found = layer_of(rng, rooted=policy in ROOTED, **options)(*x, plan=plan)
        assert [len(rows) for rows in found] == list(graph_rows(plan))
        assert all(rows.isfinite().all() for rows in found)


def test_directions_of_edges_change_the_features_and_not_the_plan():
    """Ego nets follow edges both ways, so that only pair features know directions."""
    edges = torch.tensor([[0, 1, 2], [1, 2, 3]])
    plans = [ego_plan(edge_index, when_dearer="ignore") for edge_index in (edges, edges.flip(0))]
    assert all(
        torch.equal(a, b) for a, b in zip(*plans, strict=True) if isinstance(a, torch.Tensor)
    )
    there, back = (pair_features(plans[0], edge_index) for edge_index in (edges, edges.flip(0)))
    assert not torch.equal(there, back)
    torch.testing.assert_close(there[plans[0].slot_transpose], back)


def test_reset_parameters_draws_from_the_generator():
    layer = SubgraphLayer({2: 2}, {2: 2}, aggregation="attention")
    drawn = []
    for seed in (0, 0, 1):
        layer.reset_parameters(torch.Generator().manual_seed(seed))
        drawn.append(torch.cat([value.flatten() for value in layer.parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_linear_layers_of_the_subgraphs_are_public():
    assert isinstance(SubgraphLayer({2: 2}, {1: 3}).linear, PermutationLinear)
