"""The usual run: load, build, fit, select, test, draw."""

import statistics
import time
from importlib.util import find_spec

import torch
from torch import nn

from eqlib.models.training.configuration import RunConfig
from eqlib.models.training.loop import (
    InMemory,
    Processes,
    Trainer,
    evaluate_split,
    float_dtype,
    to_device,
)
from eqlib.models.training.procedure import Figures, Job, build_model
from eqlib.models.training.progress import say
from eqlib.models.training.reports import BEST, dataset_checksum, draw_curves, read_rows
from eqlib.models.training.storage import explain_failure, newest_of_run
from eqlib.models.training.task import Batch, Splits
from eqlib.usage import UsageError

TIMED_FORWARDS = 30


def train_once(job: Job) -> Figures:
    """Train one network, test the weights that validation selects, and draw the pictures."""
    trainer, figures = train_and_test(job)
    if not job.processes.is_main:
        return figures
    model, task = trainer.optimizer.evaluated, job.task
    advice = "the training is done; make room or mend the permissions, then resume"
    with explain_failure(f"the pictures and the report in {job.out}", advice):
        draw(trainer, model)
    device, dtype = job.processes.device, float_dtype(job.config.training)
    example = to_device(task.example(trainer.splits.test), device, dtype)
    return figures | {
        "equivariance": task.equivariance(model, trainer.splits.test),
        "forward_ms": round(forward_ms(model, example), 3),
    }


def train_and_test(job: Job) -> tuple[Trainer, Figures]:
    """Train one network, or go on with it; the trainer comes back with the selected weights."""
    task, config, processes = job.task, job.config, job.processes
    model = build_model(task, config)  # a wrong option fails before anything is written
    job.start()
    with processes.main_first():
        loaded = task.load()
    job.check_data(loaded)
    splits = place(task.prepare(loaded, model), config, processes)
    model.to(processes.device)
    trainer = Trainer(task, model, splits, config, processes, job.out, job.about)
    checkpoint = newest_of_run(job.out)
    if checkpoint:
        say(f"continuing {job.out} from step {checkpoint.step}")
        trainer.restore(checkpoint)
    trainer.fit()

    model, at = trainer.optimizer.evaluated, trainer.at
    model.load_state_dict(trainer.best)
    valid, test = (
        evaluate_split(task, model, split, config.training, processes)
        for split in (splits.valid, splits.test)
    )
    return trainer, {
        "parameters": sum(p.numel() for p in model.parameters()),
        "epochs": at.step / trainer.epoch_steps,
        "best_epoch": at.best_step / trainer.epoch_steps,
        "seconds": round(at.seconds, 1),
        "weights": "the last epoch" if task.keeps_last else BEST,
        "valid": valid,
        "test": test,
        "data_checksum": dataset_checksum(loaded.test) if processes.is_main else "",
    }


def place(splits: Splits, config: RunConfig, processes: Processes) -> Splits:
    """Move data that is held in memory to the device, unless worker processes read it."""
    for name, split in splits._asdict().items():
        if len(split) == 0:
            raise UsageError(f"the {name} split of {config.task} is empty; it needs an item")
    if config.training.workers:
        return splits
    device, dtype = processes.device, float_dtype(config.training)
    placed = (split.to(device, dtype) if isinstance(split, InMemory) else split for split in splits)
    return Splits(*placed)


def draw(trainer: Trainer, model: nn.Module) -> None:
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
