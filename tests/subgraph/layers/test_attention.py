"""Aggregation by attention."""

import pytest
import torch

from eqlib.subgraph import Features, SubgraphAttention, SubgraphLayer, aggregate, extract
from tests.subgraph.batches import (
    POLICIES,
    error,
    features,
    graph_rows,
    local_rows,
    random_graphs,
)
from tests.subgraph.maps.stack import randomised

CHANNELS = {2: 4, 1: 2, 0: 6}


@pytest.mark.parametrize("heads", [1, 2])
def test_copies_are_weighed_by_the_softmax_of_their_scores(heads, rng):
    plan = POLICIES["ego"](random_graphs(rng))
    layer = randomised(SubgraphAttention(CHANNELS, heads=heads), rng).double()
    local = features(rng, local_rows(plan), (4, 2, 6))
    scores = layer.scores(*local, plan=plan)
    found = layer(*local, plan=plan)
    for rows, score, target, result in (
        (local.pairs, scores.pairs, plan.slot, found.pairs),
        (local.nodes, scores.nodes, plan.node, found.nodes),
        (local.scalars, scores.scalars, plan.owner, found.scalars),
    ):
        for index in range(len(result)):
            copies = target == index
            shares = score[copies].softmax(0).repeat_interleave(rows.shape[1] // heads, 1)
            torch.testing.assert_close(result[index], (shares * rows[copies]).sum(0))


def test_equal_scores_give_the_mean(rng):
    plan = POLICIES["ego rooted"](random_graphs(rng))
    layer = SubgraphAttention(CHANNELS, rooted=True).double()
    for weight in layer.scores.parameters():
        torch.nn.init.zeros_(weight)
    local = features(rng, local_rows(plan), (4, 2, 6))
    assert error(layer(*local, plan=plan), aggregate(local, plan)) < 1e-14


def test_what_one_subgraph_holds_stays_as_it_is(rng):
    plan = POLICIES["whole"](random_graphs(rng))
    layer = randomised(SubgraphAttention(CHANNELS, heads=2), rng).double()
    x = features(rng, graph_rows(plan), (4, 2, 6))
    local = extract(x, plan)
    assert error(layer(*(1e4 * rows for rows in local), plan=plan), [1e4 * r for r in x]) < 1e-12


def test_attention_depends_on_what_subgraphs_hold(rng):
    plan = POLICIES["ego"](random_graphs(rng))
    layer = randomised(SubgraphLayer({1: 2}, {1: 2}, aggregation="attention"), rng).double()
    x = 5 * features(rng, graph_rows(plan)).nodes
    mean = SubgraphLayer({1: 2}, {1: 2}).double()
    mean.linear.load_state_dict(layer.linear.state_dict())
    found, plain = layer(nodes=x, plan=plan), mean(nodes=x, plan=plan)
    assert error(Features(nodes=found.nodes), Features(nodes=plain.nodes)) > 1e-2


def test_gradients_reach_the_scores(rng):
    plan = POLICIES["ego"](random_graphs(rng))
    layer = randomised(SubgraphAttention(CHANNELS), rng).double()
    found = layer(*features(rng, local_rows(plan), (4, 2, 6)), plan=plan)
    sum(rows.square().sum() for rows in found).backward()
    # a node is the center of one ego net alone, so that the scores of scalars weigh nothing
    moved = {name for name, value in layer.named_parameters() if value.grad.abs().max() > 0}
    assert moved == {f"scores.weight.{p}_{q}" for p in (0, 1, 2) for q in (1, 2)}


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (({2: 3}, False, 2), ValueError, "heads is 2, which does not divide the 3 channels"),
        (({2: 3}, False, 0), ValueError, "heads is 0; expected at least 1"),
        (({2: 3}, False, 1.0), TypeError, "heads is 1.0; expected an integer"),
        (({},), ValueError, "channels is empty"),
    ],
    ids=["heads", "none", "float", "channels"],
)
def test_bad_arguments_are_refused(arguments, kind, message):
    with pytest.raises(kind, match=message):
        SubgraphAttention(*arguments)
