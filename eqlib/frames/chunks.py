"""How many frames a call of the backbone gets."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from eqlib.frames.folding.fold import Fold, Folding
from eqlib.frames.folding.ragged import RaggedFold

POINTS_PER_CALL = 2**14
"""On a CPU: with more, the features of a common network leave the caches, and are taken from fresh
pages of memory at each call (`python benchmarks/run.py frame_average_pointnet`)."""


def parts(
    fold: Folding, chunk: int | None, points: Tensor | None, backbone: Callable[..., Any]
) -> Iterator[slice]:
    """Slices of the copies of a batch, at least one: what each call of the backbone gets.

    Args:
        fold: the copies.
        chunk: copies per call; None takes all, but on a CPU no more than a good number of points,
            where calls of their own do not change the result.
        points: whose frames they are, if it is points.
        backbone: the network to call.
    """
    copies = max(fold.copies, 1)
    size = _copies_per_call(fold, points, backbone) if chunk is None else chunk
    for start in range(0, copies, size):
        yield slice(start, min(start + size, fold.copies))


def _copies_per_call(fold: Folding, points: Tensor | None, backbone: Callable[..., Any]) -> int:
    copies = max(fold.copies, 1)
    if points is None or points.device.type != "cpu" or torch.compiler.is_compiling():
        return copies
    if not isinstance(fold, Fold | RaggedFold) or _mixes_clouds(backbone):
        return copies
    share = fold.clouds(slice(0, 1)) / max(fold.layout.clouds.numel(), 1)
    points_per_copy = max(share * points.numel() / points.shape[-1], 1)
    most = max(1, min(copies, int(POINTS_PER_CALL / points_per_copy)))
    calls = -(-copies // most)
    return -(-copies // calls)  # a small rest would cost as much around the call as a whole one


def _mixes_clouds(backbone: Callable[..., Any]) -> bool:
    """Whether the backbone normalises over the batch, so that all copies have to be in one."""
    modules = backbone.modules() if isinstance(backbone, nn.Module) else ()
    return any(isinstance(module, _BatchNorm) and module.training for module in modules)
