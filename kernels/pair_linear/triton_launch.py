"""Launches of the Triton kernels; the contract of all three functions is in op.py."""

from typing import Any

import torch
from torch import Tensor

from eqlib.kernels.pair_linear import triton_configurations as configurations
from eqlib.kernels.pair_linear import triton_kernels as kernels
from eqlib.kernels.pair_linear.arguments import Linear, Reduction, WeightGradient
from eqlib.kernels.triton_common import runnable

KERNELS = {
    "reduce": kernels._reduce_kernel,
    "linear": kernels._linear_kernel,
    "weight": kernels._weight_kernel,
}


def reduce(arguments: Reduction) -> Tensor:
    """Return the sums over the pairs of each member, (members, parts x channels)."""
    x, pairs = arguments.x, arguments.pairs
    y = x.new_empty(len(pairs.subgraph), pairs.parts * x.shape[1])
    reduce_into(y, arguments)
    return y


def linear(arguments: Linear) -> Tensor:
    """Return the linear maps of pairs and transposes, and what members add, (slots, outputs)."""
    y = arguments.x.new_empty(len(arguments.x), arguments.weight.shape[2])
    linear_into(y, arguments)
    return y


def weight_gradient(arguments: WeightGradient) -> Tensor:
    """Return the products of features, and of transposed ones, with a gradient."""
    parts = empty_parts(arguments)
    parts_into(parts, arguments)
    return parts.sum(0)


def reduce_into(y: Tensor, arguments: Reduction) -> None:
    """Write the sums of members to a contiguous tensor."""
    x, scale, pairs = arguments
    constants, options = configurations.constants("reduce", x.shape[1], 0, pairs.parts, x.dtype)
    members = len(pairs.subgraph)
    grid = (-(-members // constants["BM"]), -(-x.shape[1] // constants["BC"]))
    indices = (pairs.starts, pairs.pair_starts, pairs.subgraph, pairs.root, pairs.slot)
    with torch.cuda.device_of(x):
        kernel = runnable(KERNELS["reduce"], x)
        kernel[grid](x, scale, *indices, y, members, **constants, **options)


def linear_into(y: Tensor, arguments: Linear) -> None:
    """Write the results of slots to a contiguous tensor."""
    x, weight, spread, scale, pairs = arguments
    _, channels, outputs = weight.shape
    constants, options = configurations.constants("linear", channels, outputs, pairs.parts, x.dtype)
    grid = (-(-len(x) // constants["BG"]), -(-outputs // constants["BS"]))
    indices = (pairs.transpose, pairs.subgraph, pairs.row, pairs.column)
    shared = (pairs.root, pairs.slot_order, pairs.slot_starts)
    with torch.cuda.device_of(x):
        kernel = runnable(KERNELS["linear"], x)
        operands = (x, weight.mT.contiguous(), spread, scale, *indices, *shared, y, len(x))
        kernel[grid](*operands, **constants, **options)


def empty_parts(arguments: WeightGradient) -> Tensor:
    """Return memory for the parts of the gradient by the weight, each of some slots."""
    x, grad, _ = arguments
    constants, _ = _weight_constants(arguments)
    across = _programs_across(arguments, constants)
    most = max(1, configurations.PROGRAMS // (across[0] * across[1]))
    count = min(-(-len(x) // constants["ROWS"]), most)
    dtype = torch.promote_types(x.dtype, torch.float32)
    return x.new_empty(count, 2, x.shape[1], grad.shape[1], dtype=dtype)


def parts_into(parts: Tensor, arguments: WeightGradient) -> None:
    """Write the parts of the gradient by the weight."""
    x, grad, transpose = arguments
    constants, options = _weight_constants(arguments)
    tiles = -(-len(x) // (constants["ROWS"] * len(parts)))
    grid = (len(parts), *_programs_across(arguments, constants))
    with torch.cuda.device_of(x):
        kernel = runnable(KERNELS["weight"], x)
        kernel[grid](x, grad, transpose, parts, len(x), tiles, **constants, **options)


def _weight_constants(arguments: WeightGradient) -> tuple[dict[str, Any], dict[str, int]]:
    x, grad, _ = arguments
    return configurations.constants("weight", x.shape[1], grad.shape[1], 0, x.dtype)


def _programs_across(arguments: WeightGradient, constants: dict[str, Any]) -> tuple[int, int]:
    channels, outputs = arguments.x.shape[1], arguments.grad.shape[1]
    return -(-channels // constants["BC"]), -(-outputs // constants["BS"])
