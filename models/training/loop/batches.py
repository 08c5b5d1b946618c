"""Batches: which items, in which order, on which process, and how they reach the device."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader

from eqlib.models.training.task import Batch, Dataset

Indices = Int[Tensor, "_"]


@runtime_checkable
class Movable(Protocol):
    """What a batch may hold beside tensors: anything that moves between devices."""

    def to(self, device: torch.device) -> Any:
        """Return the same on a device."""
        ...


class InMemory:
    """A data set of named tensors that share their first axis, the items.

    The training loop moves it to the device once, so that a batch costs one indexing operation.

    Raises:
        ValueError: no tensor is given, or they disagree on the number of items.
    """

    def __init__(self, **tensors: Tensor) -> None:
        sizes = {name: len(tensor) for name, tensor in tensors.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"expected tensors with one common number of items, got {sizes}")
        self.tensors = tensors

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, indices: Indices) -> Batch:
        return {
            name: tensor.index_select(0, indices.to(tensor.device))
            for name, tensor in self.tensors.items()
        }

    def to(self, device: torch.device, dtype: torch.dtype) -> "InMemory":
        """Return the data set on a device, with floating tensors in ``dtype``."""
        return InMemory(**to_device(self.tensors, device, dtype))


def to_device(batch: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return the batch on a device, floating tensors in ``dtype``, numbers as they are."""

    def moved(value: Any) -> Any:
        if isinstance(value, Tensor):
            floating = value.is_floating_point()
            return value.to(device, dtype if floating else value.dtype, non_blocking=True)
        return value.to(device) if isinstance(value, Movable) else value

    return {name: moved(value) for name, value in batch.items()}


def derive_seed(purpose: str, *numbers: int) -> int:
    """Return a seed for one purpose; those of different purposes or numbers are unrelated."""
    digest = hashlib.sha256(f"{purpose} {numbers}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def epoch_order(seed: int, epoch: int, items: int) -> Indices:
    """Return the order in which an epoch visits the items: a pure function of its arguments."""
    generator = torch.Generator().manual_seed(derive_seed("order", seed, epoch))
    return torch.randperm(items, generator=generator)


def num_batches(items: int, batch_size: int) -> int:
    """Return the number of batches that cover all items; the last may be smaller."""
    return -(-items // batch_size)


def shard(batch: Indices, rank: int, size: int) -> Indices:
    """Return the part of a global batch that one process works on.

    The parts are contiguous, differ by at most one item, and are empty on the last processes
    where the batch has fewer items than there are processes.
    """
    return batch.tensor_split(size)[rank]


def fetch(dataset: Dataset, batches: list[Indices], workers: int = 0) -> Iterator[Batch]:
    """Yield the batch of each index tensor, read ahead by worker processes if there are any."""
    if workers == 0:
        for indices in batches:
            yield dataset[indices]
        return
    # a generator of its own: the loader would draw its base seed from the global random state
    yield from DataLoader(
        cast("torch.utils.data.Dataset[Batch]", dataset),
        batch_size=None,
        sampler=batches,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(0),
    )
