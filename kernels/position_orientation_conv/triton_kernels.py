r"""Triton kernels of the convolution: the kernel of a tile of rows is made where it is used.

A program owns some receivers: it goes through their edges in tiles of rows, forms the filters of a
tile in matrix products, multiplies them with the features of the senders, and adds the messages to
totals (channels, receivers x orientations) in registers, in a product with a matrix of zeros and
ones. It writes each total once: no atomic operation, nothing in memory of the size of the edges.

GELU is exact: half of its argument times one plus the error function. Factors of float32 are sums
of two TF32 numbers, and three products of these make one.
"""
# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: N803 - compile-time arguments are in capitals

import triton.language as tl

from eqlib.kernels.position_orientation_conv.triton_rows import (
    attributes_of,
    inputs_of,
    split_rows,
)
from eqlib.kernels.triton_common import factor_of, jit, matmul, split


@jit
def share(t):
    """Return the normal distribution function, by which GELU multiplies."""
    return 0.5 * tl.erf(0.7071067811865476 * t) + 0.5


@jit
def slope(t):
    """Return the derivative of GELU."""
    return share(t) + 0.3989422804014327 * t * tl.exp(-0.5 * t * t)


@jit
def linear(
    left, weight, bias, first, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
    N: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Return N outputs (ROWS, N) of a linear layer of K inputs."""
    i = first + tl.arange(0, N)
    total = tl.zeros((ROWS, N), ACC)
    right = factor_of(weight, first, 0, HEIGHT, WIDTH, N, K, PRECISION)
    total = matmul(left, right, total, PRECISION, ACC)
    return total + tl.load(bias + i, mask=i < HEIGHT, other=0.0)[None, :]


@jit
def basis_of(
    inputs, w1, b1, w2, b2, first, WIDTH: tl.constexpr, HIDDEN: tl.constexpr,
    BASIS: tl.constexpr, ROWS: tl.constexpr, INPUTS: tl.constexpr, BH: tl.constexpr,
    BB: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Return what GELU makes BB values (ROWS, BB) of the basis of."""
    total = tl.zeros((ROWS, BB), ACC)
    # Without invariant code in the loop the compiler would hold it in registers, and spill others.
    for h in tl.range(0, HIDDEN, BH, num_stages=STAGES, disable_licm=True):
        hidden = linear(inputs, w1, b1, h, HIDDEN, WIDTH, ROWS, BH, INPUTS, PRECISION, ACC)
        hidden *= share(hidden)
        factor = factor_of(w2, first, h, BASIS, HIDDEN, BB, BH, PRECISION)
        total = matmul(split(hidden, PRECISION), factor, total, PRECISION, ACC)
    i = first + tl.arange(0, BB)
    return total + tl.load(b2 + i, mask=i < BASIS, other=0.0)[None, :]


@jit
def _filters(
    inputs, window, w1, b1, w2, b2, w3, channel, WIDTH: tl.constexpr, HIDDEN: tl.constexpr,
    BASIS: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr, INPUTS: tl.constexpr,
    BH: tl.constexpr, BB: tl.constexpr, BC: tl.constexpr, STAGES: tl.constexpr,
    PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Return the filters (ROWS, BC); hidden values are made again for every BB of the basis."""
    filters = tl.zeros((ROWS, BC), ACC)
    inputs = split(inputs, PRECISION)
    for b in tl.range(0, BASIS, BB, num_stages=STAGES, disable_licm=True):
        basis = basis_of(
            inputs, w1, b1, w2, b2, b, WIDTH, HIDDEN, BASIS, ROWS, INPUTS, BH, BB, STAGES,
            PRECISION, ACC,
        )  # fmt: skip
        basis *= share(basis) * window[:, None]
        factor = factor_of(w3, channel, b, CHANNELS, BASIS, BC, BB, PRECISION)
        filters = matmul(split(basis, PRECISION), factor, filters, PRECISION, ACC)
    return filters


@jit
def features_of(
    x, node, orientation, channel, ok, ORIENTATIONS: tl.constexpr, CHANNELS: tl.constexpr,
    BC: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Return the features (ROWS, BC) of nodes at orientations."""
    channels = channel + tl.arange(0, BC)[None, :]
    place = (node * ORIENTATIONS + orientation) * CHANNELS
    mask = ok[:, None] & (channels < CHANNELS)
    return tl.load(x + place[:, None] + channels, mask=mask, other=0.0).to(ACC)


@jit
def _edges_of(
    source, target, by_source, opposite, begin, start, end, first_orientation,
    SORTED: tl.constexpr, BACK: tl.constexpr, TOGETHER: tl.constexpr,
    ORIENTATIONS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Return what rows of a list of edges are: edge, ends, orientation, that of the kernel, ..."""
    edge, local = split_rows(start, TOGETHER, ROWS)
    edge += begin
    orientation = first_orientation + local
    ok = (edge < end) & (orientation < ORIENTATIONS)
    if not SORTED:
        edge = tl.load(by_source + edge, mask=ok, other=0)
    sender = tl.load(source + edge, mask=ok, other=0)
    receiver = tl.load(target + edge, mask=ok, other=0)
    of_kernel = orientation
    if BACK:
        ok = ok & (sender != receiver)
        of_kernel = tl.load(opposite + orientation, mask=ok, other=0).to(tl.int32)
    if not SORTED:
        sender, receiver = receiver, sender
    return edge, sender, receiver, local, orientation, of_kernel, ok


@jit
def _store_totals(
    y, total, first, last, first_orientation, channel, TOGETHER: tl.constexpr,
    ORIENTATIONS: tl.constexpr, CHANNELS: tl.constexpr, BC: tl.constexpr, TOTALS: tl.constexpr,
):  # fmt: skip
    slot = tl.arange(0, TOTALS)
    node = first + slot // TOGETHER
    orientation = first_orientation + slot % TOGETHER
    channels = channel + tl.arange(0, BC)[None, :]
    place = (node * ORIENTATIONS + orientation) * CHANNELS
    mask = ((node < last) & (orientation < ORIENTATIONS))[:, None] & (channels < CHANNELS)
    tl.store(y + place[:, None] + channels, tl.trans(total).to(y.dtype.element_ty), mask=mask)


@jit(do_not_specialize=["nodes", "group"])
def _convolve_kernel(
    x, y, offsets, axes, scalars, w1, b1, w2, b2, w3, source, target, starts, by_source,
    source_starts, frame, opposite, nodes, group, KIND: tl.constexpr, N: tl.constexpr,
    M: tl.constexpr, COUNT: tl.constexpr, DEGREE: tl.constexpr, SOFTENING: tl.constexpr,
    RADIUS: tl.constexpr, FEATURES: tl.constexpr, SCALARS: tl.constexpr, HIDDEN: tl.constexpr,
    BASIS: tl.constexpr, CHANNELS: tl.constexpr, ORIENTATIONS: tl.constexpr,
    REVERSED: tl.constexpr, TOGETHER: tl.constexpr, TOTALS: tl.constexpr, ROWS: tl.constexpr,
    INPUTS: tl.constexpr, BH: tl.constexpr, BB: tl.constexpr, BC: tl.constexpr,
    STAGES: tl.constexpr, PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Store the sums of the messages that enter nodes or, REVERSED, of those that leave them.

    With opposite orientations there are two lists of edges: the second is for messages back.
    """
    first = tl.program_id(0).to(tl.int64) * group
    last = tl.minimum(first + group, nodes)
    first_orientation = tl.program_id(1) * TOGETHER
    channel = tl.program_id(2) * BC
    total = tl.zeros((BC, TOTALS), ACC)
    for back in tl.static_range(1 if opposite is None else 2):
        begins = starts if (back == 1) == REVERSED else source_starts
        begin, end = tl.load(begins + first), tl.load(begins + last)
        for start in tl.range(0, (end - begin) * TOGETHER, ROWS, disable_licm=True):
            edge, sender, receiver, local, orientation, of_kernel, ok = _edges_of(
                source, target, by_source, opposite, begin, start, end, first_orientation,
                (back == 1) == REVERSED, back == 1, TOGETHER, ORIENTATIONS, ROWS,
            )  # fmt: skip
            values, window = attributes_of(
                offsets, axes, frame, edge, of_kernel, ok,
                KIND, N, M, ORIENTATIONS, SOFTENING, RADIUS,
            )  # fmt: skip
            inputs = inputs_of(
                values, scalars, edge, ok, COUNT, DEGREE, FEATURES, SCALARS, ROWS, INPUTS, ACC
            )
            messages = _filters(
                inputs, window, w1, b1, w2, b2, w3, channel, FEATURES + SCALARS, HIDDEN, BASIS,
                CHANNELS, ROWS, INPUTS, BH, BB, BC, STAGES, PRECISION, ACC,
            )  # fmt: skip
            messages *= features_of(
                x, sender, orientation, channel, ok, ORIENTATIONS, CHANNELS, BC, ACC
            )
            slot = local + ((receiver - first) * TOGETHER).to(tl.int32)
            ones = ((slot[:, None] == tl.arange(0, TOTALS)[None, :]) & ok[:, None]).to(ACC)
            total = matmul(split(tl.trans(messages), PRECISION), (ones,), total, PRECISION, ACC)
    _store_totals(
        y, total, first, last, first_orientation, channel,
        TOGETHER, ORIENTATIONS, CHANNELS, BC, TOTALS,
    )  # fmt: skip
