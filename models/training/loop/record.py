"""The losses of the steps between two evaluations, and the end of a run that diverges."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eqlib.models.training.loop.batches import Indices
from eqlib.models.training.loop.distributed import Processes

READ_EVERY = 50
"""On a GPU, losses are read once in so many steps: each reading waits for the device."""


class Step(NamedTuple):
    """What one step on this process's part of a batch came to."""

    number: int
    indices: Indices
    losses: Tensor
    norm: Tensor
    """Norm of the gradient before clipping."""


class Record:
    """Adds up losses and gradient norms, and refuses those that are not finite.

    On a CPU every step is checked before it changes the weights. On a GPU several are checked
    together, but always before an evaluation or a checkpoint.

    Args:
        processes: this process among those that train together.
        epoch_steps: number of steps in an epoch.
        overflow: whether gradients may overflow now and then, as with a scaled float16 loss.
    """

    def __init__(self, processes: Processes, epoch_steps: int, overflow: bool = False) -> None:
        self.processes, self.epoch_steps, self.overflow = processes, epoch_steps, overflow
        self.unread: list[Step] = []
        self.clear()

    def clear(self) -> None:
        """Start again from nothing, after an evaluation."""
        self.loss_sum, self.norm_sum, self.items, self.steps = 0.0, 0.0, 0, 0

    def add(self, step: Step) -> None:
        """Take note of a step.

        Raises:
            FloatingPointError: a loss or a gradient is not finite.
        """
        self.unread.append(step)
        if not step.losses.is_cuda or len(self.unread) == READ_EVERY:
            self.read()

    def read(self) -> None:
        """Add up the steps that have not been read from the device yet.

        Raises:
            FloatingPointError: a loss or a gradient is not finite.
        """
        if not self.unread:
            return
        losses = torch.cat([step.losses for step in self.unread])
        norms = torch.stack([step.norm for step in self.unread])
        if self.overflow:  # the optimizer leaves these steps out
            norms = norms.nan_to_num(0.0, 0.0)
        loss_sum, norm_sum = losses.sum(dtype=torch.float64).item(), norms.sum().item()
        if not (math.isfinite(loss_sum) and math.isfinite(norm_sum)):
            raise FloatingPointError(self._complaint())
        self.loss_sum += loss_sum
        self.norm_sum += norm_sum
        self.items += len(losses)
        self.steps += len(self.unread)
        self.unread.clear()

    def means(self) -> tuple[float, float, int]:
        """Return the mean loss, the mean gradient norm and the number of items, over all processes.

        Every process must call it.
        """
        loss_sum, items = self._totals()
        return loss_sum / items, self.norm_sum / self.steps, items

    def state_dict(self) -> dict[str, Any]:
        """Return the sums over all processes; every process must call it."""
        loss_sum, items = self._totals()
        norm_sum, steps = self.norm_sum, self.steps
        return {"loss_sum": loss_sum, "items": items, "norm_sum": norm_sum, "steps": steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.norm_sum, self.steps = state["norm_sum"], state["steps"]
        if self.processes.is_main:  # one process stands for all until the next evaluation
            self.loss_sum, self.items = state["loss_sum"], state["items"]

    def _totals(self) -> tuple[float, int]:
        self.read()
        sums = torch.tensor([self.loss_sum, self.items], dtype=torch.float64)
        loss_sum, items = self.processes.total(sums.to(self.processes.device)).tolist()
        return loss_sum, int(items)

    def _complaint(self) -> str:
        """Name the first step whose loss or gradient is not finite, and the items at fault."""
        advice = "lower the learning rate, clip the gradient (clip_norm) or check the data"
        for number, indices, losses, norm in self.unread:
            epoch, batch = divmod(number - 1, self.epoch_steps)
            where = f"in step {number} (epoch {epoch + 1}, batch {batch + 1})"
            wrong = indices[~losses.isfinite().cpu()].tolist()
            if wrong:
                return f"the loss of training items {wrong} is not finite {where}: {advice}"
            if not (norm.isfinite() or self.overflow):
                return f"the gradient is not finite {where}, where the losses are: {advice}"
        raise AssertionError("unreachable: the sum of finite losses and norms is finite")
