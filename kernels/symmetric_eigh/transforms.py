"""The decomposition in forward mode, under vmap and the transforms of torch.func.

The operations have their gradients in reverse mode, of any order, and for compilers. An operation
of torch takes no part in the transforms, and in forward mode is silently a constant: there the
same formulas are autograd functions.
"""

from typing import Any

import torch
from torch import Tensor

from eqlib.kernels.operation import is_transforming
from eqlib.kernels.symmetric_eigh import op
from eqlib.kernels.symmetric_eigh.derivatives import differentiate_gradient, push, push_gradient


def decompose(matrices: Tensor, guard: float, implementation: str) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors; the arguments are those of the operation."""
    if is_transforming():
        found: tuple[Tensor, Tensor] = _Eigh.apply(matrices, guard, implementation)
        return found
    return op.symmetric_eigh(matrices, guard, implementation)


def _differentiate(*arguments: Any) -> Tensor:
    if is_transforming():
        gradient: Tensor = _Gradient.apply(*arguments)
        return gradient
    return op.symmetric_eigh_gradient(*arguments)


class _Eigh(torch.autograd.Function):
    """Eigenvalues and eigenvectors, of the matrices, the guard and the implementation."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:
        return op.symmetric_eigh(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.settings = inputs[1:]
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        return _differentiate(*cotangents, *ctx.saved_tensors, *ctx.settings), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> tuple[Tensor, Tensor]:
        values, vectors = ctx.saved_tensors
        return push(tangent, values, vectors, ctx.settings[0])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        return decompose(inputs[0].movedim(in_dims[0], 0), *inputs[1:]), (0, 0)


class _Gradient(torch.autograd.Function):
    """Gradient of the matrices, of what the operation ``symmetric_eigh_gradient`` takes."""

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        return op.symmetric_eigh_gradient(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.guard = inputs[4]
        ctx.save_for_backward(*inputs[:4])
        ctx.save_for_forward(*inputs[:4])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        return *differentiate_gradient(cotangents[0], ctx.saved_tensors, ctx.guard), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        operands = ctx.saved_tensors
        given = [
            torch.zeros_like(operand) if tangent is None else tangent
            for tangent, operand in zip(tangents[:4], operands, strict=True)
        ]
        return push_gradient(given, operands, ctx.guard)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        return _differentiate(*op.in_front(info, in_dims, inputs[:4]), *inputs[4:]), 0
