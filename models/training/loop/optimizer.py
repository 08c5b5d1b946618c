"""How a loss changes the weights: gradients, clipping, learning rate, AdamW, averaging."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from eqlib.models.training.configuration import TrainingConfig


def learning_rate(
    step: int,
    peak: float,
    warmup: int,
    total: int,
    schedule: str,
    stair: int = 1,
    factor: float = 1.0,
) -> float:
    r"""Return the learning rate of a step: linear warm-up, then constant, half a cosine or stairs.

    .. math:: \eta_s = \eta \min\left(\frac{s + 1}{w}, 1\right), \qquad
              \eta_s = \frac{\eta}{2} \left(1 + \cos \pi \frac{s - w}{S - w}\right) \; (s \ge w)
              \quad \text{or} \quad \eta\, f^{\lfloor s / t \rfloor}

    Args:
        step: number of steps taken before this one.
        peak: largest learning rate.
        warmup: number of steps of the warm-up.
        total: number of steps of the run.
        schedule: ``cosine``, ``constant`` or ``step``, for the steps after the warm-up.
        stair: number t of steps after which a rate falls that falls in steps; counted from the
            start of the run.
        factor: f, what it is multiplied by.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    if schedule == "step":
        return peak * factor ** (step // stair)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


@torch.no_grad()
def move_average(
    averages: list[Tensor], weights: list[Tensor], updates: Tensor | int, decay: float
) -> None:
    r"""Move averaged weights towards the present ones, faster at the start of a run.

    .. math:: \bar w \leftarrow \bar w + (1 - d_n)(w - \bar w), \qquad
              d_n = \min\left(d, \frac{1 + n}{10 + n}\right)

    so that the average forgets the initial weights within the first tenth of its steps.

    Args:
        averages: averaged weights, changed in place.
        weights: present weights.
        updates: number n of updates before this one.
        decay: d, the decay per step after the start.
    """
    n = float(updates)
    torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + n) / (10 + n)))


class Optimizer:
    """AdamW with clipped gradients, a schedule and, if asked for, averaged weights.

    Args:
        model: the network.
        config: the training options.
        epoch_steps: number of steps in an epoch.
        device: where the network is.
    """

    def __init__(
        self, model: nn.Module, config: TrainingConfig, epoch_steps: int, device: torch.device
    ) -> None:
        self.model = model
        self.config = config
        self.total = config.epochs * epoch_steps
        self.stair = config.step_epochs * epoch_steps
        self.warmup = min(round(config.warmup_epochs * epoch_steps), self.total)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        # one fused kernel per step: four times as fast as the loop over tensors, on a CPU too
        self.adam = torch.optim.AdamW(
            self.parameters, config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self.average: AveragedModel | None = None
        if config.ema_decay:
            average = partial(move_average, decay=config.ema_decay)
            self.average = AveragedModel(model, multi_avg_fn=average)

    @property
    def evaluated(self) -> nn.Module:
        """The network to evaluate and to select: the average of the weights where there is one."""
        return self.average.module if self.average else self.model

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        config = self.config
        return learning_rate(
            step,
            config.learning_rate,
            self.warmup,
            self.total,
            config.schedule,
            self.stair,
            config.step_factor,
        )

    def backward(self, loss: Tensor) -> Tensor:
        """Compute the gradients, clip them, and return their norm before that."""
        self.adam.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.adam)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.config.clip_norm:
            nn.utils.clip_grads_with_norm_(self.parameters, self.config.clip_norm, norm)
        return norm

    def update(self, step: int) -> None:
        """Change the weights along the gradients."""
        for group in self.adam.param_groups:
            group["lr"] = self.rate(step)
        self.scaler.step(self.adam)
        self.scaler.update()
        if self.average:
            self.average.update_parameters(self.model)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps beside the weights."""
        return {
            "adam": self.adam.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.adam.load_state_dict(state["adam"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.load_state_dict(state["average"])
