"""The definition: a dense contraction with the coefficients."""

import torch
from torch import Tensor

from eqlib.kernels.gaunt_product._degrees import by_coefficient, lmax_of

Weights = tuple[Tensor | None, Tensor | None, Tensor | None]


def product(
    x: Tensor, y: Tensor, weights: Weights, tables: list[Tensor], lmax_out: int, odd: bool
) -> Tensor:
    r"""Return :math:`z_c = w_3 \sum_{ab} K_{abc} (w_1 x)_a (w_2 y)_b`."""
    (table,) = tables
    w1, w2, w3 = weights
    x, y, dtype = _weighted(x, w1, table), _weighted(y, w2, table), x.dtype
    table = table[: x.shape[1], : y.shape[1], : (lmax_out + 1) ** 2]
    pairs = torch.einsum("abc,nai->nbci", table, x)
    return _weighted(torch.einsum("nbci,nbi->nci", pairs, y), w3, table).to(dtype).contiguous()


def gradients(
    gz: Tensor, x: Tensor, y: Tensor, weights: Weights, tables: list[Tensor], odd: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and y: the product with operands permuted cyclically."""
    w1, w2, w3 = weights
    gx = product(y, gz, (w2, w3, w1), tables, lmax_of(x.shape[1]), odd)
    gy = product(gz, x, (w3, w1, w2), tables, lmax_of(y.shape[1]), odd)
    return gx, gy


def _weighted(x: Tensor, weight: Tensor | None, table: Tensor) -> Tensor:
    x = x.to(table.dtype)
    return x if weight is None else x * by_coefficient(weight)
