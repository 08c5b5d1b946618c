"""Cross-validation of networks on a small set: data, plan and figures of the whole way."""

import copy
import json

import pytest
import torch

from eqlib.models.graphs import DataOptions, GraphSeparation
from eqlib.models.graphs.networks import GIN, PPGN, SPEN
from eqlib.models.graphs.networks import base as networks
from eqlib.models.training import evaluate, train
from eqlib.models.training.configuration import load_config, parse_train
from eqlib.models.training.loop import Trainer, to_device
from tests.tolerances import EQUIVARIANCE

SHORT = ["--training.epochs", "3", "--training.batch_size", "20", "--training.evaluate_every", "1"]
SMALL = ["--network.width", "4", "--network.layers", "2", *SHORT]


def command(*options):
    words = ["--dataset", "mutag", "--model", "gin", *SMALL, *options]
    return parse_train("graphs", words).config


def task_of(text, **options):
    return GraphSeparation(DataOptions("mutag", **options), text)


def small(network, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return network(width=4, layers=2, node_types=3, outputs=2, **options)


@pytest.mark.parametrize("model", ["gin", "spen", "ppgn"])
def test_every_network_is_cross_validated(model, text, tmp_path):
    config = command("--model", model, "--folds", "2", "--data.protocol", "both")
    report = train(config, tmp_path / "run", data_dir=text)
    assert set(report["test"]) >= {
        *("accuracy_mean", "accuracy_std", "nested_accuracy_mean", "nested_accuracy_std")
    }
    assert report["dataset"] == "MUTAG"
    assert report["data"]["classes"] == [22, 21]
    assert report["data"]["majority"] == 22 / 43
    assert report["data"]["tested"] == 40
    assert ("plan" in report["data"]) == (model == "spen")
    assert report["activation_bytes"] > 0
    assert report["equivariance"]["float64"] < EQUIVARIANCE[torch.float64]
    settled = load_config(tmp_path / "run" / "fold-2-nested" / "config.yaml").network
    assert (settled["node_types"], settled["outputs"]) == (3, 2)
    nested = tmp_path / "run" / "fold-2-nested"
    expected = json.loads((nested / "report.json").read_text())["test"]
    assert evaluate(nested, data_dir=text) == expected


def test_interrupted_it_ends_with_the_same_figures(text, tmp_path, monkeypatch):
    config = command("--folds", "2", "--data.protocol", "both", "--training.checkpoint_every", "1")
    whole = train(config, tmp_path / "whole", data_dir=text)
    take, taken = Trainer._train_step, 0

    def interrupt(self, *arguments):
        nonlocal taken
        taken += 1
        if taken > 8:
            raise KeyboardInterrupt
        take(self, *arguments)

    monkeypatch.setattr(Trainer, "_train_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", data_dir=text)
    monkeypatch.undo()
    report = train(config, tmp_path / "run", resume=True, data_dir=text)
    assert report["test"] == whole["test"]
    assert report["data"] == whole["data"]


def test_a_single_fold_leaves_pictures(text, tmp_path):
    pytest.importorskip("matplotlib", reason="the picture needs the extra eqlib[plot]")
    report = train(command("--fold", "2"), tmp_path / "run", data_dir=text)
    assert set(report["test"]) == {"cross_entropy", "accuracy", "wrong"}
    assert (tmp_path / "run" / "predictions.png").stat().st_size > 10_000


def test_sizes_are_those_of_the_data(text):
    found = task_of(text).network_options({"node_types": None})
    assert found == {"node_types": 3, "outputs": 2, "nodes": 6}


def test_the_cheaper_policy_is_that_of_the_data(text):
    found = task_of(text).network_options({"policy": None, "hops": 1, "width": 4})
    assert found["policy"] in ("ego", "whole")
    given = command("--model", "spen", "--network.policy", "node_deleted")
    assert given.network["policy"] == "node_deleted"


def test_few_wrong_graphs_select_the_epoch_and_the_loss_among_equals(text):
    task = task_of(text)

    def wrong(accuracy, loss):
        values = {"accuracy": torch.tensor(accuracy), "cross_entropy": torch.tensor(loss)}
        return task.summarise(values)["wrong"]

    two = wrong([1.0, 0.0, 0.0, 1.0], [0.1, 0.1, 0.1, 0.1])
    one, costly = wrong([1.0, 1.0, 0.0, 1.0], [0.1] * 4), wrong([1.0, 1.0, 0.0, 1.0], [9e9] * 4)
    assert 1 < one < costly <= 2 < two


def test_a_plan_is_made_once_for_all_folds(text, monkeypatch):
    made = []
    make = networks.make_plan
    monkeypatch.setattr(networks, "make_plan", lambda *a: made.append(1) or make(*a))
    network = small(SPEN, policy="ego")
    for fold in (1, 2):
        task = task_of(text, fold=fold)
        splits = task.prepare(task.load(), network)
        for split in splits:
            assert split[torch.arange(3)]["plan"].num_graphs == 3
    assert len(made) == 1
    small_splits = task.prepare(task.load(), small(SPEN, policy="ego", hops=2))
    assert "plan" in small_splits.test[torch.arange(2)]
    assert len(made) == 2


@pytest.mark.parametrize("network", [GIN, PPGN], ids=["gin", "ppgn"])
def test_networks_without_subgraphs_have_no_plan(network, text):
    task = task_of(text)
    splits = task.prepare(task.load(), small(network))
    assert all("plan" not in split[torch.arange(2)] for split in splits)


def test_a_cached_plan_gives_the_answer_of_a_fresh_one(text):
    network = small(SPEN, policy="ego").double().eval()
    task = task_of(text)
    train_split = task.prepare(task.load(), network).train
    batch = train_split[torch.tensor([7, 2, 11])]
    fresh = {name: value for name, value in batch.items() if name != "plan"}
    with torch.no_grad():
        found, expected = (task.measures(network, part) for part in (batch, fresh))
    torch.testing.assert_close(found["cross_entropy"], expected["cross_entropy"])
    # control: the plan of other graphs of the same sizes is of use for none but those
    whole, rows = train_split.graphs, train_split.rows
    first, second = rows[whole.node_ptr.diff()[rows] == 6][:2].tolist()
    wrong = whole[torch.tensor([first])] | {"plan": whole[torch.tensor([second])]["plan"]}
    with pytest.raises(ValueError, match="expected the plan of this graph"):
        task.measures(network, wrong)


def test_a_batch_moves_with_its_plan(text):
    task = task_of(text)
    batch = task.prepare(task.load(), small(SPEN, policy="ego")).test[torch.arange(2)]
    moved = to_device(batch, torch.device("meta"), torch.float32)
    assert moved["plan"].node.device.type == moved["x"].device.type == "meta"


def test_part_and_selection_have_the_plan_of_their_graphs(text):
    network = small(SPEN, policy="ego")
    task = task_of(text)
    graphs = task.prepare(task.load(), network).test.graphs
    rows = torch.arange(4, 9)
    part, chosen = graphs.part(4, 9)[torch.arange(5)]["plan"], graphs[rows]["plan"]
    fresh = graphs[rows]
    again = network.make_plan(fresh["edge_index"], fresh["batch"], 5)
    for plan in (part, chosen):
        assert plan.node.equal(again.node)
        assert plan.slot.equal(again.slot)
    assert copy.copy(graphs).with_nodes().plan is graphs.plan


def test_learning_beats_the_majority(tmp_path):
    """Degrees tell two kinds of graphs apart; the folds see it, by both rules."""
    import networkx

    from tests.models.graphs.folds import write_text

    kinds = [networkx.cycle_graph, networkx.complete_graph]
    graphs = [(i % 2, [0] * (4 + i % 3), kinds[i % 2](4 + i % 3)) for i in range(40)]
    write_text(tmp_path / "MUTAG", "MUTAG", graphs)
    options = ["--folds", "2", "--data.protocol", "both", "--training.epochs", "12"]
    options += ["--training.learning_rate", "0.02", "--training.warmup_epochs", "0"]
    report = train(command(*options), tmp_path / "run", data_dir=tmp_path)
    assert report["data"]["majority"] == 0.5
    assert report["test"]["accuracy_mean"] > 0.9
    assert report["test"]["nested_accuracy_mean"] > 0.9
    # control: labels that have nothing to do with the graphs cannot be learned
    shuffled = [(int(i % 7 < 3), tags, graph) for i, (_, tags, graph) in enumerate(graphs)]
    write_text(tmp_path / "noise" / "MUTAG", "MUTAG", shuffled)
    report = train(command(*options), tmp_path / "control", data_dir=tmp_path / "noise")
    assert report["test"]["accuracy_mean"] < 0.8
