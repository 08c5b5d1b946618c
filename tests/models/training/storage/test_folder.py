"""Whether a run may begin or continue in a folder."""

import pytest
import torch

from eqlib.models.training.configuration import load_config
from eqlib.models.training.storage import (
    Checkpoint,
    check_folder,
    is_finished,
    newest_of_run,
    prepare_folder,
    write_checkpoint,
)
from tests.models.training.toy import toy_config

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
    with pytest.raises(ValueError, match=message):
        check_folder(other, run, resume=True)


def test_run_continues_with_other_means(run, tmp_path):
    means = {"threads": 2, "workers": 1, "checkpoint_every": 5, "compile": "default"}
    settings = {"network": {"width": 8, "dropout": 0.0}, "data": {"train": 9}}
    check_folder(load_config_of(toy_config(**settings, **means), tmp_path), run, resume=True)


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
