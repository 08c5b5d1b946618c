"""Gradients of the weights of a product along with those of its operands."""

import torch
from torch import Tensor

from eqlib.kernels.gaunt_product._degrees import by_coefficient, by_degree, lmax_of
from eqlib.kernels.gaunt_product.implementations import Implementation

_BLOCK = 1 << 18
"""Bytes of an operand that are worked on at a time, for each thread of a CPU."""

Weights = tuple[Tensor | None, Tensor | None, Tensor | None]


def all_gradients(
    how: Implementation,
    operands: tuple[Tensor, Tensor, Tensor],
    weights: Weights,
    tables: list[Tensor],
    odd: bool,
) -> tuple[Tensor, Tensor, Weights]:
    r"""Return the gradients of x, y and the weights.

    With :math:`u_x = P(w_2 y, w_3 g)`, that of x is :math:`w_1 u_x`, and that of :math:`w_1` the
    sum of :math:`x u_x` over rows and over the coefficients of a degree. On a CPU this goes by
    blocks of rows: nothing but the gradients themselves has the size of the operands.

    Args:
        how: the implementation.
        operands: gz, x and y, contiguous and not empty.
        weights: w1, w2 and w3 in the dtype to compute in; the result has None where they are None.
        tables: of the implementation.
        odd: whether it is the bracket.
    """
    gz, x, y = operands
    if how.weight_gradients is not None:
        gx, gy, found = how.weight_gradients(gz, x, y, weights, tables, odd)
        g1, g2, g3 = (None if w is None else g for w, g in zip(weights, found, strict=True))
        return gx, gy, (g1, g2, g3)
    w1, w2, w3 = (None if w is None else by_coefficient(w) for w in weights)
    sums = [None if w is None else torch.zeros_like(w) for w in (w1, w2, w3)]
    gx, gy = torch.empty_like(x), torch.empty_like(y)
    dtype = torch.promote_types(x.dtype, torch.float32)
    for rows in _blocks(operands):
        inputs = x[rows].to(dtype), y[rows].to(dtype), gz[rows].to(dtype)
        a, b, c = (t if w is None else t * w for t, w in zip(inputs, (w1, w2, w3), strict=True))
        ux, uy = how.gradients(c, a, b, (None, None, None), tables, odd)
        uz = None
        if w3 is not None:
            uz = how.product(a, b, (None, None, None), tables, lmax_of(gz.shape[1]), odd)
        for total, t, u in zip(sums, inputs, (ux, uy, uz), strict=True):
            if total is not None and u is not None:
                total += (t * u).sum(0)
        gx[rows] = ux if w1 is None else ux.mul_(w1)
        gy[rows] = uy if w2 is None else uy.mul_(w2)
    g1, g2, g3 = (None if total is None else by_degree(total) for total in sums)
    return gx, gy, (g1, g2, g3)


def _blocks(operands: tuple[Tensor, ...]) -> list[slice]:
    batch = len(operands[0])
    if operands[0].device.type != "cpu":
        return [slice(0, batch)]
    row = max(t[0].numel() for t in operands) * operands[0].element_size()
    size = max(1, _BLOCK * torch.get_num_threads() // row)
    return [slice(i, i + size) for i in range(0, batch, size)]
