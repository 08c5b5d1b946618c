r"""Triton kernels of the products on the sphere on a grid, for any degree that fits a tile.

Harmonics on half of an antipodal grid, in matrix products over blocks of grid points: values on the
grid stay on the chip. A program owns a tile of rows, as in ``sparse``, and reads and writes each of
their coefficients once. With PARTS = 2 every factor is the sum of two TF32 numbers.
"""
# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: N803, SIM300 - compile-time arguments are in capitals

import triton.language as tl

from eqlib.kernels.gaunt_product.sparse.triton_kernels import program_rows, program_start
from eqlib.kernels.triton_common import jit, round_to_tf32


@jit
def _layout(LMAX: tl.constexpr, PARITY: tl.constexpr, K: tl.constexpr):
    """Return degree, index and validity of the coefficients whose degrees have a parity."""
    k = tl.arange(0, K)
    degree = tl.zeros_like(k) + PARITY
    index = k + PARITY
    for half in tl.static_range(1, (LMAX - PARITY) // 2 + 1):
        reached = k >= half * (2 * half - 1 + 2 * PARITY)
        degree += tl.where(reached, 2, 0)
        index += tl.where(reached, 4 * half - 1 + 2 * PARITY, 0)
    return degree, index, (degree <= LMAX) & (index < (degree + 1) * (degree + 1))


@jit
def _split(value, PARTS: tl.constexpr, DOT: tl.constexpr):
    """Return a factor of a matrix product as one number of type DOT or as a sum of two.

    Hardware cuts float32 off to TF32, which would bias the product: it is rounded here.
    """
    if PARTS == 2:
        high = round_to_tf32(value)
        parts = (high, value - high)
    elif DOT == tl.float32:
        parts = (round_to_tf32(value),)
    else:
        parts = (value.to(DOT),)
    return parts


@jit
def _tile(
    tensor, weight, rows, channels, LMAX: tl.constexpr, PARITY: tl.constexpr, K: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Return addresses (K, rows) of the coefficients of a parity, their mask, their weights."""
    first, offset = program_start(tensor, rows, channels, (LMAX + 1) * (LMAX + 1))
    degree, index, valid = _layout(LMAX, PARITY, K)
    mask = valid[:, None] & rows[4][None, :]
    addresses = first + (index[:, None] * channels + offset[None, :])
    if weight is not None:
        offsets = rows[1] + (degree[:, None] * channels + rows[3][None, :])
        factor = tl.load(weight + offsets, mask=mask, other=0.0).to(ACC)
    else:
        factor = 1.0
    return addresses, mask, factor


@jit
def _read_parity(
    source, weight, rows, channels, LMAX: tl.constexpr, PARITY: tl.constexpr, K: tl.constexpr,
    PARTS: tl.constexpr, ACC: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Return the coefficients (rows, K) whose degrees have a parity, split for products."""
    addresses, mask, factor = _tile(source, weight, rows, channels, LMAX, PARITY, K, ACC)
    tile = tl.load(addresses, mask=mask, other=0.0).to(ACC)
    if weight is not None:
        tile *= factor
    return _split(tl.trans(tile), PARTS, DOT)


@jit
def _read_both(
    source, weight, rows, channels, LMAX: tl.constexpr, KE: tl.constexpr, KO: tl.constexpr,
    PARTS: tl.constexpr, ACC: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    even = _read_parity(source, weight, rows, channels, LMAX, 0, KE, PARTS, ACC, DOT)
    return even, _read_parity(source, weight, rows, channels, LMAX, 1, KO, PARTS, ACC, DOT)


@jit
def _write_parity(
    target, weight, rows, channels, tile, LMAX: tl.constexpr, PARITY: tl.constexpr,
    K: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    addresses, mask, factor = _tile(target, weight, rows, channels, LMAX, PARITY, K, ACC)
    tile = tl.trans(tile)
    if weight is not None:
        tile *= factor
    tl.store(addresses, tile.to(target.dtype.element_ty), mask=mask)


@jit
def _matmul(left, table, total, PRECISION: tl.constexpr, ACC: tl.constexpr):
    """Add a product of factors, each in one part or in two, to a total."""
    if len(left) == 2:
        total = tl.dot(left[1], table[0], total, input_precision=PRECISION, out_dtype=ACC)
        total = tl.dot(left[0], table[1], total, input_precision=PRECISION, out_dtype=ACC)
    return tl.dot(left[0], table[0], total, input_precision=PRECISION, out_dtype=ACC)


@jit
def _block(table, component: tl.constexpr, begin, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
           PARTS: tl.constexpr, BY_ROW: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Return a block of rows, or of columns, of a table (component, PARTS, ROWS, COLUMNS).

    It is transposed: a matrix product takes its second factor from memory that is contiguous along
    the axis that is summed.
    """
    if BY_ROW:
        i = begin + tl.arange(0, BLOCK)
        j = tl.arange(0, COLUMNS)
    else:
        i = tl.arange(0, ROWS)
        j = begin + tl.arange(0, BLOCK)
    parts = ()
    for part in tl.static_range(PARTS):
        # The constant comes last: blocks that differ in it alone share their addresses.
        addresses = table + (i[:, None] * COLUMNS + j[None, :])
        loaded = tl.load(addresses + (component * PARTS + part) * ROWS * COLUMNS)
        parts = parts + (tl.trans(loaded),)  # noqa: RUF005 - Triton knows no unpacking
    return parts


@jit
def _evaluate(
    operand, even, odd, component: tl.constexpr, begin, G: tl.constexpr, KE: tl.constexpr,
    KO: tl.constexpr, BLOCK: tl.constexpr, BG: tl.constexpr, PARTS: tl.constexpr,
    PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Return the values (BLOCK, BG) of the even and of the odd part on a block of the grid."""
    zero = tl.zeros((BLOCK, BG), ACC)
    table = _block(even, component, begin, G, KE, PARTS, True, BG)
    first = _matmul(operand[0], table, zero, PRECISION, ACC)
    table = _block(odd, component, begin, G, KO, PARTS, True, BG)
    return first, _matmul(operand[1], table, zero, PRECISION, ACC)


@jit
def _join(f, h):
    """Return the products of two functions, each with an even and an odd part, likewise."""
    return f[0] * h[0] + f[1] * h[1], f[0] * h[1] + f[1] * h[0]


@jit
def _multiply(
    a, b, even, odd, begin, G: tl.constexpr, KE: tl.constexpr, KO: tl.constexpr,
    BLOCK: tl.constexpr, BG: tl.constexpr, ODD: tl.constexpr, PARTS: tl.constexpr,
    PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Return what projects onto even and onto odd degrees, with few values alive at a time."""
    f = _evaluate(a, even, odd, 0, begin, G, KE, KO, BLOCK, BG, PARTS, PRECISION, ACC)
    if ODD:
        h = _evaluate(b, even, odd, 1, begin, G, KE, KO, BLOCK, BG, PARTS, PRECISION, ACC)
        first = _join(f, h)
        f = _evaluate(a, even, odd, 1, begin, G, KE, KO, BLOCK, BG, PARTS, PRECISION, ACC)
        h = _evaluate(b, even, odd, 0, begin, G, KE, KO, BLOCK, BG, PARTS, PRECISION, ACC)
        second = _join(f, h)
        # A derivative changes the parity, so the sum of two even factors goes to odd degrees.
        values = (first[1] - second[1], first[0] - second[0])
    else:
        h = _evaluate(b, even, odd, 0, begin, G, KE, KO, BLOCK, BG, PARTS, PRECISION, ACC)
        values = _join(f, h)
    return values


@jit
def _values(
    operand, even, odd, begin, G: tl.constexpr, KE: tl.constexpr, KO: tl.constexpr,
    BLOCK: tl.constexpr, BG: tl.constexpr, ODD: tl.constexpr, PARTS: tl.constexpr,
    PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Return all that the pointwise product needs of an operand: its values or both derivatives."""
    values = _evaluate(operand, even, odd, 0, begin, G, KE, KO, BLOCK, BG, PARTS, PRECISION, ACC)
    if ODD:
        values = values + _evaluate(
            operand, even, odd, 1, begin, G, KE, KO, BLOCK, BG, PARTS, PRECISION, ACC
        )
    return values


@jit
def _combine(f, h, ODD: tl.constexpr):
    """Return what projects onto even and onto odd degrees, from the values of both operands."""
    if ODD:
        even = f[0] * h[3] - f[2] * h[1] + (f[1] * h[2] - f[3] * h[0])
        odd = f[0] * h[2] - f[2] * h[0] + (f[1] * h[3] - f[3] * h[1])
    else:
        even, odd = _join(f, h)
    return even, odd


@jit
def _project(
    values, totals, even, odd, begin, G: tl.constexpr, KE: tl.constexpr, KO: tl.constexpr,
    BG: tl.constexpr, PARTS: tl.constexpr, PRECISION: tl.constexpr, ACC: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    """Add the coefficients of values on a block of the grid to totals (BLOCK, KE), (BLOCK, KO)."""
    table = _block(even, 0, begin, KE, G, PARTS, False, BG)
    first = _matmul(_split(values[0], PARTS, DOT), table, totals[0], PRECISION, ACC)
    table = _block(odd, 0, begin, KO, G, PARTS, False, BG)
    return first, _matmul(_split(values[1], PARTS, DOT), table, totals[1], PRECISION, ACC)


@jit(do_not_specialize=["batch", "channels", "shift", "again"])
def _grid_product_kernel(
    x, y, z, w1, w2, w3, even, odd, even_back, odd_back, batch, channels, shift, again,
    L1: tl.constexpr, L2: tl.constexpr, L3: tl.constexpr, ODD: tl.constexpr, G: tl.constexpr,
    KE: tl.constexpr, KO: tl.constexpr, PARTS: tl.constexpr, PRECISION: tl.constexpr,
    ACC: tl.constexpr, DOT: tl.constexpr, BLOCK: tl.constexpr, BG: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """Store z = w3 P(w1 x, w2 y).

    The number of channels comes again: if the compiler knew that both are the same, it would keep
    all addresses in registers from the loads to the stores.
    """
    rows = program_rows(batch, channels, shift, BLOCK)
    a = _read_both(x, w1, rows, channels, L1, KE, KO, PARTS, ACC, DOT)
    b = _read_both(y, w2, rows, channels, L2, KE, KO, PARTS, ACC, DOT)
    ze = tl.zeros((BLOCK, KE), ACC)
    zo = tl.zeros((BLOCK, KO), ACC)
    for begin in tl.range(0, G, BG, num_stages=STAGES):
        values = _multiply(a, b, even, odd, begin, G, KE, KO, BLOCK, BG, ODD, PARTS, PRECISION, ACC)
        ze, zo = _project(
            values, (ze, zo), even_back, odd_back, begin,
            G, KE, KO, BG, PARTS, PRECISION, ACC, DOT,
        )  # fmt: skip
    rows = program_rows(batch, again, shift, BLOCK)
    _write_parity(z, w3, rows, again, ze, L3, 0, KE, ACC)
    _write_parity(z, w3, rows, again, zo, L3, 1, KO, ACC)


@jit(do_not_specialize=["batch", "channels", "shift", "again"])
def _grid_gradients_kernel(
    gz, x, y, gx, gy, w1, w2, w3, even, odd, even_back, odd_back, batch, channels, shift, again,
    L1: tl.constexpr, L2: tl.constexpr, L3: tl.constexpr, ODD: tl.constexpr, G: tl.constexpr,
    KE: tl.constexpr, KO: tl.constexpr, PARTS: tl.constexpr, PRECISION: tl.constexpr,
    ACC: tl.constexpr, DOT: tl.constexpr, BLOCK: tl.constexpr, BG: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """Store gx = w1 P(w2 y, w3 gz) and gy = w2 P(w3 gz, w1 x); operands are evaluated once."""
    rows = program_rows(batch, channels, shift, BLOCK)
    a = _read_both(x, w1, rows, channels, L1, KE, KO, PARTS, ACC, DOT)
    b = _read_both(y, w2, rows, channels, L2, KE, KO, PARTS, ACC, DOT)
    c = _read_both(gz, w3, rows, channels, L3, KE, KO, PARTS, ACC, DOT)
    gxe = tl.zeros((BLOCK, KE), ACC)
    gxo = tl.zeros((BLOCK, KO), ACC)
    gye = tl.zeros((BLOCK, KE), ACC)
    gyo = tl.zeros((BLOCK, KO), ACC)
    for begin in tl.range(0, G, BG, num_stages=STAGES):
        f = _values(a, even, odd, begin, G, KE, KO, BLOCK, BG, ODD, PARTS, PRECISION, ACC)
        h = _values(b, even, odd, begin, G, KE, KO, BLOCK, BG, ODD, PARTS, PRECISION, ACC)
        k = _values(c, even, odd, begin, G, KE, KO, BLOCK, BG, ODD, PARTS, PRECISION, ACC)
        gxe, gxo = _project(
            _combine(h, k, ODD), (gxe, gxo), even_back, odd_back, begin,
            G, KE, KO, BG, PARTS, PRECISION, ACC, DOT,
        )  # fmt: skip
        gye, gyo = _project(
            _combine(k, f, ODD), (gye, gyo), even_back, odd_back, begin,
            G, KE, KO, BG, PARTS, PRECISION, ACC, DOT,
        )  # fmt: skip
    rows = program_rows(batch, again, shift, BLOCK)
    _write_parity(gx, w1, rows, again, gxe, L1, 0, KE, ACC)
    _write_parity(gx, w1, rows, again, gxo, L1, 1, KO, ACC)
    _write_parity(gy, w2, rows, again, gye, L2, 0, KE, ACC)
    _write_parity(gy, w2, rows, again, gyo, L2, 1, KO, ACC)
