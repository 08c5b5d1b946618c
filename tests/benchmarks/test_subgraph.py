"""The layers that are timed against each other compute the same."""

import csv
from dataclasses import replace
from functools import partial

import pytest
import torch

from benchmarks.answers import DisagreementError
from benchmarks.measure import compare
from benchmarks.run import main
from benchmarks.subgraph import (
    BENCHMARKS,
    LocalStacked,
    _made,
    graph_features,
    local_features,
    make_plan,
    read_plan,
)
from benchmarks.subgraph_epoch import main as measure_epochs
from benchmarks.subgraph_peers import (
    concatenated_layer,
    looped_layer,
    map_weights,
    mean_rows,
    stacked_layer,
)
from eqlib.subgraph import (
    Features,
    PermutationLinear,
    aggregate,
    ego_plan,
    extract,
)
from tests.benchmarks.toys import CPU

PEERS = {"stacked": stacked_layer, "concatenated": concatenated_layer, "looped": looped_layer}
peers = pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS.keys())


def uneven_plan():
    """Egos of one to five nodes, in two graphs."""
    edges = torch.tensor([[0, 0, 0, 0, 1, 5, 6], [1, 2, 3, 4, 2, 6, 7]])
    batch = torch.tensor([0] * 5 + [1] * 4)  # the last node is alone
    both = torch.cat([edges, edges.flip(0)], 1)
    return ego_plan(both, batch, num_graphs=2, when_dearer="ignore")


def layer_and_inputs(rng, channels=3):
    torch.manual_seed(0)
    layer = PermutationLinear({2: channels, 1: channels}, {2: 4, 1: 4}).double()
    for parameter in layer.parameters():  # the biases too
        torch.nn.init.normal_(parameter)
    inputs = local_features(uneven_plan(), channels, rng)
    for name in ("pairs", "nodes"):
        inputs[name] = inputs[name].double().requires_grad_()
    return layer, inputs


@peers
def test_peers_agree_in_values_and_gradients(peer, rng):
    layer, inputs = layer_and_inputs(rng)
    wanted = [inputs["pairs"], inputs["nodes"], *layer.parameters()]
    answers = []
    for found in (tuple(layer(**inputs))[:2], peer(**inputs, weights=map_weights(layer))):
        seeds = [torch.linspace(-1, 2, part.numel()).double().view_as(part) for part in found]
        answers.append([*found, *torch.autograd.grad(found, wanted, seeds)])
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@peers
def test_peers_differ_where_a_weight_does(peer, rng):
    layer, inputs = layer_and_inputs(rng)
    weights = map_weights(layer)
    for k in range(20):
        moved = weights.pairs.clone()
        moved[k] += 1
        found = peer(**inputs, weights=weights._replace(pairs=moved))[0]
        assert (found - layer(**inputs).pairs).abs().max() > 1e-2


def test_means_of_copies_are_those_of_aggregate(rng):
    plan = uneven_plan()
    given = graph_features(plan, 3, rng)
    local = extract(Features(given["pairs"], given["nodes"]), plan)
    expected = aggregate(local, plan)
    found = mean_rows(local.pairs, plan.slot, plan.num_slots)
    torch.testing.assert_close(found, expected.pairs)
    torch.testing.assert_close(mean_rows(local.nodes, plan.node, 9), expected.nodes)


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_all_are_timed_and_agree(benchmark):
    features = local_features if benchmark.name == "permutation_linear" else graph_features

    def small(generator):
        return features(uneven_plan(), 5, generator)

    peers = {name: getattr(peer, "operation", peer) for name, peer in benchmark.peers.items()}
    rows = compare(replace(benchmark, problems={"small": small}, peers=peers), "small", CPU, 1)
    assert {row.note for row in rows} == {""}
    assert len(rows) == 2 * (len(benchmark.implementations) + len(peers))


def test_a_peer_of_another_plan_is_found_out():
    class Wrong(LocalStacked):
        def forward(self, pairs, nodes, plan):
            same = torch.arange(len(plan.transpose))
            return super().forward(pairs, nodes, plan._replace(transpose=same))

    problems = {"small": partial(local_features, uneven_plan(), 5)}
    benchmark = replace(BENCHMARKS[0], problems=problems, peers={"wrong": _made(Wrong)})
    with pytest.raises(DisagreementError, match="output 0 of wrong, forward differs"):
        compare(benchmark, "small", CPU, 1)


def test_made_graphs_have_the_egos_of_molecules():
    plan = make_plan(2)
    assert plan.num_graphs == 2
    assert plan.num_nodes == 36
    assert set(plan.sizes.tolist()) == {3, 4}


def test_without_data_nothing_is_timed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.run.find_fault", lambda tests: "")
    words = ["permutation_linear", "--problems", "MUTAG", "--device", "cpu"]
    assert main([*words, "--data-dir", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "not timed: mutag: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert measure_epochs(["--data-dir", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "subgraph_epoch: mutag: " in capsys.readouterr().err


@pytest.mark.data
def test_batches_of_data(data):
    plan = read_plan("MUTAG", 4, data / "graphs")
    assert plan.num_graphs == 4
    assert plan.policy.startswith("ego")


@pytest.mark.data
@pytest.mark.slow
def test_epochs_are_measured(data, tmp_path):
    words = ["--sets", "MUTAG", "--data-dir", str(data / "graphs"), "--out", str(tmp_path)]
    assert measure_epochs(words) == 0
    with (tmp_path / "subgraph_epoch.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["select_share"]) > 0
    with (tmp_path / "subgraph_growth.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 7
