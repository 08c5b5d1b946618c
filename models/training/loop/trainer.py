"""The training loop: steps, evaluations, checkpoints, and nothing about any particular task."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eqlib.models.training.configuration import RunConfig, TrainingConfig
from eqlib.models.training.loop.batches import (
    Indices,
    derive_seed,
    epoch_order,
    fetch,
    num_batches,
    shard,
    to_device,
)
from eqlib.models.training.loop.distributed import Objective, Processes, share_gradients
from eqlib.models.training.loop.optimizer import Optimizer
from eqlib.models.training.loop.record import Record, Step
from eqlib.models.training.progress import ProgressBar, say
from eqlib.models.training.reports import Metrics, Row
from eqlib.models.training.storage import Checkpoint, Weights, write_checkpoint
from eqlib.models.training.task import Batch, Dataset, Splits, Task

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Position:
    """How far a run has come."""

    step: int = 0
    best: float = math.inf
    """The best validation measure so far."""
    best_step: int = 0
    seconds: float = 0.0
    evaluated: float = 0.0
    """When the last evaluation ended, in seconds of the run."""


class Trainer:
    """Trains one model on one task.

    The loss of a step is the sum of the losses of its items over all processes, divided by their
    number. Batches come in an order that is a function of seed and epoch alone, and no item is
    dropped.

    Args:
        task: the learning problem.
        model: the network, on the device and in the dtype of the run.
        splits: the data.
        run: the configuration.
        processes: this process among those that train together.
        folder: where checkpoints and metrics go.
        about: what each checkpoint's manifest says of the run.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        splits: Splits,
        run: RunConfig,
        processes: Processes,
        folder: Path,
        about: dict[str, Any],
    ) -> None:
        self.task, self.model, self.splits = task, model, splits
        self.run, self.config, self.processes = run, run.training, processes
        self.folder, self.about = folder, about
        self.epoch_steps = num_batches(len(splits.train), self.config.batch_size)
        self.evaluation_steps = self.config.evaluate_every * self.epoch_steps
        self.total_steps = self.config.epochs * self.epoch_steps
        self.optimizer = Optimizer(model, self.config, self.epoch_steps, processes.device)
        self.objective = share_gradients(Objective(task, model), processes)
        self.record = Record(processes, self.epoch_steps, self.config.precision == "float16")
        self.at = Position()
        self.row: Row | None = None
        self.best = weights_of(self.optimizer.evaluated)
        self.start = time.perf_counter()
        if self.config.compile != "no":
            for network in {model, self.optimizer.evaluated}:
                network.compile(mode=self.config.compile, dynamic=False)
        torch.manual_seed(derive_seed("training", run.seed, processes.rank))

    def fit(self) -> None:
        """Train to the end, or until the validation measure has stopped improving."""
        main = self.processes.is_main
        metrics = Metrics(self.folder, self.at.step, self.config.tensorboard) if main else None
        self.model.train()
        with ProgressBar(self.task.name, self.at.step, self.total_steps) as progress:
            for indices, batch in self._batches():
                self._train_step(indices, batch)
                if self._evaluation_due():
                    self._evaluate(metrics)
                if self._checkpoint_due():
                    self.save()
                if progress.due() or self._finished():
                    progress.show(self.at.step, self._status())
                if self._finished():
                    return

    def save(self) -> None:
        """Write a checkpoint of everything that the rest of the run depends on."""
        self.at.seconds = self._clock()
        state = {
            "position": asdict(self.at),
            "record": self.record.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": self.processes.collect(_random_state(self.processes.device)),
        }
        if self.processes.is_main:
            model = self.model.state_dict()
            checkpoint = Checkpoint(self.at.step, model, self.best, state, self.about)
            write_checkpoint(self.folder / "checkpoints", checkpoint)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint: bit for bit, with as many processes and threads as before.

        With another number of processes, the random states (dropout, augmentation) start anew.
        """
        self.model.load_state_dict(checkpoint.model)
        self.best = checkpoint.best
        self.at = Position(**checkpoint.state["position"])
        self.record.load_state_dict(checkpoint.state["record"])
        self.optimizer.load_state_dict(checkpoint.state["optimizer"])
        self.start = time.perf_counter() - self.at.seconds
        states = checkpoint.state["random"]
        if len(states) == self.processes.size:
            _set_random_state(states[self.processes.rank], self.processes.device)
        else:
            say(
                f"{self.processes.size} processes continue what {len(states)} began: dropout and "
                "augmentation draw other numbers than in a run without interruption"
            )

    def _batches(self) -> Iterator[tuple[Indices, Batch]]:
        """Yield the indices of each global batch that is left, with this process's part of it."""
        processes, dataset = self.processes, self.splits.train
        while not self._finished():
            epoch, done = divmod(self.at.step, self.epoch_steps)
            order = epoch_order(self.run.seed, epoch, len(dataset))
            batches = order.split(self.config.batch_size)[done:]
            parts = [shard(batch, processes.rank, processes.size) for batch in batches]
            # without an item of its own a process borrows one, to take part in the gradients
            lent = [part if len(part) else b[:1] for part, b in zip(parts, batches, strict=True)]
            yield from zip(batches, fetch(dataset, lent, self.config.workers), strict=True)

    def _train_step(self, indices: Indices, batch: Batch) -> None:
        """Take one step on a global batch, of which ``batch`` is this process's part."""
        processes, half = self.processes, HALF.get(self.config.precision)
        mine = shard(indices, processes.rank, processes.size)
        with torch.autocast(processes.device.type, half, enabled=half is not None):
            losses = self.objective(to_device(batch, processes.device, float_dtype(self.config)))
        _check_losses(losses, max(len(mine), 1), self.task)
        loss = losses.sum() * processes.weight(len(mine), len(indices))
        norm = self.optimizer.backward(loss)
        self.record.add(Step(self.at.step + 1, mine, losses.detach()[: len(mine)], norm))
        self.optimizer.update(self.at.step)
        self.at.step += 1

    def _evaluate(self, metrics: Metrics | None) -> None:
        """Measure on the validation split, keep the best weights, and add a row of metrics."""
        at, model = self.at, self.optimizer.evaluated
        seconds = self._clock()
        loss, norm, items = self.record.means()
        valid = evaluate_split(self.task, model, self.splits.valid, self.config, self.processes)
        measure = valid[self.task.selection]
        if not math.isfinite(measure):
            raise FloatingPointError(
                f"the validation {self.task.selection} is {measure} after step {at.step}: "
                "lower the learning rate, clip the gradient (clip_norm) or check the data"
            )
        if measure < at.best or self.task.keeps_last:
            at.best, at.best_step = measure, at.step
            self.best = weights_of(model)
        row = {
            "step": at.step,
            "epoch": at.step / self.epoch_steps,
            "train_loss": loss,
            **{f"valid_{name}": value for name, value in valid.items()},
            **self._followed(),
            "learning_rate": self.optimizer.rate(at.step - 1),
            "gradient_norm": norm,
            "seconds": round(seconds, 3),
            "items_per_second": round(items / (seconds - at.evaluated), 1),
        }
        if metrics:
            metrics.append(row)
        self.row = row
        self.record.clear()
        self.model.train()
        at.evaluated = self._clock()

    def _followed(self) -> Row:
        """Return the test measures of a task that records them all along."""
        if not self.task.follows_test:
            return {}
        model, test = self.optimizer.evaluated, self.splits.test
        found = evaluate_split(self.task, model, test, self.config, self.processes)
        return {f"test_{name}": value for name, value in found.items()}

    def _evaluation_due(self) -> bool:
        return self.at.step % self.evaluation_steps == 0 or self.at.step == self.total_steps

    def _checkpoint_due(self) -> bool:
        every = self.config.checkpoint_every
        if self._finished() or (every > 0 and self.at.step % every == 0):
            return True
        return self._evaluation_due() and self._old_enough()

    def _old_enough(self) -> bool:
        """Whether the last checkpoint is old enough for another; the main process decides."""
        young = self._clock() - self.at.seconds < self.config.checkpoint_seconds
        flag = torch.tensor([float(self.processes.is_main and not young)])
        return bool(self.processes.total(flag.to(self.processes.device)))

    def _finished(self) -> bool:
        if self.at.step == self.total_steps:
            return True
        if self.config.patience is None or not self._evaluation_due():
            return False
        return self.at.step - self.at.best_step >= self.config.patience * self.evaluation_steps

    def _clock(self) -> float:
        """Return the seconds that the run has taken, interruptions left out."""
        return time.perf_counter() - self.start

    def _status(self) -> str:
        """Return the figures to show beside the progress bar: this process's, to need no other."""
        record, row, name = self.record, self.row, self.task.selection
        parts = [f"epoch {self.at.step / self.epoch_steps:.4g}"]
        if record.items:
            seconds = self._clock() - self.at.evaluated
            parts += [f"{record.items * self.processes.size / seconds:,.0f} items/s"]
            parts += [f"loss {record.loss_sum / record.items:.4g}"]
        elif row:
            parts += [f"{row['items_per_second']:,.0f} items/s", f"loss {row['train_loss']:.4g}"]
        if row:
            parts += [f"valid {name} {row[f'valid_{name}']:.4g} (best {self.at.best:.4g})"]
        return "  ".join(parts)


