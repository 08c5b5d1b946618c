"""One process or many: joining torchrun's processes, sharing gradients, gathering results."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from eqlib.models.training.loop.batches import Indices
from eqlib.models.training.task import Batch, Task

T = TypeVar("T")

_LEFT_GROUPS: list[dist.ProcessGroup | None] = []
"""Process groups that were left; they live on to the end of the process."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes files."""
        return self.rank == 0

    def weight(self, mine: int, items: int) -> float:
        """Return the factor that turns this process's sum of losses into its loss.

        Torch averages gradients over the processes. With this factor the average is the gradient
        of the mean loss of a global batch, however its items are spread over the processes.

        Args:
            mine: number of the batch's items that this process has.
            items: number of the batch's items.
        """
        return self.size / items if mine else 0.0

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over the processes, on every process."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def assemble(self, values: Tensor, places: Indices, items: int) -> Tensor:
        """Return the values of all items, of which each process knows some.

        Args:
            values: the values that this process knows.
            places: their positions; every position belongs to exactly one process.
            items: number of items.
        """
        whole = values.new_zeros(items)
        whole[places.to(values.device)] = values
        return self.total(whole)

    def collect(self, value: T) -> list[T]:
        """Return the value of each process, in the order of their ranks, on every process."""
        if self.size == 1:
            return [value]
        values = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Run a block on the main process, then on the others, which find its files."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()


class Objective(nn.Module):
    """A task's losses as the forward pass of a module, so that torch can wrap it."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.task = task
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of each item."""
        return self.task.losses(self.model, batch)


def share_gradients(objective: Objective, processes: Processes) -> nn.Module:
    """Return the objective with gradients that are averaged over the processes."""
    if processes.size == 1:
        return objective
    # parameters may go unused: the last layer of many networks updates features nobody reads
    return DistributedDataParallel(objective, find_unused_parameters=True)


@contextmanager
def join_processes(device: str = "auto") -> Iterator[Processes]:
    """Join the processes that torchrun started; without torchrun, be the only one.

    Args:
        device: ``auto`` takes a GPU where there is one; each process takes the GPU of its local
            rank.

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes(0, 1, chosen)
        return
    if chosen.type == "cuda":
        dist.init_process_group("nccl", device_id=chosen)
    else:
        dist.init_process_group("gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        # DDP's reducer can outlive this block in the frames of an exception. As the last owner of
        # the group it would join a thread that waits for the interpreter's lock, which it holds.
        _LEFT_GROUPS.append(dist.group.WORLD)
        dist.destroy_process_group()


def _device(name: str, local_rank: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise ValueError(
            f"device {name!r} asks for a GPU, but torch {torch.__version__} finds none; "
            "take 'cpu' or 'auto'"
        )
    device = torch.device("cuda", local_rank if device.index is None else device.index)
    torch.cuda.set_device(device)
    return device
