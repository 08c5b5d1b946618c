"""Torch, in blocks of slots: sums of gathered rows, so that pairs have no features in memory.

Only member numbers and slots are made for the pairs of a block. Half precision is computed on
copies in float32.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from eqlib.kernels.pair_linear.arguments import Linear, Pairs, Reduction, WeightGradient

BLOCK_BYTES = {"cpu": 2**20, "cuda": 2**26}
"""Of the features gathered at a time; those of any other device are as on a CUDA device."""


def reduce(arguments: Reduction) -> Tensor:
    """Return the sums over the pairs of each member, (members, parts x channels)."""
    x, scale, pairs = arguments
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    members, channels = len(pairs.subgraph), x.shape[1]
    sums = wide.new_empty(members, pairs.parts, channels)
    begins = _row_begins(pairs)
    for first, last, begin, end in _cuts(begins, len(pairs.row), _block(wide, channels)):
        along = _slots(pairs, torch.arange(begin, end, device=x.device))
        offsets = begins[first:last] - begin
        for part, slot in ((1, along), (2, pairs.transpose[along])):
            factors = None if scale is None else scale[slot]
            sums[first:last, part] = _sum_rows(wide, slot, offsets, factors)
    for part, pair in _single_pairs(pairs):
        slot = _slots(pairs, pair)
        sums[:, part] = wide[slot]
        if scale is not None:
            sums[:, part] *= scale[slot, None]
    return sums.flatten(1).to(x.dtype)


def linear(arguments: Linear) -> Tensor:
    """Return the linear maps of pairs and transposes, and what members add, (slots, outputs)."""
    x, weight, spread, scale, pairs = arguments
    wide = x.to(weight.dtype)
    outputs = weight.shape[2]
    y = wide.new_empty(len(x), outputs)
    spread = None if spread is None else spread.to(weight.dtype).view(-1, outputs)
    size = _block(wide, max(x.shape[1], outputs))
    for begin, cut in _slot_cuts(pairs, len(x), size):
        rows = slice(begin, begin + size)
        torch.mm(wide[rows], weight[0], out=y[rows])
        y[rows].addmm_(wide.index_select(0, pairs.transpose[rows]), weight[1])
        if spread is not None:
            added = _spread_rows(spread, pairs, rows, cut)
            y[rows] += added if scale is None else added.mul_(scale[rows, None])
    if spread is not None:
        for part, pair in _single_pairs(pairs):
            slot = _slots(pairs, pair)
            added = spread[part :: pairs.parts]
            _add_rows(y, slot, added if scale is None else added * scale[slot, None])
    return y.to(x.dtype)


def weight_gradient(arguments: WeightGradient) -> Tensor:
    """Return the products of features, and of transposed ones, with a gradient."""
    x, grad, transpose = arguments
    dtype = torch.promote_types(x.dtype, torch.float32)
    found = x.new_zeros(2, x.shape[1], grad.shape[1], dtype=dtype)
    size = _block(found, max(x.shape[1], grad.shape[1]))
    for begin in range(0, len(x), size):
        rows = slice(begin, begin + size)
        by = grad[rows].to(dtype)
        found[0].addmm_(x[rows].to(dtype).mT, by)
        found[1].addmm_(x.index_select(0, transpose[rows]).to(dtype).mT, by)
    return found


def _block(features: Tensor, width: int) -> int:
    """Return how many rows to take at a time."""
    budget = BLOCK_BYTES["cpu" if features.device.type == "cpu" else "cuda"]
    return max(1, budget // (max(width, 1) * features.element_size()))


def _slots(pairs: Pairs, pair: Tensor) -> Tensor:
    return pair if pairs.slot is None else pairs.slot[pair]


def _row_begins(pairs: Pairs) -> Tensor:
    """Return the first pair of each member."""
    sizes = pairs.starts.diff()
    place = torch.arange(len(pairs.subgraph), device=sizes.device) - pairs.starts[pairs.subgraph]
    return pairs.pair_starts[pairs.subgraph] + place * sizes[pairs.subgraph]


def _single_pairs(pairs: Pairs) -> Iterator[tuple[int, Tensor]]:
    """Yield each part that belongs to one pair of a member, and these pairs."""
    starts = pairs.starts[pairs.subgraph]
    begins = _row_begins(pairs)
    place = torch.arange(len(starts), device=starts.device) - starts
    yield 0, begins + place
    if pairs.root is not None:
        root = pairs.root[pairs.subgraph]
        yield 3, begins + root - starts
        yield 4, begins[root] + place


def _cuts(begins: Tensor, pairs: int, size: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield members, from and to, of about so many pairs together, and these pairs likewise."""
    wanted = torch.arange(0, pairs, size, device=begins.device)
    first = (torch.searchsorted(begins, wanted, right=True) - 1).unique_consecutive()
    cuts = [*zip(first.tolist(), begins[first].tolist(), strict=True), (len(begins), pairs)]
    for (member, pair), (next_member, next_pair) in pairwise(cuts):
        yield member, next_member, pair, next_pair


def _slot_cuts(pairs: Pairs, slots: int, size: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield the first slot of each block, and which of the sorted pairs belong to the block."""
    begins = range(0, slots, size)
    if pairs.slot_starts is None:
        cuts = [*begins, slots]
    else:
        cuts = [*pairs.slot_starts[:-1:size].tolist(), len(pairs.row)]
    yield from zip(begins, pairwise(cuts), strict=True)


def _spread_rows(spread: Tensor, pairs: Pairs, rows: slice, cut: tuple[int, int]) -> Tensor:
    """Return the sums over the pairs of each slot of a row and a column of members."""
    begin, end = cut
    order = slice(begin, end) if pairs.slot_order is None else pairs.slot_order[begin:end]
    members = torch.stack([pairs.row[order], pairs.column[order]], dim=1)
    index = members * pairs.parts + torch.arange(1, 3, device=members.device)
    if pairs.slot_starts is None:
        offsets = torch.arange(0, 2 * (end - begin), 2, device=index.device)
    else:
        offsets = 2 * (pairs.slot_starts[:-1][rows] - begin)
    return _sum_rows(spread, index.flatten(), offsets, None)


def _sum_rows(rows: Tensor, index: Tensor, offsets: Tensor, factors: Tensor | None) -> Tensor:
    """Return sums of rows, times factors, over stretches of an index: nothing is gathered."""
    total: Tensor = torch.embedding_bag(
        rows, index, offsets, mode=_SUM, per_sample_weights=factors
    )[0]
    return total


def _add_rows(y: Tensor, index: Tensor, rows: Tensor) -> None:
    """Add rows where an index says, in an order that does not vary from call to call."""
    if y.device.type == "cpu":
        y.index_add_(0, index, rows)
    else:
        y.index_put_((index,), rows, accumulate=True)  # sorts, and index_add_ does not


_SUM = 0
"""The mode of torch.embedding_bag."""
