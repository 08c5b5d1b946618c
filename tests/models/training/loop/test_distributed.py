"""Several processes train like one."""

import os
import subprocess
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from eqlib.models.training import train
from eqlib.models.training.loop import Processes, join_processes
from eqlib.models.training.reports import read_rows
from eqlib.models.training.storage.checkpoint import saved_checkpoints
from tests.models.training.processes import final_hashes, train_together
from tests.models.training.toy import toy_config
from tests.models.training.toy_folds import folds_config

# 20 steps in 5 epochs; the last batch of an epoch has one item, so that one process has none
CONFIG = toy_config(
    network={"dropout": 0.0},
    data={"train": 52},
    epochs=5,
    batch_size=17,
    precision="float64",
    weight_decay=0.1,
    clip_norm=1.0,
    ema_decay=0.9,
)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    run = tmp_path_factory.mktemp("alone")
    train(CONFIG, run)
    return run


def largest_difference(run, other):
    """Return the largest difference between the weights of two runs."""
    first, second = (
        load_file(saved_checkpoints(folder / "checkpoints")[0] / "model.safetensors")
        for folder in (run, other)
    )
    return max((first[name] - second[name]).abs().max().item() for name in first)


def test_two_processes_equal_one(alone, tmp_path):
    reports = train_together(CONFIG, tmp_path, 2)
    assert reports[0] == reports[1]
    assert reports[0]["processes"] == 2
    assert largest_difference(alone, tmp_path) < 1e-10
    for row, expected in zip(read_rows(tmp_path), read_rows(alone), strict=True):
        for name in expected.keys() - {"seconds", "items_per_second"}:
            assert row[name] == pytest.approx(expected[name], rel=1e-10)


def test_averaging_over_own_items_differs(alone, tmp_path):
    train_together(CONFIG, tmp_path, 2, naive=True)
    assert largest_difference(alone, tmp_path) > 1e-4


def test_loss_that_is_not_finite_stops_all_processes(tmp_path):
    config = toy_config(data={"flaw": "loss"})
    with pytest.raises(FloatingPointError, match="not finite in step"):
        train_together(config, tmp_path, 2)


def test_weight_of_a_process_without_items_is_zero():
    processes = Processes(1, 2, torch.device("cpu"))
    assert processes.weight(0, 1) == 0.0
    assert processes.weight(3, 8) == 2 / 8


def test_one_process_keeps_values_to_itself():
    processes = Processes(0, 1, torch.device("cpu"))
    values = torch.tensor([1.0, torch.nan, 3.0])
    assert processes.collect("value") == ["value"]
    assembled = processes.assemble(values, torch.tensor([2, 0, 1]), 4)
    torch.testing.assert_close(assembled, torch.tensor([torch.nan, 3.0, 1.0, 0.0]), equal_nan=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_missing_gpu_is_named():
    with pytest.raises(ValueError, match="'cuda' asks for a GPU"), join_processes("cuda"):
        pass


@pytest.mark.slow
def test_processes_that_were_killed_continue_bit_for_bit(tmp_path):
    config = toy_config(network={"dropout": 0.5}, data={"train": 20}, epochs=2, checkpoint_every=2)
    train_together(config, tmp_path / "uninterrupted", 2)
    with pytest.raises(BrokenExecutor):
        train_together(config, tmp_path / "killed", 2, killed_after=5)
    train_together(config, tmp_path / "killed", 2)
    assert final_hashes(tmp_path / "killed") == final_hashes(tmp_path / "uninterrupted")


@pytest.mark.slow
def test_torchrun_trains_like_one_process(alone, tmp_path):
    root = Path(__file__).parents[4]
    script = (
        "from pathlib import Path; from eqlib.models.training import train; "
        "from tests.models.training.loop.test_distributed import CONFIG; "
        f"train(CONFIG, Path({str(tmp_path / 'run')!r}))"
    )
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    subprocess.run(
        [*command, "--nproc-per-node", "2", str(tmp_path / "script.py")],
        check=True,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    assert largest_difference(alone, tmp_path / "run") < 1e-10


def test_two_processes_cross_validate_like_one(tmp_path):
    config = folds_config(
        data={"folds": 2, "protocol": "both"}, epochs=3, precision="float64", weight_decay=0.1
    )
    config.network["dropout"] = 0.0
    expected = train(config, tmp_path / "alone")
    reports = train_together(config, tmp_path / "both", 2)
    assert reports[0] == reports[1]
    assert reports[0]["processes"] == 2
    assert reports[0]["test"] == pytest.approx(expected["test"])
    for fold in ("fold-1-nested", "fold-2-published"):
        assert largest_difference(tmp_path / "alone" / fold, tmp_path / "both" / fold) < 1e-10
