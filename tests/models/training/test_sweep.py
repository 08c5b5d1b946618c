"""Sweeps: what a file stands for, and what becomes of its runs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eqlib.models.training import sweep as module
from eqlib.models.training import train
from eqlib.models.training.sweep import read_sweep, run_sweep
from eqlib.usage import UsageError
from tests.models.training.toy_folds import SIDES

ROOT = Path(__file__).parents[3]
TASK = "tests.models.training.vectors:Vectors"


def write(folder: Path, *entries: dict) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(json.dumps([{"task": TASK, **entry} for entry in entries]))
    return path


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Work where the processes of a sweep find the task."""
    monkeypatch.chdir(ROOT)


def test_entry_stands_for_one_run_per_seed(tmp_path):
    path = write(
        tmp_path,
        {"seeds": [0, 2], "training": {"epochs": 7}, "network": {"powers": [3]}},
        {"model": "dense", "preset": "cpu", "seed": 5, "data_dir": "data"},
        {"out": str(tmp_path / "run{seed}"), "seeds": [0, 1], "data": {"train": 4}},
    )
    commands = [run.command for run in read_sweep(path)]
    assert [str(command.out) for command in commands] == [
        "runs/vectors/radial-quick-seed0",
        "runs/vectors/radial-quick-seed2",
        "runs/vectors/dense-cpu-seed5",
        str(tmp_path / "run0"),
        str(tmp_path / "run1"),
    ]
    assert [command.config.seed for command in commands] == [0, 2, 5, 0, 1]
    assert commands[1].config.training.epochs == 7
    assert commands[1].config.network["powers"] == (3,)
    assert commands[2].data_dir == Path("data")
    assert commands[4].config.data["train"] == 4


def test_threads_are_given_to_runs_that_state_none(tmp_path):
    path = write(tmp_path, {"preset": "cpu", "model": "dense"}, {"training": {"threads": 2}})
    threads = [run.command.config.training.threads for run in read_sweep(path, threads=3)]
    assert threads == [3, 2]


def test_the_folder_of_the_data_is_given_to_runs_that_state_none(tmp_path):
    path = write(tmp_path, {"seed": 0}, {"seed": 1, "data_dir": "own"})
    runs = read_sweep(path, data_dir="given")
    assert [run.command.data_dir for run in runs] == [Path("given"), Path("own")]
    assert [run.command.data_dir for run in read_sweep(path)] == [None, Path("own")]


