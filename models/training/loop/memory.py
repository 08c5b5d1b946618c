"""Memory of a training step, the same on every device and at every call."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from eqlib.models.training.loop.batches import epoch_order, to_device
from eqlib.models.training.loop.trainer import Trainer, float_dtype


def saved_bytes(trainer: Trainer) -> int:
    """Return the most that the backward pass of a training step keeps, in bytes.

    That is every tensor which autograd saves between the forward and the backward pass, counted
    once, without weights and without the batch itself: the activations. The batches are those of
    the first epoch. Weights and random states stay as they are.
    """
    run, device = trainer.config, trainer.processes.device
    order = epoch_order(trainer.run.seed, 0, len(trainer.splits.train))
    model, state = trainer.model, {n: t.clone() for n, t in trainer.model.state_dict().items()}
    model.train()
    most = 0
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for indices in order.split(run.batch_size):
            batch = to_device(trainer.splits.train[indices], device, float_dtype(run))
            most = max(most, _saved_by_step(trainer, batch))
    model.load_state_dict(state)
    model.eval()
    return most


def kept_bytes(compute: Callable[[], Tensor], known: Iterable[Any]) -> int:
    """Return the bytes of the tensors that autograd saves for the derivative of a result.

    Args:
        compute: computes the result.
        known: tensors that do not count, and tuples of them, such as weights and a batch.
    """
    outside = {tensor.untyped_storage().data_ptr() for tensor in _tensors(known)}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in outside:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would keep alive what computed it, for ever

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = compute()
    del result
    return sum(saved.values())


def _saved_by_step(trainer: Trainer, batch: dict[str, Any]) -> int:
    task, model = trainer.task, trainer.model
    known = [*model.parameters(), *model.buffers(), *batch.values()]
    return kept_bytes(lambda: task.losses(model, batch), known)


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among values and in tuples of them, such as a plan."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, tuple):
            found += _tensors(value)
    return found
