r"""What the Triton kernels make of a row, a pair of edge and orientation: attributes and features.

Rows are numbered by edge and then by orientation. Where an edge lies has 64 bits; offsets within a
tile of rows, and within the weights, have 32 bits.
"""
# mypy: disable-error-code="no-untyped-def, assignment, misc, var-annotated"
# ruff: noqa: N803 - compile-time arguments are in capitals

import triton.language as tl

from eqlib.kernels.triton_common import constant, jit


@constant
def _steps(count, degree):
    """Return for every monomial that of one factor less, or -1, and the attribute it lacks."""
    # Imported here: Triton refuses functions of other modules that it finds by global names.
    from eqlib.kernels.position_orientation_conv.attributes import factors

    found = list(factors(count, degree))
    return tuple((found.index(f[:-1]) if f[:-1] else -1, f[-1]) for f in found)


@jit
def split_rows(start, COUNT: tl.constexpr, ROWS: tl.constexpr):
    """Return the quotients, in 64 bits, and the remainders of rows from one on by a count."""
    base = start // COUNT
    flat = (start - base * COUNT).to(tl.int32) + tl.arange(0, ROWS)
    return base + flat // COUNT, flat % COUNT


@jit
def _soft_length(square, SOFTENING: tl.constexpr):
    return square / (tl.sqrt(square + SOFTENING * SOFTENING) + SOFTENING)


@jit
def _window(offset, ok, RADIUS: tl.constexpr, N: tl.constexpr):
    """Return the window, 0 for rows that are none."""
    square = tl.zeros_like(offset[0])
    for d in tl.static_range(N):
        part = offset[d] / RADIUS
        square += part * part
    square = tl.minimum(square, 1.0)
    u = tl.where(square < 1e-12, 0.0, tl.sqrt(square))
    window = 1.0 + square * square * square * (48.0 * u - 28.0 - 21.0 * square)
    return tl.where(ok, window, 0.0)


@jit
def attributes_of(
    offsets, axes, frame, edge, orientation, ok, KIND: tl.constexpr, N: tl.constexpr,
    M: tl.constexpr, ORIENTATIONS: tl.constexpr, SOFTENING: tl.constexpr, RADIUS: tl.constexpr,
):  # fmt: skip
    """Return the attributes of rows and their windows, as tensors (ROWS,)."""
    offset = ()
    for d in tl.static_range(N):
        offset = offset + (tl.load(offsets + edge * N + d, mask=ok, other=0.0),)  # noqa: RUF005
    place = orientation.to(tl.int64)
    if frame is not None:
        place += tl.load(frame + edge, mask=ok, other=0) * ORIENTATIONS
    found = ()
    for j in tl.static_range(M):
        along = tl.zeros_like(offset[0])
        for d in tl.static_range(N):
            axis = tl.load(axes + (place * M + j) * N + d, mask=ok, other=0.0)
            along += axis * offset[d]
        found = found + (along,)  # noqa: RUF005
    if KIND != "axes":
        square = tl.zeros_like(offset[0])
        for d in tl.static_range(N):
            part = offset[d]
            if KIND == "perpendicular":
                part -= found[0] * tl.load(axes + place * N + d, mask=ok, other=0.0)
            square += part * part
        found = found + (_soft_length(square, SOFTENING),)  # noqa: RUF005
    if RADIUS > 0:
        window = _window(offset, ok, RADIUS, N)
    else:
        window = tl.where(ok, 1.0, tl.zeros_like(offset[0]))
    return found, window


@jit
def _monomials(values, COUNT: tl.constexpr, DEGREE: tl.constexpr):
    STEPS: tl.constexpr = _steps(COUNT, DEGREE)
    found = ()
    for f in tl.static_range(len(STEPS)):
        product = values[STEPS[f][1]]
        if STEPS[f][0] >= 0:
            product = product * found[STEPS[f][0]]
        found = found + (product,)  # noqa: RUF005
    return found


@jit
def _slopes(values, monomials, by: tl.constexpr, COUNT: tl.constexpr, DEGREE: tl.constexpr):
    """Return the derivatives of the monomials by one attribute."""
    STEPS: tl.constexpr = _steps(COUNT, DEGREE)
    found = ()
    for f in tl.static_range(len(STEPS)):
        slope = tl.zeros_like(values[0])
        if STEPS[f][0] >= 0:
            slope += found[STEPS[f][0]] * values[STEPS[f][1]]
            if STEPS[f][1] == by:
                slope += monomials[STEPS[f][0]]
        elif STEPS[f][1] == by:
            slope += 1.0
        found = found + (slope,)  # noqa: RUF005
    return found


@jit
def _side_by_side(
    columns, COUNT: tl.constexpr, ROWS: tl.constexpr, INPUTS: tl.constexpr, ACC: tl.constexpr
):
    """Return columns as a tile (ROWS, INPUTS), with zeros after them."""
    column = tl.arange(0, INPUTS)[None, :]
    tile = tl.zeros((ROWS, INPUTS), ACC)
    for f in tl.static_range(COUNT):
        tile = tl.where(column == f, columns[f][:, None], tile)
    return tile


@jit
def inputs_of(
    values, scalars, edge, ok, COUNT: tl.constexpr, DEGREE: tl.constexpr, FEATURES: tl.constexpr,
    SCALARS: tl.constexpr, ROWS: tl.constexpr, INPUTS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Return the inputs of the network, monomials and scalars, (ROWS, INPUTS)."""
    tile = tl.zeros((ROWS, INPUTS), ACC)
    if FEATURES > 0:
        tile = _side_by_side(_monomials(values, COUNT, DEGREE), FEATURES, ROWS, INPUTS, ACC)
    if SCALARS > 0:
        index = tl.arange(0, INPUTS)[None, :] - FEATURES
        mask = (index >= 0) & (index < SCALARS) & ok[:, None]
        tile += tl.load(scalars + edge[:, None] * SCALARS + index, mask=mask, other=0.0)
    return tile


@jit
def store_by_row(
    by_row, grad, values, row, ok, COUNT: tl.constexpr, DEGREE: tl.constexpr,
    FEATURES: tl.constexpr, SCALARS: tl.constexpr, ROWS: tl.constexpr, INPUTS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Store gradients of rows: by the attributes, then by the scalars."""
    WIDTH: tl.constexpr = COUNT + SCALARS
    if COUNT > 0:
        monomials = _monomials(values, COUNT, DEGREE)
        for j in tl.static_range(COUNT):
            slopes = _slopes(values, monomials, j, COUNT, DEGREE)
            slopes = _side_by_side(slopes, FEATURES, ROWS, INPUTS, ACC)
            tl.store(by_row + row * WIDTH + j, tl.sum(grad * slopes, 1), mask=ok)
    if SCALARS > 0:
        index = tl.arange(0, INPUTS)[None, :] - FEATURES
        mask = (index >= 0) & (index < SCALARS) & ok[:, None]
        tl.store(by_row + (row * WIDTH + COUNT)[:, None] + index, grad, mask=mask)
