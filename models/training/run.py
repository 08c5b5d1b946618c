"""From a configuration to a report: load, build, fit, select, test, draw."""

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from eqlib.models import get_task
from eqlib.models.training.checkpoint import CheckpointError
from eqlib.models.training.config import RunConfig, command_line, load_config, override
from eqlib.models.training.data import InMemory, derive_seed, to_device
from eqlib.models.training.distributed import Processes, join_processes
from eqlib.models.training.files import explain_failure
from eqlib.models.training.folder import (
    check_folder,
    is_finished,
    newest_of_run,
    prepare_folder,
)
from eqlib.models.training.loop import Trainer, evaluate_split, float_dtype
from eqlib.models.training.metrics import read_rows
from eqlib.models.training.plots import draw_curves
from eqlib.models.training.progress import say
from eqlib.models.training.report import dataset_checksum, versions, write_report
from eqlib.models.training.task import Batch, Splits, Task

TIMED_FORWARDS = 30


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
        resume: continue a run that was interrupted; a finished one is left as it is.
        data_dir: folder for the data; None takes the user's cache folder.

    Raises:
        FileExistsError: the folder holds a run and ``resume`` is False.
        ValueError: the folder's run has another configuration, or its checkpoints are damaged.
        FloatingPointError: a loss, a gradient or a validation measure is not finite.
        OSError: the folder cannot be written.
    """
    out, config = Path(out), override(config, {}, "the configuration of the run")
    with join_processes(config.training.device) as processes, _own_state(config, processes):
        check_folder(config, out, resume)
        if is_finished(out):
            say(f"{out} is finished: nothing is left to do")
        else:
            processes.barrier()
            _train(config, out, data_dir, processes)
            processes.barrier()
    return json.loads((out / "report.json").read_text())


def evaluate(
    run: Path | str, which: str = "best", data_dir: Path | str | None = None
) -> dict[str, float]:
    """Return the test measures of a run, finished or not, from its newest checkpoint.

    Args:
        run: the run's folder.
        which: ``best`` for the weights that validation selects, ``last`` for the newest.
        data_dir: folder for the data; None takes the user's cache folder.

    Raises:
        ValueError: the folder holds no run, or no usable checkpoint.
    """
    model, task, config = load_model(run, which, data_dir)
    with join_processes(config.training.device) as processes:
        model.to(processes.device)
        with processes.main_first():
            test = _place(task.load(), config, processes).test
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
        ValueError: the folder holds no run, or no usable checkpoint.
    """
    if which not in ("best", "last"):
        raise ValueError(f"which must be 'best' or 'last', got {which!r}")
    run = Path(run)
    config = load_config(run / "config.yaml")
    checkpoint = newest_of_run(run)
    if checkpoint is None:
        raise CheckpointError(f"{run} holds no checkpoint yet: train longer, then try again")
    task = _make_task(config, data_dir)
    model = _make_model(task, config)
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


def _train(config: RunConfig, out: Path, data_dir: Path | str | None, processes: Processes) -> None:
    """Carry out a run whose folder has been found fit for it."""
    about = {"command": command_line(config), "versions": versions(), "config": config.to_dict()}
    task = _make_task(config, data_dir)
    model = _make_model(task, config)  # a wrong option fails before anything is written
    if processes.is_main:
        prepare_folder(config, out)
    with processes.main_first():
        loaded = task.load()
    splits = _place(loaded, config, processes)
    model.to(processes.device)
    trainer = Trainer(task, model, splits, config, processes, out, about)
    checkpoint = newest_of_run(out)
    if checkpoint:
        say(f"continuing {out} from step {checkpoint.step}")
        trainer.restore(checkpoint)
    trainer.fit()

    model = trainer.optimizer.evaluated
    model.load_state_dict(trainer.best)
    valid, test = (
        evaluate_split(task, model, split, config.training, processes)
        for split in (splits.valid, splits.test)
    )
    if processes.is_main:
        figures = {"valid": valid, "test": test, "data_checksum": dataset_checksum(loaded.test)}
        report = _report(trainer, model) | figures | about
        advice = "the training is done; make room or mend the permissions, then resume"
        with explain_failure(f"the pictures and the report in {out}", advice):
            _draw(trainer, model)
            write_report(out, report)


def _report(trainer: Trainer, model: nn.Module) -> dict[str, Any]:
    """Return what is to be known of a finished run beside its validation and test measures."""
    task, run, at = trainer.task, trainer.run, trainer.at
    device, dtype = trainer.processes.device, float_dtype(run.training)
    test = trainer.splits.test
    return {
        "task": task.name,
        "dataset": task.dataset,
        "model": run.model,
        "preset": run.preset,
        "seed": run.seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "processes": trainer.processes.size,
        "epochs": at.step / trainer.epoch_steps,
        "best_epoch": at.best_step / trainer.epoch_steps,
        "seconds": round(at.seconds, 1),
        "equivariance": task.equivariance(model, test),
        "forward_ms": round(forward_ms(model, to_device(task.example(test), device, dtype)), 3),
    }


def _draw(trainer: Trainer, model: nn.Module) -> None:
    """Draw the pictures of a run, or say how to get them."""
    if not find_spec("matplotlib"):
        say("no pictures are drawn: matplotlib is missing; `pip install eqlib[plot]` adds it")
        return
    task, run, out = trainer.task, trainer.run, trainer.folder
    task.picture(model, trainer.splits.test, out / "predictions.png")
    title = f"{task.name}: {run.model}, preset {run.preset}, seed {run.seed}"
    draw_curves(read_rows(out), task.selection, title, out / "curves.png")


@torch.no_grad()
def forward_ms(model: nn.Module, example: Batch) -> float:
    """Return the median time of a forward pass in milliseconds, after a warm-up."""
    on_gpu = next(model.parameters()).is_cuda
    times = []
    for _ in range(TIMED_FORWARDS + 5):
        start = time.perf_counter()
        model(**example)
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[5:])


def _make_task(config: RunConfig, data_dir: Path | str | None) -> Task:
    task = get_task(config.task)
    return task(task.options(**config.data), None if data_dir is None else Path(data_dir))


def _make_model(task: Task, config: RunConfig) -> nn.Module:
    """Build the network with the weights that the seed decides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("weights", config.seed))
        model = task.models[config.model](**config.network)
    return model.to(float_dtype(config.training))


def _place(splits: Splits, config: RunConfig, processes: Processes) -> Splits:
    """Move data that is held in memory to the device, unless worker processes read it."""
    for name, split in splits._asdict().items():
        if len(split) == 0:
            raise ValueError(f"the {name} split of {config.task} is empty; it needs an item")
    if config.training.workers:
        return splits
    device, dtype = processes.device, float_dtype(config.training)
    placed = (split.to(device, dtype) if isinstance(split, InMemory) else split for split in splits)
    return Splits(*placed)
