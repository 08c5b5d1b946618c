"""Memory of a training step, the same on every device and at every call."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eqlib.models.training.data import epoch_order, to_device

if TYPE_CHECKING:
    from eqlib.models.training.loop import Trainer


def saved_bytes(trainer: "Trainer") -> int:
    """Return the most that the backward pass of a training step keeps, in bytes.

    That is every tensor which autograd saves between the forward and the backward pass, counted
    once, without weights and without the batch itself: the activations. The batches are those of
    the first epoch. Weights and random states stay as they are.
    """
    from eqlib.models.training.loop import float_dtype

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


def _saved_by_step(trainer: "Trainer", batch: dict[str, Any]) -> int:
    known = [*trainer.model.parameters(), *trainer.model.buffers(), *_tensors(batch.values())]
    outside = {tensor.untyped_storage().data_ptr() for tensor in known}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in outside:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would keep alive what computed it, for ever

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = trainer.task.losses(trainer.model, batch)
    del losses
    return sum(saved.values())


def _tensors(values: Any) -> list[Tensor]:
    """The tensors among values and in tuples of them, such as a plan."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, tuple):
            found += _tensors(value)
    return found
