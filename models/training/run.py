"""From a configuration to a report, and from a run's folder to its network."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from eqlib.models.training.configuration import RunConfig, load_config, override, settle
from eqlib.models.training.folds import cross_validate, wants_folds
from eqlib.models.training.loop import Processes, evaluate_split, join_processes
from eqlib.models.training.procedure import Job, build_model, carry_out, make_task
from eqlib.models.training.progress import say
from eqlib.models.training.reports import read_reports
from eqlib.models.training.single import place, train_once
from eqlib.models.training.storage import (
    CheckpointError,
    check_folder,
    has_more_folds,
    is_finished,
    newest_of_run,
)
from eqlib.models.training.task import Task
from eqlib.usage import UsageError


class LoadedRun(NamedTuple):
    """A trained network with what it was trained on."""

    model: nn.Module
    task: Task
    config: RunConfig


def train(
    config: RunConfig, out: Path | str, resume: bool = False, data_dir: Path | str | None = None
) -> dict[str, Any]:
    """Train a model as configured and return its report, which also stays in the run's folder.

    Under ``torchrun`` all processes train together and each returns the report.

    Args:
        config: what to train and how.
        out: the run's folder.
        resume: continue a run that was interrupted; a finished one is left as it is, and a
            cross-validation gets the folds that it lacks.
        data_dir: folder for the data; None takes the user's cache folder.

    Raises:
        FileExistsError: the folder holds a run and ``resume`` is False.
        UsageError: the folder's run has another configuration or other data, its checkpoints are
            damaged, or an option does not go with the data.
        FloatingPointError: a loss, a gradient or a validation measure is not finite.
        OSError: the folder cannot be written.
    """
    out, config = Path(out), override(config, {}, "the configuration of the run")
    with join_processes(config.training.device) as processes, _own_state(config, processes):
        check_folder(config, out, resume)
        if is_finished(out) and not has_more_folds(config, out):
            say(f"{out} is finished: nothing is left to do")
        else:
            processes.barrier()
            task = make_task(config, data_dir)
            # the sizes that the data decide
            settled = settle(config, task.network_options(config.network))
            job = Job(settled, config, out, task, processes)
            usual = cross_validate if wants_folds(task) else train_once
            carry_out(job, task.procedure() or usual)
            processes.barrier()
    return read_reports([out / "report.json"])[0]


def evaluate(
    run: Path | str, which: str = "best", data_dir: Path | str | None = None
) -> dict[str, float]:
    """Return the test measures of a run, finished or not, from its newest checkpoint.

    Args:
        run: the run's folder.
        which: ``best`` for the weights that validation selects, ``last`` for the newest.
        data_dir: folder for the data; None takes the user's cache folder.

    Raises:
        UsageError: the folder holds no run, or no usable checkpoint.
    """
    model, task, config = load_model(run, which, data_dir)
    with join_processes(config.training.device) as processes:
        model.to(processes.device)
        with processes.main_first():
            test = place(task.prepare(task.load(), model), config, processes).test
        return evaluate_split(task, model, test, config.training, processes)


def load_model(
    run: Path | str, which: str = "best", data_dir: Path | str | None = None
) -> LoadedRun:
    """Return the network of a run on the CPU, with its task and configuration.

    Args:
        run: the run's folder.
        which: ``best`` for the weights that validation selects, ``last`` for the newest.
        data_dir: folder for the data; None takes the user's cache folder.

    Raises:
        UsageError: the folder holds no run, or no usable checkpoint.
    """
    if which not in ("best", "last"):
        raise ValueError(f"which must be 'best' or 'last', got {which!r}")
    run = Path(run)
    config = load_config(run / "config.yaml")
    if config.data.get("folds") is not None:
        raise UsageError(
            f"{run} holds a cross-validation, one run in each of its folders fold-K-RULE: name one "
            "of them"
        )
    task, checkpoint = make_task(config, data_dir), newest_of_run(run)
    if checkpoint is None and task.procedure() is not None:
        raise UsageError(
            f"{run} holds no weights, as {task.data_name} keeps none: its results are in "
            f"{run / 'report.md'}"
        )
    if checkpoint is None:
        raise CheckpointError(f"{run} holds no checkpoint yet: train longer, then try again")
    model = build_model(task, config)
    model.load_state_dict(checkpoint.best if which == "best" else checkpoint.model)
    return LoadedRun(model.eval(), task, config)


@contextmanager
def _own_state(config: RunConfig, processes: Processes) -> Iterator[None]:
    """Set the number of threads; give it and the random state back as they were."""
    threads = torch.get_num_threads()
    devices = [processes.device] if processes.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.set_num_threads(config.training.threads or threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
