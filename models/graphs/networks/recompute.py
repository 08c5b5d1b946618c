"""Computing the insides of a layer anew in the backward pass, instead of keeping them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def recomputed(layer: nn.Module, *inputs: Any) -> Any:
    """Return a layer's outputs, keeping its inputs alone for the backward pass.

    Batches are counted once in the running statistics of batch normalisation, although the layer
    runs twice.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _without_statistics(layer)

    return checkpoint(layer, *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def _without_statistics(layer: nn.Module) -> Iterator[None]:
    """Let batch normalisation compute as ever, and its running statistics stay."""
    norms: list[Any] = [part for part in layer.modules() if hasattr(part, "running_mean")]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms if hasattr(norm, "num_batches_tracked")]
    before = [count.clone() for count in counts]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for count, value in zip(counts, before, strict=True):
            count.copy_(value)
