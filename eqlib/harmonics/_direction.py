"""Directions of vectors of any length, with finite derivatives."""

from typing import Any

import torch
from torch import Tensor


def direction(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit vectors by components, ``(3, *batch)``, and where vectors are not zero.

    The zero vector has the direction 0 with derivatives 0, and a vector with an entry that is not
    finite the direction NaN.
    """
    # Reductions over a short last axis are slow.
    vectors = vectors.movedim(-1, 0).contiguous()
    largest = vectors.detach().abs().amax(0)
    zero = largest == 0
    scale = torch.where(largest.isfinite(), torch.where(zero, 1.0, largest), torch.nan)
    # A constant in place of the vector cuts the gradient where the square root has none.
    nonzero = torch.where(zero, 1.0, vectors)
    compiling = torch.compiler.is_compiling()
    scaled = nonzero / scale if compiling else _Divided.apply(nonzero, scale)
    unit = scaled / scaled.square().sum(0).sqrt()
    return torch.where(zero, 0.0, unit), ~zero


class _Divided(torch.autograd.Function):
    """Division by a constant whose derivatives saturate at the largest number of the dtype.

    The second derivative at a float32 vector of length 1e-30 is near 1e60, which overflows.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, scale: Tensor) -> Tensor:
        largest = torch.finfo(x.dtype).max
        return (x / scale).clamp(-largest, largest)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.save_for_forward(inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        return _Divided.apply(gradient, scale), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: Tensor | None) -> Tensor:
        (scale,) = ctx.saved_tensors
        return _Divided.apply(tangent, scale)
