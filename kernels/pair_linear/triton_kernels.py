r"""Triton kernels: sums over the pairs of members, linear maps with what members spread, gradients.

Every result is written once, by the program that owns it, in an order of additions that depends on
the indices alone: there are no atomic operations, and pairs have no features in memory. Members,
pairs, slots and addresses have 64 bits; offsets within weights have 32 bits.
"""
# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: N803 - compile-time arguments are in capitals

import triton.language as tl

from eqlib.kernels.triton_common import factor_of, jit, matmul, split


@jit
def _rows_of(x, row, first, ok, WIDTH: tl.constexpr, N: tl.constexpr, ACC: tl.constexpr):
    """Return N columns of rows of a matrix, (rows, N), with zeros beyond and for rows not ok."""
    column = first + tl.arange(0, N)[None, :]
    mask = ok[:, None] & (column < WIDTH)
    return tl.load(x + row[:, None] * WIDTH + column, mask=mask, other=0.0).to(ACC)


@jit
def _pair_features(
    x, scale, slot, pair, first, ok, CHANNELS: tl.constexpr, BC: tl.constexpr, ACC: tl.constexpr
):
    """Return the features of pairs, times their factors, (pairs, BC)."""
    place = pair
    if slot is not None:
        place = tl.load(slot + pair, mask=ok, other=0)
    found = _rows_of(x, place, first, ok, CHANNELS, BC, ACC)
    if scale is not None:
        found *= tl.load(scale + place, mask=ok, other=0.0)[:, None]
    return found


@jit
def _store_part(
    y, value, member, part: tl.constexpr, first, ok, PARTS: tl.constexpr, CHANNELS: tl.constexpr,
    BC: tl.constexpr,
):  # fmt: skip
    column = first + tl.arange(0, BC)[None, :]
    place = (member[:, None] * PARTS + part) * CHANNELS + column
    mask = ok[:, None] & (column < CHANNELS)
    tl.store(y + place, value.to(y.dtype.element_ty), mask=mask)


