"""From a configuration to a report."""

import errno
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from eqlib.models.training import CheckpointError, evaluate, load_model, train
from eqlib.models.training import single as module
from eqlib.models.training.configuration import load_config, parse_train
from eqlib.models.training.loop import Trainer
from eqlib.models.training.reports import dataset_checksum
from eqlib.usage import UsageError
from tests.models.training.processes import final_hashes, in_child
from tests.models.training.toy import Toy, toy_config
from tests.models.training.toy_folds import SIDES

CONFIG = toy_config(ema_decay=0.5, learning_rate=0.1, epochs=6)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder and the report of a finished run."""
    run = tmp_path_factory.mktemp("finished")
    return run, train(CONFIG, run)


def test_run_leaves_its_files(finished):
    run, report = finished
    assert {path.name for path in run.iterdir()} == {
        *("config.yaml", "metrics.csv", "metrics.jsonl", "curves.png", "predictions.png"),
        *("report.json", "report.md", "checkpoints", "data.sha256"),
    }
    assert json.loads((run / "report.json").read_text()) == report
    assert yaml.safe_load((run / "config.yaml").read_text()) == report["config"]


def test_report_says_what_was_done(finished):
    _, report = finished
    expected = {
        "task": "toy",
        "dataset": "vectors",
        "model": "network",
        "preset": "quick",
        "seed": 0,
        "parameters": 87,
        "device": "cpu",
        "threads": 1,
        "processes": 1,
        "epochs": 6,
        "equivariance": {"float32": 1.0, "float64": 1.0},
    }
    assert {name: report[name] for name in expected} == expected
    assert report["test"].keys() == report["valid"].keys() == {"mse", "mse_median"}
    assert report["data_checksum"] == dataset_checksum(Toy().load().test)
    assert report["forward_ms"] > 0
    assert "--training.epochs 6" in report["command"]
    assert report["versions"]["torch"] == torch.__version__


def test_finished_run_is_left_as_it_is(finished, monkeypatch, capsys):
    run, report = finished
    monkeypatch.setattr(Trainer, "fit", lambda self: pytest.fail("it trained again"))
    assert train(CONFIG, run, resume=True) == report
    assert "is finished" in capsys.readouterr().err


def test_folder_of_another_run_is_refused(finished):
    run, _ = finished
    with pytest.raises(FileExistsError, match="holds a run already"):
        train(CONFIG, run)


def test_evaluation_of_the_folder_repeats_the_report(finished):
    run, report = finished
    assert evaluate(run) == report["test"]
    assert evaluate(run, which="last") != report["test"]


def test_loaded_model_is_the_selected_one(finished):
    run, _ = finished
    best, last = (load_model(run, which) for which in ("best", "last"))
    assert best.config.model == "network"
    assert best.task.name == "toy"
    assert not best.model.training
    assert not best.model.layers[0].weight.equal(last.model.layers[0].weight)


def test_same_seed_gives_the_same_weights(finished, tmp_path):
    run, _ = finished
    train(CONFIG, tmp_path / "same")
    train(toy_config(ema_decay=0.5, learning_rate=0.1, epochs=6, seed=1), tmp_path / "other")
    assert final_hashes(tmp_path / "same") == final_hashes(run)
    assert final_hashes(tmp_path / "other") != final_hashes(run)


def test_callers_random_state_and_threads_are_kept(tmp_path):
    threads = torch.get_num_threads()
    state = torch.get_rng_state()
    train(toy_config(epochs=1, threads=threads + 1), tmp_path)
    assert torch.get_num_threads() == threads
    assert torch.get_rng_state().equal(state)


def test_interrupted_report_is_made_up_for_without_training_again(tmp_path, monkeypatch):
    report = train(toy_config(epochs=1), tmp_path)
    (tmp_path / "report.json").unlink()
    monkeypatch.setattr(Trainer, "_train_step", lambda *_: pytest.fail("it trained again"))
    again = train(toy_config(epochs=1), tmp_path, resume=True)
    assert again["test"] == report["test"]
    assert again["seconds"] == report["seconds"]


def test_folder_without_checkpoint_cannot_be_evaluated(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "fit", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, tmp_path)
    with pytest.raises(CheckpointError, match="holds no checkpoint yet"):
        evaluate(tmp_path)


def test_folder_without_run_cannot_be_evaluated(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run: there is no config\.yaml"):
        evaluate(tmp_path)


def test_unknown_weights_are_refused(finished):
    with pytest.raises(ValueError, match="'best' or 'last', got 'final'"):
        load_model(finished[0], which="final")


def test_empty_split_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"the valid split of .* is empty"):
        train(toy_config(data={"valid": 0}), tmp_path)


def test_missing_matplotlib_costs_the_pictures_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    report = train(toy_config(epochs=1), tmp_path)
    assert report["task"] == "toy"
    assert not list(tmp_path.glob("*.png"))
    assert r"`pip install eqlib[plot]`" in capsys.readouterr().err


def test_disk_that_fills_at_the_end_is_named_and_the_run_completed_later(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Toy, "picture", fail)
    with pytest.raises(OSError, match=r"\(No space left on device\): the training is done"):
        train(toy_config(epochs=1), tmp_path)
    monkeypatch.undo()
    assert train(toy_config(epochs=1), tmp_path, resume=True)["epochs"] == 1


def train_without_privileges(run):
    """Train as a user who is not root, and return the error."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        train(CONFIG, run)
    except PermissionError as error:
        return str(error)
    return "no error"


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=oct)
def test_folder_without_permission_is_named(mode):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(mode)
        message = in_child(train_without_privileges, Path(folder))
        Path(folder).chmod(0o755)
    assert f"cannot write the run's folder {folder} (Permission denied)" in message
    assert "choose another --out" in message


