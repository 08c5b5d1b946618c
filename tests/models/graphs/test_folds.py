"""Cross-validation of networks on a small set: data, plan and figures of the whole way."""

import copy
import json
import shutil

import networkx
import pytest
import torch

from eqlib.cli import main
from eqlib.models.graphs import DataOptions, GraphClassification
from eqlib.models.graphs.networks import GIN, PPGN, SPEN
from eqlib.models.graphs.networks import base as networks
from eqlib.models.training import evaluate, train
from eqlib.models.training.configuration import load_config, parse_train
from eqlib.models.training.loop import Trainer, to_device
from eqlib.usage import UsageError
from tests.models.graphs.folds import random_graphs, write_public, write_text
from tests.tolerances import EQUIVARIANCE

SHORT = ["--training.epochs", "3", "--training.batch_size", "20", "--training.evaluate_every", "1"]
SMALL = ["--network.width", "4", "--network.layers", "2", *SHORT]


def command(*options):
    words = ["--dataset", "mutag", "--model", "gin", *SMALL, *options]
    return parse_train("graphs", words).config


def task_of(text, **options):
    return GraphClassification(DataOptions("mutag", **options), text)


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


@pytest.mark.parametrize(
    ("name", "given", "least"), [("node_types", 2, 3), ("outputs", 1, 2), ("nodes", 5, 6)]
)
def test_sizes_that_the_data_exceed_are_refused(name, given, least, text):
    with pytest.raises(UsageError, match=f"network.{name}: got {given}, but MUTAG needs {least}"):
        task_of(text).network_options({name: given})
    assert task_of(text).network_options({name: least + 1})[name] == least


@pytest.mark.parametrize("option", ["node_types", "outputs"])
def test_sizes_are_compared_where_all_of_them_are_given(option, text, tmp_path):
    given = ["--network.node_types", "3", "--network.outputs", "2", f"--network.{option}", "1"]
    with pytest.raises(UsageError, match=f"network.{option}: got 1, but MUTAG needs"):
        train(command(*given), tmp_path / "run", data_dir=text)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def dense(tmp_path):
    """A folder with a stand-in of MUTAG whose ego nets are dearer than whole graphs."""
    wheels = [(i % 2, [i % 3] * 6, networkx.wheel_graph(6)) for i in range(40)]
    write_text(tmp_path / "MUTAG", "MUTAG", wheels)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "policy"),
    [
        ({}, "whole"),
        ({"hops": 2}, "ego"),
        ({"rooted": True}, "ego"),
        ({"policy": "auto", "hops": 2}, "ego"),
    ],
    ids=str,
)
def test_hops_and_roots_ask_for_ego_nets_however_dear(options, policy, dense, capsys):
    given = {"policy": None, "hops": 1, "rooted": False} | options
    assert task_of(dense).network_options(given)["policy"] == policy
    assert capsys.readouterr().err.endswith(f"policy {policy}\n")


def test_two_hops_are_trained_on_where_they_are_asked_for(dense, tmp_path):
    config = command("--model", "spen", "--network.hops", "2", "--folds", "2")
    report = train(config, tmp_path / "run", data_dir=dense)
    assert report["data"]["plan"]["policy"] == "ego, 2 hops"
    assert load_config(tmp_path / "run" / "config.yaml").network["policy"] == "ego"


@pytest.mark.parametrize("policy", ["ego", "whole", "node_marked"])
def test_nothing_is_said_of_a_policy_that_is_given(policy, dense, capsys):
    given = {"policy": policy, "hops": 1, "rooted": False}
    assert task_of(dense).network_options(given)["policy"] == policy
    assert capsys.readouterr().err == ""
    with pytest.raises(UsageError, match=r"hops: (expected|got 0)"):
        task_of(dense).network_options(given | {"hops": 0})


@pytest.mark.parametrize("policy", ["whole", "node_deleted", "node_marked"])
def test_hops_without_ego_nets_are_refused(policy, dense, tmp_path):
    config = command("--model", "spen", "--network.hops", "2", "--network.policy", policy)
    with pytest.raises(UsageError, match=f"hops: got 2, but policy '{policy}' has no ego nets"):
        train(config, tmp_path / "run", data_dir=dense)
    assert not (tmp_path / "run").exists()


def test_folds_of_other_graphs_labels_or_folds_are_not_mixed(text, tmp_path):
    """Neither the graphs nor the folds of the first fold need be other ones."""
    run, folder = tmp_path / "run", text / "tu" / "MUTAG"
    config = command("--folds", "2", "--training.epochs", "1")
    train(config, run, data_dir=text)
    (run / "report.json").unlink()
    shutil.rmtree(run / "fold-2-nested")
    changes = {
        "10fold_idx/train_idx-9.txt": lambda t: t.partition("\n")[2],
        "10fold_idx/test_idx-2.txt": lambda t: t.partition("\n")[2],
        "MUTAG.txt": lambda t: t.replace("43\n2 0\n", "43\n2 3\n"),
    }
    for name, change in changes.items():
        other = shutil.copytree(folder, tmp_path / "other" / name / "MUTAG")
        content = (other / name).read_text()
        (other / name).write_text(change(content))
        assert (other / name).read_text() != content
        with pytest.raises(UsageError, match="began with other data than there are now"):
            train(config, run, resume=True, data_dir=other.parent)
    public = tmp_path / "public"
    write_public(public / "MUTAG", "MUTAG", random_graphs(43))
    with pytest.raises(UsageError, match="began with other data than there are now"):
        train(config, run, resume=True, data_dir=public)
    assert train(config, run, resume=True, data_dir=text)["dataset"] == "MUTAG"


def test_what_only_selects_is_not_printed(text, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["--dataset", "mutag", "--model", "gin", *SMALL, "--data-dir", str(text)]
    assert main(["train", "graphs", *words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "test accuracy" in printed
    assert "wrong" not in printed
    assert "wrong" in json.loads((out / "report.json").read_text())["test"]


def test_the_cheaper_policy_is_that_of_the_data(text):
    found = task_of(text).network_options({"policy": None, "hops": 1, "rooted": False})
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