@jit(do_not_specialize=["members"])
def _reduce_kernel(
    x, scale, starts, pair_starts, subgraph, root, slot, y, members, CHANNELS: tl.constexpr,
    PARTS: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, UNROLLED: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Store BC channels of all parts of BM members."""
    member = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    first = tl.program_id(1) * BC
    ok = member < members
    own = tl.load(subgraph + member, mask=ok, other=0)
    start = tl.load(starts + own, mask=ok, other=0)
    size = tl.load(starts + own + 1, mask=ok, other=0) - start
    begin = tl.load(pair_starts + own, mask=ok, other=0)
    place = member - start
    along, across = tl.zeros((BM, BC), ACC), tl.zeros((BM, BC), ACC)
    for block in tl.range(0, tl.max(size, 0), UNROLLED):
        for step in tl.static_range(UNROLLED):
            other = block + step
            there = other < size
            pair = begin + place * size + other
            along += _pair_features(x, scale, slot, pair, first, there, CHANNELS, BC, ACC)
            pair = begin + other * size + place
            across += _pair_features(x, scale, slot, pair, first, there, CHANNELS, BC, ACC)
    diagonal = begin + place * (size + 1)
    own_pair = _pair_features(x, scale, slot, diagonal, first, ok, CHANNELS, BC, ACC)
    _store_part(y, own_pair, member, 0, first, ok, PARTS, CHANNELS, BC)
    _store_part(y, along, member, 1, first, ok, PARTS, CHANNELS, BC)
    _store_part(y, across, member, 2, first, ok, PARTS, CHANNELS, BC)
    if root is not None:
        other = tl.load(root + own, mask=ok, other=0) - start
        pair = begin + place * size + other
        to_root = _pair_features(x, scale, slot, pair, first, ok, CHANNELS, BC, ACC)
        _store_part(y, to_root, member, 3, first, ok, PARTS, CHANNELS, BC)
        pair = begin + other * size + place
        from_root = _pair_features(x, scale, slot, pair, first, ok, CHANNELS, BC, ACC)
        _store_part(y, from_root, member, 4, first, ok, PARTS, CHANNELS, BC)


@jit
def _spread_of(
    spread, subgraph, row, column, root, pair, first, ok, PARTS: tl.constexpr,
    OUTPUTS: tl.constexpr, BS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Return what members add to pairs, (pairs, BS)."""
    i = tl.load(row + pair, mask=ok, other=0)
    j = tl.load(column + pair, mask=ok, other=0)
    WIDTH: tl.constexpr = PARTS * OUTPUTS
    column_of = first + tl.arange(0, BS)[None, :]
    inside = ok[:, None] & (column_of < OUTPUTS)
    of_i = spread + i[:, None] * WIDTH + column_of
    of_j = spread + j[:, None] * WIDTH + column_of
    found = tl.load(of_i + OUTPUTS, mask=inside, other=0.0).to(ACC)
    found += tl.load(of_j + 2 * OUTPUTS, mask=inside, other=0.0).to(ACC)
    found += tl.load(of_i, mask=inside & (i == j)[:, None], other=0.0).to(ACC)
    if root is not None:
        own = tl.load(subgraph + i, mask=ok, other=0)
        center = tl.load(root + own, mask=ok, other=-1)
        to_root = inside & (j == center)[:, None]
        found += tl.load(of_i + 3 * OUTPUTS, mask=to_root, other=0.0).to(ACC)
        from_root = inside & (i == center)[:, None]
        found += tl.load(of_j + 4 * OUTPUTS, mask=from_root, other=0.0).to(ACC)
    return found


@jit
def _spread_over(
    spread, subgraph, row, column, root, slot_order, slot_starts, slot, first, ok,
    PARTS: tl.constexpr, OUTPUTS: tl.constexpr, BG: tl.constexpr, BS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Return what members add to all pairs of slots, (BG, BS)."""
    if slot_order is None:
        found = _spread_of(
            spread, subgraph, row, column, root, slot, first, ok, PARTS, OUTPUTS, BS, ACC
        )
    else:
        found = tl.zeros((BG, BS), ACC)
        begin = tl.load(slot_starts + slot, mask=ok, other=0)
        count = tl.load(slot_starts + slot + 1, mask=ok, other=0) - begin
        for step in tl.range(0, tl.max(count, 0)):
            there = step < count
            pair = tl.load(slot_order + begin + step, mask=there, other=0)
            found += _spread_of(
                spread, subgraph, row, column, root, pair, first, there, PARTS, OUTPUTS, BS, ACC
            )
    return found


@jit(do_not_specialize=["slots"])
def _linear_kernel(
    x, weight, spread, scale, transpose, subgraph, row, column, root, slot_order, slot_starts, y,
    slots, CHANNELS: tl.constexpr, OUTPUTS: tl.constexpr, PARTS: tl.constexpr, BG: tl.constexpr,
    BC: tl.constexpr, BS: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Store BS outputs of BG slots; the weight is (2, outputs, channels)."""
    slot = tl.program_id(0).to(tl.int64) * BG + tl.arange(0, BG)
    first = tl.program_id(1) * BS
    ok = slot < slots
    total = tl.zeros((BG, BS), ACC)
    if spread is not None:
        total = _spread_over(
            spread, subgraph, row, column, root, slot_order, slot_starts, slot, first, ok,
            PARTS, OUTPUTS, BG, BS, ACC,
        )  # fmt: skip
        if scale is not None:
            total *= tl.load(scale + slot, mask=ok, other=0.0)[:, None]
    if CHANNELS > 0:
        turned = tl.load(transpose + slot, mask=ok, other=0)
        for c in tl.range(0, CHANNELS, BC, num_stages=STAGES, disable_licm=True):
            left = split(_rows_of(x, slot, c, ok, CHANNELS, BC, ACC), PRECISION)
            factor = factor_of(weight, first, c, OUTPUTS, CHANNELS, BS, BC, PRECISION)
            total = matmul(left, factor, total, PRECISION, ACC)
            left = split(_rows_of(x, turned, c, ok, CHANNELS, BC, ACC), PRECISION)
            other = weight + OUTPUTS * CHANNELS
            factor = factor_of(other, first, c, OUTPUTS, CHANNELS, BS, BC, PRECISION)
            total = matmul(left, factor, total, PRECISION, ACC)
    output = first + tl.arange(0, BS)[None, :]
    mask = ok[:, None] & (output < OUTPUTS)
    place = slot[:, None] * OUTPUTS + output
    tl.store(y + place, total.to(y.dtype.element_ty), mask=mask)


@jit(do_not_specialize=["slots", "tiles"])
def _weight_kernel(
    x, grad, transpose, parts, slots, tiles, CHANNELS: tl.constexpr, OUTPUTS: tl.constexpr,
    ROWS: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr, PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Store this program's part, of so many tiles of slots, of a tile of both gradients."""
    channel, output = tl.program_id(1) * BC, tl.program_id(2) * BS
    plain, turned = tl.zeros((BC, BS), ACC), tl.zeros((BC, BS), ACC)
    own = tl.program_id(0).to(tl.int64) * tiles * ROWS
    for start in tl.range(own, tl.minimum(own + tiles * ROWS, slots), ROWS, disable_licm=True):
        slot = start + tl.arange(0, ROWS)
        ok = slot < slots
        right = split(_rows_of(grad, slot, output, ok, OUTPUTS, BS, ACC), PRECISION)
        left = tl.trans(_rows_of(x, slot, channel, ok, CHANNELS, BC, ACC))
        plain = matmul(split(left, PRECISION), right, plain, PRECISION, ACC)
        other = tl.load(transpose + slot, mask=ok, other=0)
        left = tl.trans(_rows_of(x, other, channel, ok, CHANNELS, BC, ACC))
        turned = matmul(split(left, PRECISION), right, turned, PRECISION, ACC)
    i, j = channel + tl.arange(0, BC)[:, None], output + tl.arange(0, BS)[None, :]
    mask = (i < CHANNELS) & (j < OUTPUTS)
    place = parts + tl.program_id(0).to(tl.int64) * (2 * CHANNELS * OUTPUTS) + i * OUTPUTS + j
    tl.store(place, plain, mask=mask)
    tl.store(place + CHANNELS * OUTPUTS, turned, mask=mask)