def test_folder_below_a_file_is_named():
    with pytest.raises(OSError, match=r"cannot write the run's folder .*: choose another --out"):
        train(CONFIG, Path(__file__) / "run")


@pytest.mark.parametrize(
    ("network", "message"), [({"dropout": 2.0}, "dropout"), ({"width": -3}, "negative dimension")]
)
def test_a_wrong_network_option_leaves_no_run_behind(network, message, tmp_path):
    with pytest.raises(UsageError, match=f"network: .*{message}"):
        train(toy_config(network=network), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def interrupted(run):
    """Leave a run that was interrupted after its last step."""
    train(toy_config(epochs=1), run)
    (run / "report.json").unlink()


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_run_does_not_go_on_with_other_data(split, tmp_path, monkeypatch):
    interrupted(tmp_path)
    load = Toy.load

    def other(self):
        splits = load(self)
        getattr(splits, split).tensors["points"][3] += 1e-6
        return splits

    monkeypatch.setattr(Toy, "load", other)
    with pytest.raises(UsageError, match=r"began with other data than there are now .*--data-dir"):
        train(toy_config(epochs=1), tmp_path, resume=True)
    monkeypatch.undo()
    train(toy_config(epochs=1), tmp_path, resume=True)


def test_a_run_that_noted_no_data_goes_on_and_notes_them(tmp_path):
    interrupted(tmp_path)
    noted = (tmp_path / "data.sha256").read_text()
    (tmp_path / "data.sha256").unlink()
    train(toy_config(epochs=1), tmp_path, resume=True)
    assert (tmp_path / "data.sha256").read_text() == noted
    assert noted.count("\n") == 3


def test_a_damaged_report_of_a_finished_run_is_named(tmp_path):
    train(toy_config(epochs=1), tmp_path)
    (tmp_path / "report.json").write_text('{"test": ')
    with pytest.raises(UsageError, match=r"report.json is damaged .* remove the file and resume"):
        train(toy_config(epochs=1), tmp_path, resume=True)


def test_the_data_see_what_is_given_for_what_they_decide(tmp_path, monkeypatch):
    from tests.models.training.toy_folds import Sides

    def refuse(self, given):
        raise UsageError(f"network.outputs: got {given['outputs']}")

    monkeypatch.setattr(Sides, "network_options", refuse)
    config = parse_train(SIDES, ["--network.outputs", "1"]).config
    with pytest.raises(UsageError, match=r"network\.outputs: got 1"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_sizes_are_those_of_the_data_unless_they_are_given(tmp_path):
    config = parse_train(SIDES, ["--training.epochs", "1"]).config
    assert config.network["outputs"] is None
    train(config, tmp_path / "open")
    assert load_config(tmp_path / "open" / "config.yaml").network["outputs"] == 2
    assert "outputs" not in json.loads((tmp_path / "open" / "report.json").read_text())["command"]
    given = replace(config, network={**config.network, "outputs": 5})
    train(given, tmp_path / "given")
    assert load_config(tmp_path / "given" / "config.yaml").network["outputs"] == 5
    assert load_model(tmp_path / "given").model.layers[-1].out_features == 5
    # continuing asks for the same
    train(config, tmp_path / "open", resume=True)
    with pytest.raises(ValueError, match=r"other settings: network\.outputs"):
        train(given, tmp_path / "open", resume=True)
