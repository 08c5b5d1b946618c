"""Scales of the weights found from data, once, before training."""

from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from eqlib.position_orientation.convolution.attention import SpatialAttention
from eqlib.position_orientation.convolution.fibre import OrientationConv
from eqlib.position_orientation.convolution.given import PairConv
from eqlib.position_orientation.convolution.spatial import SpatialConv

Convolution = SpatialConv | SpatialAttention | PairConv | OrientationConv


def calibrate(module: nn.Module, **inputs: Any) -> None:
    """Rescale the weights of all convolutions so that none changes the spread of its features.

    The module runs once, without gradients. Each convolution, in the order in which it is reached,
    divides its weights by the standard deviation that it gives to its output, over all nodes,
    orientations and channels, and multiplies them by that of its input; what comes after it already
    sees the rescaled output. The scales are then part of the weights: nothing remains to be saved,
    and calls of the module never change them.

    Args:
        module: a layer or a network with :class:`SpatialConv`, :class:`SpatialAttention`,
            :class:`PairConv` or :class:`OrientationConv` in it.
        **inputs: arguments of the module, a batch as in training.

    Raises:
        ValueError: there is no such convolution in the module, or a spread is zero or not finite;
            the weights are then as they were.

    Note:
        Where processes train together, calibrate one and send its weights to the others, before
        they are wrapped.
    """
    convolutions = [m for m in module.modules() if isinstance(m, Convolution)]
    if not convolutions:
        raise ValueError("module has no convolutions to calibrate")
    before = [conv.weight.detach().clone() for conv in convolutions]
    hooks = [conv.register_forward_hook(_rescale) for conv in convolutions]
    try:
        with torch.no_grad():
            module(**inputs)
    except BaseException:
        with torch.no_grad():
            for conv, weight in zip(convolutions, before, strict=True):
                conv.weight.copy_(weight)
        raise
    finally:
        for hook in hooks:
            hook.remove()


def _rescale(conv: Convolution, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """Rescale a convolution after its call, and return the output that it now has."""
    features, bias = inputs[0], None
    if not isinstance(conv, OrientationConv):
        mask = inputs[1].mask
        spreads = [x if mask is None else x[mask] for x in (features, output)]
    else:
        bias = conv.bias
        spreads = [features, output if bias is None else output - bias]
    before, after = (x.double().std().item() if x.numel() > 1 else 0.0 for x in spreads)
    scale = before / after if after else inf
    if not (0 < scale < inf):
        raise ValueError(
            f"the features of a {type(conv).__name__} have the standard deviation {before} before "
            f"and {after} after it; expected positive, finite numbers: calibrate with a batch of "
            "data in which features differ and nodes have neighbours"
        )
    conv.weight.mul_(scale)
    return scale * output if bias is None else scale * (output - bias) + bias
