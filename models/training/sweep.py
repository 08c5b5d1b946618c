"""Sweeps: many runs from one file, each in a process of its own, some of them at a time."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from eqlib.models.training.configuration import (
    GROUPS,
    SHORT_OPTIONS,
    TrainCommand,
    check_groups,
    load_config,
    parse_train,
    read_yaml,
    settle,
)
from eqlib.models.training.procedure import make_task
from eqlib.models.training.progress import say
from eqlib.models.training.storage import is_finished
from eqlib.options import as_arguments, check_keys
from eqlib.usage import UsageError

_TRAIN_OPTIONS = ("model", "preset", "config", "seed", "out", "data_dir", *SHORT_OPTIONS)
_POLL_SECONDS = 0.1


class PlannedRun(NamedTuple):
    """One run of a sweep."""

    task: str
    options: list[str]
    """The words after ``eqlib train TASK``."""
    command: TrainCommand
    """What they ask for."""

    @property
    def finished(self) -> bool:
        """Whether the folder holds the report of this very run."""
        out = self.command.out
        try:
            saved = load_config(out / "config.yaml") if is_finished(out) else None
            return saved is not None and settle(self.command.config, saved.network) == saved
        except UsageError:
            return False  # starting the run tells what is wrong with its folder

    def beside(self, suffix: str) -> Path:
        """Return a path beside the folder, with its name and a suffix."""
        return self.command.out.with_name(f"{self.command.out.name}.{suffix}")


def read_sweep(
    path: Path, threads: int | None = None, data_dir: str | None = None
) -> list[PlannedRun]:
    """Return the runs of a sweep file, having checked every name and value in it.

    The file is a YAML list. Each entry has the key ``task`` and may have those of `eqlib train`
    (``model``, ``preset``, ``config``, ``seed``, ``out``, ``data_dir``, ``network``, ``data``,
    ``training``) and ``seeds``, a list that stands for one run each; ``{seed}`` in ``out`` is
    replaced by the seed.

    Args:
        path: the file.
        threads: CPU threads of those runs for which the file states none.
        data_dir: folder of the data of those runs for which the file states none.

    Raises:
        UsageError: the file, a name or a value is wrong, or two runs share a folder.
    """
    entries = read_yaml(path)
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{path}: expected a list of runs, got {type(entries).__name__}")
    runs: list[PlannedRun] = []
    for number, entry in enumerate(entries, start=1):
        try:
            runs += _planned(entry, threads, data_dir)
        except UsageError as error:
            raise UsageError(f"{path}, run {number}: {error}") from error
    folders = [run.command.out for run in runs]
    for folder in folders:
        if folders.count(folder) > 1:
            raise UsageError(
                f"{path}: several runs share the folder {folder}; give each its own `out`, "
                "in which {seed} stands for the seed"
            )
    return runs


def run_sweep(runs: Sequence[PlannedRun], jobs: int = 1) -> list[PlannedRun]:
    """Carry out those runs that are not finished, and return those that failed.

    An interrupted run continues from its last checkpoint. With several jobs the output of each
    goes to ``OUT.log``.

    Args:
        runs: the runs, in the order in which to start them.
        jobs: how many run at a time.

    Raises:
        UsageError: data are to be read from a folder that there is not; nothing was started.
    """
    waiting = [run for run in runs if not run.finished]
    for run in waiting:
        missing = make_task(run.command.config, run.command.data_dir).missing_folder()
        if missing is not None:
            raise UsageError(
                f"{run.command.out}: there is no folder {missing} with its data; name another "
                "with --data-dir, or as data_dir of the run"
            )
    say(f"{len(runs) - len(waiting)} of {len(runs)} runs are finished already")
    failed: list[PlannedRun] = []
    held: list[PlannedRun] = []
    with _children() as running:
        while waiting or running:
            for run in list(waiting):
                if len(running) == jobs:
                    break
                try:
                    process = _start(run, alone=jobs == 1)
                except OSError as error:
                    waiting.remove(run)
                    failed.append(run)
                    say(f"cannot write beside {run.command.out}: {error.strerror}")
                    continue
                if process:
                    waiting.remove(run)
                    running[process] = run
                    say(f"[{len(runs) - len(waiting)}/{len(runs)}] {run.command.out}")
                elif run not in held:
                    held.append(run)
                    say(f"waiting for a process of an earlier sweep: {run.command.out}")
            for process in [process for process in running if process.poll() is not None]:
                run = running.pop(process)
                if process.returncode:
                    failed.append(run)
                    say(f"failed with exit code {process.returncode}: {run.command.out}")
            time.sleep(_POLL_SECONDS)
    return failed


def _planned(entry: object, threads: int | None, data_dir: str | None) -> Iterator[PlannedRun]:
    """Yield the runs that an entry stands for, one for each of its seeds."""
    entry = check_keys(entry, ("task", *_TRAIN_OPTIONS, "seeds", *GROUPS), "the run")
    if "task" not in entry:
        raise UsageError("name its task")
    if "seed" in entry and "seeds" in entry:
        raise UsageError("give either seed or seeds")
    seeds = entry.get("seeds", [entry.get("seed")])
    if not isinstance(seeds, list) or not seeds:
        raise UsageError(f"seeds: expected a list of integers, got {seeds!r}")
    check_groups(entry, "the run")
    if threads:
        entry = {**entry, "training": {"threads": threads, **entry.get("training", {})}}
    if data_dir is not None:
        entry = {"data_dir": data_dir, **entry}
    task = str(entry["task"])
    for seed in seeds:
        options = _options(entry if seed is None else {**entry, "seed": seed})
        yield PlannedRun(task, options, parse_train(task, options))


def _options(entry: Mapping[str, Any]) -> list[str]:
    """Return an entry with a single seed as the options of `eqlib train`."""
    words = []
    for name in _TRAIN_OPTIONS:
        if name in entry:
            value = str(entry[name]).replace("{seed}", str(entry.get("seed", "{seed}")))
            words += [f"--{name.replace('_', '-')}", value]
    return words + as_arguments({group: entry.get(group, {}) for group in GROUPS})


def _start(run: PlannedRun, alone: bool) -> subprocess.Popen[bytes] | None:
    """Start a run, or return None while a process that outlived an earlier sweep carries it out.

    The process inherits a lock beside the run's folder, and holds it for as long as it lives.
    """
    command = [sys.executable, "-m", "eqlib", "train", run.task, *run.options, "--resume"]
    run.command.out.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(run.beside("lock"), os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if alone:
            return subprocess.Popen(command, pass_fds=[lock])
        with run.beside("log").open("ab") as log:
            return subprocess.Popen(command, pass_fds=[lock], stdout=log, stderr=log)
    except BlockingIOError:
        return None
    finally:
        os.close(lock)


@contextmanager
def _children() -> Iterator[dict[subprocess.Popen[bytes], PlannedRun]]:
    """Provide a register of processes that end with this one, also when it is terminated."""
    running: dict[subprocess.Popen[bytes], PlannedRun] = {}
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield running
    finally:
        signal.signal(signal.SIGTERM, before)
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
