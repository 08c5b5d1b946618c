r"""The operation ``eqlib::convnext_block``, its gradient, and the gradient of that.

Contract of the implementations, all of which have these two functions::

    mix(x, tensors, epsilon) -> y
    differentiate(grad_y, tensors, epsilon, wants_weights) -> gradients of the tensors

with the tensors z, norm_weight, norm_bias, w1, b1, w2, b2, scale, all contiguous and of one dtype,
float32 or float64. Without ``wants_weights`` all gradients but that of z are empty.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eqlib.kernels.convnext_block import naive
from eqlib.kernels.convnext_block.implementations import load
from eqlib.kernels.operation import operation

_TENSORS = (
    "Tensor z, Tensor norm_weight, Tensor norm_bias, Tensor w1, Tensor b1, Tensor w2, Tensor b2, "
    "Tensor scale"
)
_SETTINGS = "float epsilon, str implementation"
_COUNT = 8


@operation("eqlib::convnext_block", f"(Tensor x, {_TENSORS}, {_SETTINGS}) -> Tensor")
def convnext_block(x: Tensor, *inputs: Any) -> Tensor:
    r"""Add to rows what two layers make of others, without their hidden layer in memory.

    .. math::
        y = x + \gamma \odot (W_2\, \mathrm{GELU}(W_1\, \mathrm{LayerNorm}(z) + b_1) + b_2)

    The gradient makes the hidden layer again. There are two derivatives.

    Args:
        x: (rows, channels), in any unit.
        *inputs: in this order,

            * z: (rows, channels)
            * norm_weight, norm_bias: of the normalisation, (channels,)
            * w1, b1, w2, b2: (hidden, channels), (hidden,), (channels, hidden), (channels,)
            * scale: :math:`\gamma`, (channels,); empty: one
            * epsilon: added to the variance, in the unit of z squared
            * implementation: "auto" or one of ``NAMES``

    Returns:
        (rows, channels).

    Raises:
        ValueError: shapes do not fit, or there is no such implementation.
        TypeError: the tensors are not all float32 or all float64.
    """
    *tensors, epsilon, implementation = inputs
    _check(x, tensors)
    x, *tensors = (tensor.contiguous() for tensor in (x, *tensors))
    how = load(implementation, x.device, x.dtype)
    y: Tensor = how.mix(x, tensors, epsilon)
    return y


@operation(
    "eqlib::convnext_block_backward",
    f"(Tensor grad_y, {_TENSORS}, {_SETTINGS}, bool wants_weights)"
    f" -> ({', '.join(['Tensor'] * _COUNT)})",
    implementation=-2,
)
def convnext_block_backward(grad_y: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    """Return the gradients of the block; that of x is ``grad_y``.

    Args:
        grad_y: gradient of its result.
        *inputs: those of :func:`convnext_block` from z on, then whether those of the weights are
            wanted as well; otherwise they are empty.
    """
    *tensors, epsilon, implementation, wants_weights = inputs
    _check(grad_y, tensors)
    grad_y, *tensors = (tensor.contiguous() for tensor in (grad_y, *tensors))
    how = load(implementation, grad_y.device, grad_y.dtype)
    found: tuple[Tensor, ...] = how.differentiate(grad_y, tensors, epsilon, wants_weights)
    return found


@operation(
    "eqlib::convnext_block_double_backward",
    f"(Tensor[] seeds, Tensor grad_y, {_TENSORS}, float epsilon)"
    f" -> ({', '.join(['Tensor'] * (1 + _COUNT))})",
    implementation=None,
)
def _double_backward(seeds: Sequence[Tensor], grad_y: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    """Differentiate the inner product of seeds and gradients by ``grad_y`` and the tensors.

    Args:
        seeds: one for each gradient, or empty for zero.
        grad_y: as in :func:`convnext_block_backward`.
        *inputs: the tensors from z on, and epsilon.
    """
    *tensors, epsilon = inputs
    given = [
        seed if len(seed) else torch.zeros_like(tensor)
        for seed, tensor in zip(seeds, tensors, strict=True)
    ]
    return naive.differentiate_twice(given, grad_y, tensors, epsilon)


@convnext_block.register_fake
def _(x: Tensor, *inputs: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@convnext_block_backward.register_fake
def _(grad_y: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    tensors, wants_weights = inputs[:_COUNT], inputs[-1]
    return tuple(
        tensor.new_empty(tensor.shape if index == 0 or wants_weights else 0)
        for index, tensor in enumerate(tensors)
    )


@_double_backward.register_fake
def _(seeds: Sequence[Tensor], grad_y: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return tuple(part.new_empty(part.shape) for part in (grad_y, *inputs[:_COUNT]))


def _check(x: Tensor, tensors: Sequence[Tensor]) -> None:
    """Raise unless shapes and dtypes fit."""
    z, norm_weight, norm_bias, w1, b1, w2, b2, scale = tensors
    if z.ndim != 2 or not z.shape[1] or not len(b1):
        raise ValueError(
            f"z: expected (rows, channels) and one channel and hidden unit or more, got shape "
            f"{tuple(z.shape)} and {len(b1)} hidden units"
        )
    channels, hidden = z.shape[1], len(b1)
    shapes = {
        "x": (x, z.shape),
        "norm_weight": (norm_weight, (channels,)),
        "norm_bias": (norm_bias, (channels,)),
        "w1": (w1, (hidden, channels)),
        "b1": (b1, (hidden,)),
        "w2": (w2, (channels, hidden)),
        "b2": (b2, (channels,)),
        "scale": (scale, (channels if len(scale) else 0,)),
    }
    for name, (tensor, shape) in shapes.items():
        if tensor.shape != shape:
            raise ValueError(f"{name}: expected shape {tuple(shape)}, got {tuple(tensor.shape)}")
        if tensor.dtype != z.dtype or tensor.dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"{name}: expected float32 or float64, as all the others, got {tensor.dtype} "
                f"beside z of {z.dtype}"
            )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Save the tensors from the second on; the gradient has no need of x."""
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[1 : 1 + _COUNT])
    ctx.settings = inputs[1 + _COUNT :]


def _backward(ctx: Any, grad_y: Tensor | None) -> tuple[Tensor | None, ...]:
    wants = ctx.needs_input_grad
    if grad_y is None or not any(wants[1:]):
        return (grad_y, *[None] * (len(wants) - 1))
    found = convnext_block_backward(
        grad_y, *ctx.saved_tensors, *ctx.settings, any(wants[2 : 1 + _COUNT])
    )
    parts = (part if wish else None for part, wish in zip(found, wants[1:], strict=False))
    return (grad_y, *parts, None, None)


def _save_all(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[: 1 + _COUNT])
    ctx.settings = inputs[1 + _COUNT :]


def _backward_twice(ctx: Any, *seeds: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_y, *tensors = ctx.saved_tensors
    epsilon, _, wants_weights = ctx.settings
    given = [
        grad_y.new_empty(0) if seed is None or not (index == 0 or wants_weights) else seed
        for index, seed in enumerate(seeds)
    ]
    if not any(len(seed) for seed in given):
        return (None,) * (4 + _COUNT)
    return *_double_backward(given, grad_y, *tensors, epsilon), None, None, None


convnext_block.register_autograd(_backward, setup_context=_save)
convnext_block_backward.register_autograd(_backward_twice, setup_context=_save_all)
