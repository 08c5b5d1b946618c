r"""Triton kernels of the products on the sphere for low degrees: sums over coefficients.

All coefficients of a row, a pair of batch entry and channel, are in registers of one thread, and
the nonzero coefficients of the trilinear form are constants in straight-line code. Each coefficient
of a row is read and written once.

Rows are tiled as 2^shift channels by BLOCK / 2^shift batch entries, so that neighbouring lanes hold
neighbouring channels and no lane divides by the number of channels. The first row of a program has
a 64-bit address; the offsets within its tile have 32 bits.
"""
# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: N803 - compile-time arguments are in capitals

import triton.language as tl

from eqlib.kernels.triton_common import constant, jit


@constant
def _left(lmax1, lmax2, lmax3, odd, output):
    """Return the left components that an output meets."""
    # Imported here: Triton refuses functions of other modules that it finds by global names.
    from eqlib.kernels.gaunt_product.triton_coefficients import terms

    return tuple(left for left, _ in terms(lmax1, lmax2, lmax3, odd)[output])


@constant
def _right(lmax1, lmax2, lmax3, odd, output, group):
    """Return the right components, with coefficients, that an output and a left component meet."""
    from eqlib.kernels.gaunt_product.triton_coefficients import terms

    return terms(lmax1, lmax2, lmax3, odd)[output][group][1]


@jit
def program_rows(batch, channels, shift, BLOCK: tl.constexpr):
    """Return the first row of this program, in 64 bits, the others relative to it, and a mask."""
    lane = tl.arange(0, BLOCK)
    entry = lane >> shift
    channel = lane & ((1 << shift) - 1)
    first_entry = tl.program_id(0).to(tl.int64) * (BLOCK >> shift)
    first_channel = tl.program_id(1) << shift
    ok = (first_entry + entry < batch) & (first_channel + channel < channels)
    return first_entry, first_channel, entry, channel, ok


@jit
def program_start(tensor, rows, channels, COEFFS: tl.constexpr):
    """Return the address of the first row and the offsets of the others."""
    first_entry, first_channel, entry, channel, _ = rows
    first = tensor + first_entry * (COEFFS * channels) + first_channel
    return first, entry * (COEFFS * channels) + channel


@jit
def _weight(weight, rows, channels, degree, ACC: tl.constexpr):
    """Return the weights of the rows for one degree."""
    _, first_channel, _, channel, ok = rows
    offset = first_channel + degree * channels
    return tl.load(weight + offset + channel, mask=ok, other=0.0).to(ACC)


@jit
def _read(source, weight, rows, channels, LMAX: tl.constexpr, ACC: tl.constexpr):
    """Return one tensor for every coefficient, times the weight of its degree if there is one."""
    first, offset = program_start(source, rows, channels, (LMAX + 1) * (LMAX + 1))
    coefficients = ()
    for degree in tl.static_range(LMAX + 1):
        if weight is not None:
            factor = _weight(weight, rows, channels, degree, ACC)
        for order in tl.static_range(2 * degree + 1):
            address = first + (degree * degree + order) * channels
            value = tl.load(address + offset, mask=rows[4], other=0.0).to(ACC)
            if weight is not None:
                value = value * factor
            coefficients = coefficients + (value,)  # noqa: RUF005 - Triton knows no unpacking
    return coefficients


@jit
def _inner(
    right, L1: tl.constexpr, L2: tl.constexpr, L3: tl.constexpr, ODD: tl.constexpr,
    output: tl.constexpr, group: tl.constexpr,
):  # fmt: skip
    TERMS: tl.constexpr = _right(L1, L2, L3, ODD, output, group)
    total = right[TERMS[0][0]] * TERMS[0][1]
    for t in tl.static_range(1, len(TERMS)):
        total += right[TERMS[t][0]] * TERMS[t][1]
    return total


@jit
def _component(
    left, right, L1: tl.constexpr, L2: tl.constexpr, L3: tl.constexpr, ODD: tl.constexpr,
    output: tl.constexpr,
):  # fmt: skip
    """Return one coefficient of a product, with the sum over the right operand innermost."""
    LEFT: tl.constexpr = _left(L1, L2, L3, ODD, output)
    total = tl.zeros_like(left[0])
    for group in tl.static_range(len(LEFT)):
        total += left[LEFT[group]] * _inner(right, L1, L2, L3, ODD, output, group)
    return total


@jit
def _contract(
    left, right, target, weight, rows, channels, L1: tl.constexpr, L2: tl.constexpr,
    L3: tl.constexpr, ODD: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Store the product of two operands, coefficient by coefficient."""
    first, offset = program_start(target, rows, channels, (L3 + 1) * (L3 + 1))
    for degree in tl.static_range(L3 + 1):
        if weight is not None:
            factor = _weight(weight, rows, channels, degree, ACC)
        for order in tl.static_range(2 * degree + 1):
            total = _component(left, right, L1, L2, L3, ODD, degree * degree + order)
            if weight is not None:
                total = total * factor
            address = first + (degree * degree + order) * channels
            tl.store(address + offset, total.to(target.dtype.element_ty), mask=rows[4])


@jit(do_not_specialize=["batch", "channels", "shift"])
def _sparse_product_kernel(
    x, y, z, w1, w2, w3, batch, channels, shift,
    L1: tl.constexpr, L2: tl.constexpr, L3: tl.constexpr, ODD: tl.constexpr,
    DIGEST: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Store z = w3 P(w1 x, w2 y); DIGEST is that of the terms (see triton_coefficients)."""
    rows = program_rows(batch, channels, shift, BLOCK)
    left = _read(x, w1, rows, channels, L1, ACC)
    right = _read(y, w2, rows, channels, L2, ACC)
    _contract(left, right, z, w3, rows, channels, L1, L2, L3, ODD, ACC)


@jit(do_not_specialize=["batch", "channels", "shift"])
def _sparse_gradients_kernel(
    gz, x, y, gx, gy, w1, w2, w3, batch, channels, shift,
    L1: tl.constexpr, L2: tl.constexpr, L3: tl.constexpr, ODD: tl.constexpr,
    DIGEST: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Store gx = w1 P(w2 y, w3 gz) and gy = w2 P(w3 gz, w1 x)."""
    rows = program_rows(batch, channels, shift, BLOCK)
    first = _read(x, w1, rows, channels, L1, ACC)
    second = _read(y, w2, rows, channels, L2, ACC)
    third = _read(gz, w3, rows, channels, L3, ACC)
    _contract(second, third, gx, w1, rows, channels, L2, L3, L1, ODD, ACC)
    _contract(third, first, gy, w2, rows, channels, L3, L1, L2, ODD, ACC)
