r"""Triton kernels of the gradients by the weights, and of those by each row's attributes.

Rows go by in blocks. For each, one kernel stages values of the basis and their gradients, in memory
of a fixed size, and others add products of these to gradients. Every program of them has its own
rows and its own part of the sums, which the caller adds up: no atomic operation, and an order of
additions that depends on shapes alone.
"""
# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: N803 - compile-time arguments are in capitals

import triton.language as tl

from eqlib.kernels.position_orientation_conv.triton_kernels import (
    basis_of,
    features_of,
    linear,
    share,
    slope,
)
from eqlib.kernels.position_orientation_conv.triton_rows import (
    attributes_of,
    inputs_of,
    split_rows,
    store_by_row,
)
from eqlib.kernels.triton_common import factor_of, jit, matmul, split


@jit
def _by_filters(
    grad, x, source, target, opposite, edge, orientation, channel, ok,
    ORIENTATIONS: tl.constexpr, CHANNELS: tl.constexpr, BC: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Return the gradient (ROWS, BC) by the filters: of messages, and of those that go back."""
    sender = tl.load(source + edge, mask=ok, other=0)
    receiver = tl.load(target + edge, mask=ok, other=0)
    found = features_of(x, sender, orientation, channel, ok, ORIENTATIONS, CHANNELS, BC, ACC)
    found *= features_of(grad, receiver, orientation, channel, ok, ORIENTATIONS, CHANNELS, BC, ACC)
    if opposite is not None:
        other = tl.load(opposite + orientation, mask=ok, other=0).to(tl.int32)
        ok = ok & (sender != receiver)
        back = features_of(x, receiver, other, channel, ok, ORIENTATIONS, CHANNELS, BC, ACC)
        back *= features_of(grad, sender, other, channel, ok, ORIENTATIONS, CHANNELS, BC, ACC)
        found += back
    return found


@jit(do_not_specialize=["begin", "end"])
def _stage_kernel(
    grad, x, offsets, axes, scalars, w1, b1, w2, b2, w3t, staged, by_staged, by_window, source,
    target, frame, opposite, begin, end, KIND: tl.constexpr, N: tl.constexpr, M: tl.constexpr,
    COUNT: tl.constexpr, DEGREE: tl.constexpr, SOFTENING: tl.constexpr, RADIUS: tl.constexpr,
    FEATURES: tl.constexpr, SCALARS: tl.constexpr, HIDDEN: tl.constexpr, BASIS: tl.constexpr,
    CHANNELS: tl.constexpr, ORIENTATIONS: tl.constexpr, ROWS: tl.constexpr, INPUTS: tl.constexpr,
    BH: tl.constexpr, BB: tl.constexpr, BC: tl.constexpr, STAGES: tl.constexpr,
    PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Store BB values of the basis of rows, and the gradient by what GELU makes them of."""
    start = begin + tl.program_id(0).to(tl.int64) * ROWS
    first = tl.program_id(1) * BB
    edge, orientation = split_rows(start, ORIENTATIONS, ROWS)
    row = start + tl.arange(0, ROWS)
    ok = row < end
    values, window = attributes_of(
        offsets, axes, frame, edge, orientation, ok, KIND, N, M, ORIENTATIONS, SOFTENING, RADIUS
    )
    inputs = inputs_of(
        values, scalars, edge, ok, COUNT, DEGREE, FEATURES, SCALARS, ROWS, INPUTS, ACC
    )
    inputs = split(inputs, PRECISION)
    before = basis_of(
        inputs, w1, b1, w2, b2, first, FEATURES + SCALARS, HIDDEN, BASIS, ROWS, INPUTS, BH, BB,
        STAGES, PRECISION, ACC,
    )  # fmt: skip
    by_basis = tl.zeros((ROWS, BB), ACC)
    for c in tl.range(0, CHANNELS, BC, disable_licm=True):
        by_filters = _by_filters(
            grad, x, source, target, opposite, edge, orientation, c, ok,
            ORIENTATIONS, CHANNELS, BC, ACC,
        )  # fmt: skip
        factor = factor_of(w3t, first, c, BASIS, CHANNELS, BB, BC, PRECISION)
        by_basis = matmul(split(by_filters, PRECISION), factor, by_basis, PRECISION, ACC)
    basis = before * share(before)
    column = first + tl.arange(0, BB)[None, :]
    place = (row - begin)[:, None] * BASIS + column
    mask = ok[:, None] & (column < BASIS)
    tl.store(staged + place, basis * window[:, None], mask=mask)
    tl.store(by_staged + place, by_basis * slope(before) * window[:, None], mask=mask)
    if by_window is not None:
        place = by_window + row * tl.num_programs(1) + tl.program_id(1)
        tl.store(place, tl.sum(basis * by_basis, 1), mask=ok)


@jit
def _staged(staged, row, column, ok, BASIS: tl.constexpr):
    """Return staged values (ROWS, columns)."""
    mask = ok[:, None] & (column[None, :] < BASIS)
    return tl.load(staged + row[:, None] * BASIS + column[None, :], mask=mask, other=0.0)


@jit
def _add_part(
    parts, tile, first, column, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, N: tl.constexpr,
    K: tl.constexpr,
):  # fmt: skip
    """Add to this program's part of the gradient of a matrix (HEIGHT, WIDTH)."""
    i = first + tl.arange(0, N)[:, None]
    j = column + tl.arange(0, K)[None, :]
    mask = (i < HEIGHT) & (j < WIDTH)
    place = parts + tl.program_id(0).to(tl.int64) * (HEIGHT * WIDTH) + i * WIDTH + j
    tl.store(place, tile + tl.load(place, mask=mask, other=0.0), mask=mask)


@jit(do_not_specialize=["begin", "end", "tiles"])
def _second_kernel(
    offsets, axes, scalars, w1, b1, by_staged, dw2, db2, frame, begin, end, tiles,
    KIND: tl.constexpr, N: tl.constexpr, M: tl.constexpr, COUNT: tl.constexpr,
    DEGREE: tl.constexpr, SOFTENING: tl.constexpr, RADIUS: tl.constexpr, FEATURES: tl.constexpr,
    SCALARS: tl.constexpr, HIDDEN: tl.constexpr, BASIS: tl.constexpr, CHANNELS: tl.constexpr,
    ORIENTATIONS: tl.constexpr, ROWS: tl.constexpr, INPUTS: tl.constexpr, BH: tl.constexpr,
    BB: tl.constexpr, BC: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Add a tile of the gradient of the second layer."""
    first, across = tl.program_id(1) * BB, tl.program_id(2) * BH
    total = tl.zeros((BB, BH), ACC)
    sums = tl.zeros((BB,), ACC)
    own = begin + tl.program_id(0).to(tl.int64) * tiles * ROWS
    for start in tl.range(own, tl.minimum(own + tiles * ROWS, end), ROWS, disable_licm=True):
        edge, orientation = split_rows(start, ORIENTATIONS, ROWS)
        row = start + tl.arange(0, ROWS)
        ok = row < end
        values, _ = attributes_of(
            offsets, axes, frame, edge, orientation, ok,
            KIND, N, M, ORIENTATIONS, SOFTENING, 0.0,
        )  # fmt: skip
        inputs = inputs_of(
            values, scalars, edge, ok, COUNT, DEGREE, FEATURES, SCALARS, ROWS, INPUTS, ACC
        )
        hidden = linear(
            split(inputs, PRECISION), w1, b1, across,
            HIDDEN, FEATURES + SCALARS, ROWS, BH, INPUTS, PRECISION, ACC,
        )  # fmt: skip
        hidden *= share(hidden)
        left = _staged(by_staged, row - begin, first + tl.arange(0, BB), ok, BASIS)
        sums += tl.sum(left, 0)
        left = split(tl.trans(left), PRECISION)
        total = matmul(left, split(hidden, PRECISION), total, PRECISION, ACC)
    _add_part(dw2, total, first, across, BASIS, HIDDEN, BB, BH)
    if across == 0:
        _add_part(db2, sums[:, None], first, 0, BASIS, 1, BB, 1)


@jit(do_not_specialize=["begin", "end", "tiles"])
def _third_kernel(
    grad, x, staged, dw3, source, target, opposite, begin, end, tiles, BASIS: tl.constexpr,
    CHANNELS: tl.constexpr, ORIENTATIONS: tl.constexpr, ROWS: tl.constexpr, BB: tl.constexpr,
    BC: tl.constexpr, PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Add a tile of the gradient of the last layer."""
    channel, first = tl.program_id(1) * BC, tl.program_id(2) * BB
    total = tl.zeros((BC, BB), ACC)
    own = begin + tl.program_id(0).to(tl.int64) * tiles * ROWS
    for start in tl.range(own, tl.minimum(own + tiles * ROWS, end), ROWS, disable_licm=True):
        edge, orientation = split_rows(start, ORIENTATIONS, ROWS)
        row = start + tl.arange(0, ROWS)
        ok = row < end
        by_filters = _by_filters(
            grad, x, source, target, opposite, edge, orientation, channel, ok,
            ORIENTATIONS, CHANNELS, BC, ACC,
        )  # fmt: skip
        basis = _staged(staged, row - begin, first + tl.arange(0, BB), ok, BASIS)
        left = split(tl.trans(by_filters), PRECISION)
        total = matmul(left, split(basis, PRECISION), total, PRECISION, ACC)
    _add_part(dw3, total, channel, first, CHANNELS, BASIS, BC, BB)


@jit(do_not_specialize=["begin", "end", "tiles"])
def _first_kernel(
    offsets, axes, scalars, w1, b1, w1t, w2t, by_staged, dw1, db1, by_row, frame, begin, end,
    tiles, KIND: tl.constexpr, N: tl.constexpr, M: tl.constexpr, COUNT: tl.constexpr,
    DEGREE: tl.constexpr, SOFTENING: tl.constexpr, RADIUS: tl.constexpr, FEATURES: tl.constexpr,
    SCALARS: tl.constexpr, HIDDEN: tl.constexpr, BASIS: tl.constexpr, CHANNELS: tl.constexpr,
    ORIENTATIONS: tl.constexpr, ROWS: tl.constexpr, INPUTS: tl.constexpr, BH: tl.constexpr,
    BB: tl.constexpr, BC: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Add BH rows of the gradient of the first layer; store what they give for each row."""
    first = tl.program_id(1) * BH
    total = tl.zeros((BH, INPUTS), ACC)
    sums = tl.zeros((BH,), ACC)
    own = begin + tl.program_id(0).to(tl.int64) * tiles * ROWS
    for start in tl.range(own, tl.minimum(own + tiles * ROWS, end), ROWS, disable_licm=True):
        edge, orientation = split_rows(start, ORIENTATIONS, ROWS)
        row = start + tl.arange(0, ROWS)
        ok = row < end
        by_hidden = tl.zeros((ROWS, BH), ACC)
        for b in tl.range(0, BASIS, BB, num_stages=STAGES, disable_licm=True):
            left = _staged(by_staged, row - begin, b + tl.arange(0, BB), ok, BASIS)
            factor = factor_of(w2t, first, b, HIDDEN, BASIS, BH, BB, PRECISION)
            by_hidden = matmul(split(left, PRECISION), factor, by_hidden, PRECISION, ACC)
        values, _ = attributes_of(
            offsets, axes, frame, edge, orientation, ok,
            KIND, N, M, ORIENTATIONS, SOFTENING, 0.0,
        )  # fmt: skip
        inputs = inputs_of(
            values, scalars, edge, ok, COUNT, DEGREE, FEATURES, SCALARS, ROWS, INPUTS, ACC
        )
        inputs = split(inputs, PRECISION)
        by_hidden *= slope(
            linear(
                inputs, w1, b1, first,
                HIDDEN, FEATURES + SCALARS, ROWS, BH, INPUTS, PRECISION, ACC,
            )
        )  # fmt: skip
        sums += tl.sum(by_hidden, 0)
        total = matmul(split(tl.trans(by_hidden), PRECISION), inputs, total, PRECISION, ACC)
        if by_row is not None:
            factor = factor_of(w1t, 0, first, FEATURES + SCALARS, HIDDEN, INPUTS, BH, PRECISION)
            by_inputs = tl.zeros((ROWS, INPUTS), ACC)
            by_inputs = matmul(split(by_hidden, PRECISION), factor, by_inputs, PRECISION, ACC)
            store_by_row(
                by_row, by_inputs, values, row * tl.num_programs(1) + tl.program_id(1), ok,
                COUNT, DEGREE, FEATURES, SCALARS, ROWS, INPUTS, ACC,
            )  # fmt: skip
    _add_part(dw1, total, first, 0, HIDDEN, FEATURES + SCALARS, BH, INPUTS)
    _add_part(db1, sums[:, None], first, 0, HIDDEN, 1, BH, 1)