def test_nothing_starts_where_the_folder_of_the_data_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_start", lambda *_, **__: pytest.fail("a run was started"))
    path = tmp_path / "sweep.yaml"
    entry = {"task": "graphs", "dataset": "mutag", "model": "gin"}
    path.write_text(json.dumps([{"task": TASK, "out": str(tmp_path / "first")}, entry]))
    missing = str(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=rf"there is no folder {missing} .* --data-dir"):
        run_sweep(read_sweep(path, data_dir=missing))
    path.write_text(json.dumps([entry | {"data": {"download": True}}]))
    with pytest.raises(pytest.fail.Exception, match="a run was started"):
        run_sweep(read_sweep(path, data_dir=missing))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"modle": "dense"}, "run 1: unknown name in the run 'modle'; did you mean 'model'"),
        ({"model": "dens"}, "unknown model of vectors 'dens'; did you mean 'dense'"),
        ({"preset": "quik"}, "did you mean 'quick'"),
        ({"task": "nbdy"}, "unknown task 'nbdy'; did you mean 'nbody'"),
        ({"training": {"epoch": 1}}, "did you mean '--training.epochs'"),
        ({"training": [1]}, "training: expected names with values"),
        ({"seeds": 3}, "seeds: expected a list of integers, got 3"),
        ({"seeds": []}, "seeds: expected a list of integers, got []"),
        ({"seeds": ["a"]}, "seed: expected an integer, got 'a'"),
        ({"seed": 1, "seeds": [1]}, "give either seed or seeds"),
        ({"seeds": [1, 1]}, "several runs share the folder"),
        ({"seeds": [1, 2], "out": "runs/x"}, "several runs share the folder runs/x"),
    ],
    ids=str,
)
def test_wrong_entries_are_explained_before_anything_runs(entry, message, tmp_path):
    with pytest.raises(UsageError) as raised:
        read_sweep(write(tmp_path, entry))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a list of runs, got NoneType"),
        ("task: nbody", "expected a list of runs, got dict"),
        ("- {model: egnn}", "run 1: name its task"),
        ("- 3", "expected names with values, got 3"),
        ("- {", "is damaged or not YAML"),
    ],
)
def test_wrong_files_are_explained(text, message, tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as raised:
        read_sweep(path)
    assert message in str(raised.value)


def test_missing_file_is_explained(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*none.yaml: No such file"):
        read_sweep(tmp_path / "none.yaml")


def test_sweep_goes_on_after_a_failure_and_skips_what_is_finished(tmp_path, capfd):
    blocked = tmp_path / "file"
    blocked.touch()
    path = write(
        tmp_path,
        {"out": str(blocked / "run")},
        {"out": str(tmp_path / "seed{seed}"), "seeds": [0, 1]},
    )
    runs = read_sweep(path, threads=1)
    failed = run_sweep(runs, jobs=2)
    assert [run.command.out for run in failed] == [blocked / "run"]
    assert [run.finished for run in runs] == [False, True, True]
    said = capfd.readouterr().err
    assert "0 of 3 runs are finished already" in said
    assert f"cannot write beside {blocked / 'run'}" in said
    before = (tmp_path / "seed0/report.json").stat().st_mtime_ns
    log = (tmp_path / "seed0.log").read_bytes()
    assert run_sweep(runs[1:]) == []
    assert "2 of 2 runs are finished already" in capfd.readouterr().err
    assert (tmp_path / "seed0/report.json").stat().st_mtime_ns == before
    assert (tmp_path / "seed0.log").read_bytes() == log


def test_run_of_other_settings_in_the_folder_is_a_failure(tmp_path, capfd):
    out = str(tmp_path / "run")
    (first,) = read_sweep(write(tmp_path, {"out": out, "model": "dense"}))
    train(first.command.config, out)
    assert first.finished
    other = read_sweep(write(tmp_path, {"out": out, "model": "dense", "training": {"epochs": 2}}))
    assert not other[0].finished
    assert run_sweep(other) == other
    assert "holds a run with other settings: training.epochs (1 -> 2)" in capfd.readouterr().err


def start(path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "eqlib", "sweep", str(path)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def wait_for(path: Path, sweep: subprocess.Popen[bytes]) -> None:
    while not path.exists():
        assert sweep.poll() is None
        time.sleep(0.05)


def is_alive(folder: Path) -> bool:
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    return any(str(folder).encode() in c and b"train" in c.split(b"\0") for c in commands)


ENDLESS = {"training": {"epochs": 1_000_000, "evaluate_every": 1_000_000}}


def test_terminated_sweep_ends_its_runs(tmp_path):
    out = tmp_path / "run"
    sweep = start(write(tmp_path, {"out": str(out), **ENDLESS}))
    wait_for(out / "config.yaml", sweep)
    sweep.terminate()
    assert sweep.wait(timeout=60) == 130
    assert not is_alive(out)


def test_killed_sweep_runs_on_where_it_was(tmp_path):
    out = tmp_path / "run"
    training = {"epochs": 1500, "evaluate_every": 1500, "checkpoint_every": 50}
    path = write(tmp_path, {"out": str(out), "training": training})
    sweep = start(path)
    wait_for(out / "checkpoints/step-00000050", sweep)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()
    # the run itself outlives the sweep: the second one must not start it again beside the first
    again = start(path)
    assert again.wait(timeout=120) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["epochs"] == 1500


def test_sweeps_have_folds_and_skip_what_is_finished(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    out = tmp_path / "run"
    path = tmp_path / "sweep.yaml"
    entry = {"task": SIDES, "folds": 2, "out": str(out), "training": {"epochs": 1}}
    path.write_text(json.dumps([entry]))
    (run,) = read_sweep(path)
    assert run.command.config.data["folds"] == 2
    assert not run.finished
    train(run.command.config, out)
    assert run.finished  # the saved one has the sizes that the data decided, this one leaves them
    path.write_text(json.dumps([entry | {"folds": 3}]))
    assert not read_sweep(path)[0].finished
