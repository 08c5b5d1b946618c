"""The operation ``eqlib::channelwise_matmul``, closed under differentiation."""

from typing import Any

import torch
from torch import Tensor

from eqlib.kernels.channelwise_matmul import compiled, naive
from eqlib.kernels.choice import require_implementation, whynot_cpu
from eqlib.kernels.operation import operation

NAMES = ("naive", "compiled")


@operation("eqlib::channelwise_matmul")
def channelwise_matmul(a: Tensor, b: Tensor, implementation: str) -> Tensor:
    r"""Products of matrices, one for every channel.

    .. math:: c_{ijn} = \sum_k a_{kin}\, b_{kjn}

    Its derivatives are this operation again, with axes exchanged.

    Args:
        a: (depth, rows, channels), in any unit. The first two axes may be in any order in memory.
        b: (depth, columns, channels), likewise.
        implementation: "naive", "compiled", or "auto": "compiled" where it can run.

    Returns:
        (rows, columns, channels).

    Raises:
        ValueError: shapes do not fit, or the implementation cannot run.
        TypeError: dtypes differ.
    """
    if a.ndim != 3 or b.ndim != 3 or a.shape[::2] != b.shape[::2]:
        raise ValueError(
            f"a, b: expected (depth, rows, channels) and (depth, columns, channels), got "
            f"{tuple(a.shape)} and {tuple(b.shape)}"
        )
    if a.dtype != b.dtype:
        raise TypeError(f"b: expected {a.dtype}, as a, got {b.dtype}")
    name = pick(a.device, a.dtype)[0] if implementation == "auto" else implementation
    require_implementation(name, NAMES, lambda name: whynot(name, a.device, a.dtype))
    return (compiled if name == "compiled" else naive).multiply(a, b).contiguous()


def pick(device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """Return the implementation that ``"auto"`` stands for, and the reason.

    Args:
        device: that of the operands.
        dtype: that of the operands.
    """
    if reason := whynot("compiled", device, dtype):
        return "naive", f"compiled cannot run: {reason}"
    return "compiled", "channels stay side by side, and this machine has a C compiler"


def whynot(name: str, device: torch.device, dtype: torch.dtype) -> str:
    """Return why an implementation cannot run, or nothing.

    Args:
        name: of the implementation.
        device: that of the operands.
        dtype: that of the operands.
    """
    if name == "naive":
        return ""
    return whynot_cpu(device) or compiled.whynot(dtype)


@channelwise_matmul.register_fake
def _(a: Tensor, b: Tensor, implementation: str) -> Tensor:
    return a.new_empty(a.shape[1], b.shape[1], a.shape[2])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, b, ctx.implementation = inputs
    ctx.save_for_backward(a, b)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    a, b = ctx.saved_tensors
    by_a = by_b = None
    if ctx.needs_input_grad[0]:
        by_a = channelwise_matmul(b.transpose(0, 1), grad.transpose(0, 1), ctx.implementation)
    if ctx.needs_input_grad[1]:
        by_b = channelwise_matmul(a.transpose(0, 1), grad, ctx.implementation)
    return by_a, by_b, None


channelwise_matmul.register_autograd(_backward, setup_context=_save)
