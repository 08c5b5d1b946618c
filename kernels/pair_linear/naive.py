"""The definition: one value for every pair in memory. Torch can differentiate these functions."""

import torch
from torch import Tensor

from eqlib.kernels.pair_linear.arguments import Linear, Pairs, Reduction, WeightGradient


def reduce(arguments: Reduction) -> Tensor:
    """Return the sums over the pairs of each member, (members, parts x channels)."""
    x, scale, pairs = arguments
    local = x.to(torch.promote_types(x.dtype, torch.float32))
    if scale is not None:
        local = local * scale[:, None]
    if pairs.slot is not None:
        local = local[pairs.slot]
    zeros = local.new_zeros(len(pairs.subgraph), x.shape[1])
    sums = [
        zeros.index_add(0, member, torch.where(where, local, 0.0))
        for member, where in _parts(pairs)
    ]
    return torch.cat(sums, dim=1).to(x.dtype)


def linear(arguments: Linear) -> Tensor:
    """Return the linear maps of pairs and transposes, and what members add, (slots, outputs)."""
    x, weight, spread, scale, pairs = arguments
    wide = x.to(weight.dtype)
    y = wide @ weight[0] + wide[pairs.transpose] @ weight[1]
    if spread is not None:
        chunks = spread.to(weight.dtype).chunk(pairs.parts, dim=1)
        local = torch.zeros_like(chunks[0][pairs.row])
        for (member, where), chunk in zip(_parts(pairs), chunks, strict=True):
            local = local + torch.where(where, chunk[member], 0.0)
        if pairs.slot is not None:
            local = torch.zeros_like(y).index_add(0, pairs.slot, local)
        y = y + (local if scale is None else local * scale[:, None])
    return y.to(x.dtype)


def weight_gradient(arguments: WeightGradient) -> Tensor:
    """Return the products of features, and of transposed ones, with a gradient."""
    x, grad, transpose = arguments
    dtype = torch.promote_types(x.dtype, torch.float32)
    x, grad = x.to(dtype), grad.to(dtype)
    return torch.stack([x.mT @ grad, x[transpose].mT @ grad])


def _parts(pairs: Pairs) -> list[tuple[Tensor, Tensor]]:
    """Return for each part the member that a pair may belong to, and whether it does."""
    row, column = pairs.row, pairs.column
    found = [(row, row == column), (row, row >= 0), (column, row >= 0)]
    if pairs.root is not None:
        root = pairs.root[pairs.subgraph][row]
        found += [(row, column == root), (column, row == root)]
    return [(member, where[:, None]) for member, where in found]
