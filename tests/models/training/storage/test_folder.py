"""Whether a run may begin or continue in a folder."""

from dataclasses import replace

import pytest
import torch

from eqlib.models.training.configuration import load_config
from eqlib.models.training.storage import (
    Checkpoint,
    check_data,
    check_folder,
    has_more_folds,
    is_finished,
    newest_of_run,
    prepare_folder,
    write_checkpoint,
)
from eqlib.usage import UsageError
from tests.models.training.toy import toy_config
from tests.models.training.toy_folds import folds_config

CONFIG = toy_config(network={"width": 8, "dropout": 0.0}, data={"train": 9})


@pytest.fixture
def run(tmp_path):
    """Return the folder of a run that has begun."""
    prepare_folder(load_config_of(CONFIG, tmp_path), tmp_path / "run")
    return tmp_path / "run"


def load_config_of(config, folder):
    """Return the configuration with all defaults filled in."""
    prepare_folder(config, folder / "complete")
    return load_config(folder / "complete" / "config.yaml")


def test_empty_and_missing_folders_are_free(tmp_path):
    check_folder(CONFIG, tmp_path, resume=False)
    check_folder(CONFIG, tmp_path / "missing" / "folder", resume=True)


@pytest.mark.parametrize("name", ["config.yaml", "report.json", "checkpoints"])
def test_folder_of_a_run_is_taken(name, tmp_path):
    (tmp_path / name).touch()
    with pytest.raises(FileExistsError, match="holds a run already: continue it with --resume"):
        check_folder(CONFIG, tmp_path, resume=False)


def test_run_continues_with_its_own_settings(run):
    check_folder(load_config(run / "config.yaml"), run, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, r"seed \(0 -> 1\)"),
        ({"epochs": 9}, r"training.epochs \(4 -> 9\)"),
        ({"network": {"width": 9}}, r"network.width \(8 -> 9\)"),
        ({"data": {"train": 8}}, r"data.train \(9 -> 8\)"),
    ],
    ids=str,
)
def test_run_does_not_continue_with_other_settings(changes, message, run, tmp_path):
    settings = {"network": {"width": 8, "dropout": 0.0}, "data": {"train": 9}} | changes
    other = load_config_of(toy_config(**settings), tmp_path / "other")
    with pytest.raises(UsageError, match=message):
        check_folder(other, run, resume=True)


def test_run_continues_with_other_means(run, tmp_path):
    means = {"threads": 2, "workers": 1, "checkpoint_every": 5, "compile": "default"}
    settings = {"network": {"width": 8, "dropout": 0.0}, "data": {"train": 9}}
    check_folder(load_config_of(toy_config(**settings, **means), tmp_path), run, resume=True)


@pytest.mark.parametrize(
    ("before", "after", "more"), [(2, 3, True), (3, 3, False), (3, 2, False), (None, 3, False)]
)
def test_more_folds_are_the_same_cross_validation(before, after, more, tmp_path):
    prepare_folder(folds_config(data={"folds": before}), tmp_path)
    (tmp_path / "report.json").touch()
    asked = load_config_of(folds_config(data={"folds": after}), tmp_path)
    assert has_more_folds(asked, tmp_path) == more
    if more or before == after:
        check_folder(asked, tmp_path, resume=True)
    else:
        with pytest.raises(UsageError, match=rf"data.folds \({before} -> {after}\)"):
            check_folder(asked, tmp_path, resume=True)
    other = replace(asked, seed=1)
    with pytest.raises(UsageError, match=r"seed \(0 -> 1\)"):
        check_folder(other, tmp_path, resume=True)
    # the report of fewer folds ends where that of more begins
    prepare_folder(asked, tmp_path)
    assert not is_finished(tmp_path)


def test_data_are_noted_once_and_compared(tmp_path):
    check_data(tmp_path, ["a", "b"])
    check_data(tmp_path, iter(["a", "b"]))
    for other in (["a"], ["a", "c"], ["b", "a"]):
        with pytest.raises(UsageError, match=r"began with other data .*data.sha256"):
            check_data(tmp_path, other)


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write the run's folder .*: choose another --out"):
        prepare_folder(CONFIG, tmp_path / "file" / "run")


def test_report_ends_a_run(run):
    assert not is_finished(run)
    (run / "report.json").touch()
    assert is_finished(run)


def test_damaged_checkpoint_is_mentioned(run, capsys):
    weights = {"weight": torch.zeros(2)}
    for step in (1, 2):
        place = write_checkpoint(run / "checkpoints", Checkpoint(step, weights, weights, {}, {}))
    (place / "state.pt").write_bytes(b"")
    assert newest_of_run(run).step == 1
    assert "passed over a damaged checkpoint" in capsys.readouterr().err