@torch.no_grad()
def evaluate_split(
    task: Task, model: nn.Module, dataset: Dataset, config: TrainingConfig, processes: Processes
) -> dict[str, float]:
    """Return a task's figures on a whole split, from the measures of its items in data order.

    The network computes in the dtype of its weights, without half precision.
    """
    model.eval()
    batches = torch.arange(len(dataset)).split(config.batch_size)
    parts = [shard(batch, processes.rank, processes.size) for batch in batches]
    places = torch.cat(parts)
    # without an item of its own a process borrows one, to learn the names of the measures
    lent = [part for part in parts if len(part)] or [torch.arange(1)]
    found = [
        task.measures(model, to_device(batch, processes.device, float_dtype(config)))
        for batch in fetch(dataset, lent, config.workers)
    ]
    measures = {}
    for name in found[0]:
        values = torch.cat([part[name].double() for part in found])[: len(places)]
        measures[name] = processes.assemble(values, places, len(dataset)).cpu()
    return task.summarise(measures)


def float_dtype(config: TrainingConfig) -> torch.dtype:
    """Return the dtype of weights and data; half precision lives in the computation alone."""
    return torch.float64 if config.precision == "float64" else torch.float32


def weights_of(model: nn.Module) -> Weights:
    """Return a copy of a network's weights and buffers."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _check_losses(losses: Tensor, items: int, task: Task) -> None:
    if losses.shape != (items,):
        raise ValueError(
            f"{type(task).__name__}.losses must return one loss per item, of shape ({items},); "
            f"it returned {tuple(losses.shape)}"
        )


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
