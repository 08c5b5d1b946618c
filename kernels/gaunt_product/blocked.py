r"""Quadrature on the sphere for a CPU, in blocks of rows whose grid values stay in the cache.

.. math:: z = V^T \bigl[(V x) \cdot (V y)\bigr], \qquad
    z = V^T \bigl[(D_1 x) (D_2 y) - (D_2 x) (D_1 y)\bigr]

for the product and the bracket, with V the harmonics on the grid and D_1, D_2 their derivatives
along two tangents, all times the cube root of the weights. Each is a batched matrix product with
the features where they are, since to transpose them, or to sort them by parity for half the
arithmetic on an antipodal grid, costs more than it saves up to degree 8.
"""

import torch
from torch import Tensor

from eqlib.kernels.gaunt_product._degrees import by_coefficient

_CACHE = 3 << 19
"""Bytes of a block for each thread of a CPU: most of a usual second-level cache."""

_ON_DEVICE = 1 << 28
"""Bytes of a block on other devices, which want large matrix products."""

Weights = tuple[Tensor | None, Tensor | None, Tensor | None]


def product(
    x: Tensor, y: Tensor, weights: Weights, tables: list[Tensor], lmax_out: int, odd: bool
) -> Tensor:
    """Return :math:`z = w_3 P(w_1 x, w_2 y)`."""
    coeffs = (lmax_out + 1) ** 2
    grid = _Grid(tables[0], x, y.shape[1], coeffs, evaluations=2)
    w1, w2, w3 = (None if w is None else by_coefficient(w) for w in weights)
    z = x.new_empty(len(x), coeffs, x.shape[2])
    for rows in grid.blocks:
        f = grid.evaluate(x[rows], w1, 0)
        g = grid.evaluate(y[rows], w2, 1)
        grid.project(grid.multiply(f, g), w3, z[rows])
    return z


def gradients(
    gz: Tensor, x: Tensor, y: Tensor, weights: Weights, tables: list[Tensor], odd: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and y, with three evaluations and two projections."""
    grid = _Grid(tables[0], x, y.shape[1], gz.shape[1], evaluations=3)
    w1, w2, w3 = (None if w is None else by_coefficient(w) for w in weights)
    gx, gy = torch.empty_like(x), torch.empty_like(y)
    for rows in grid.blocks:
        f = grid.evaluate(x[rows], w1, 0)
        g = grid.evaluate(y[rows], w2, 1)
        h = grid.evaluate(gz[rows], w3, 2)
        grid.project(grid.multiply(g, h), w1, gx[rows])
        grid.project(grid.multiply(h, f), w2, gy[rows])
    return gx, gy


class _Grid:
    """Blocks of rows, what is done to each, and the memory that all of them share.

    Args:
        table: values on the grid (1, G, S), or values and both derivatives (3, G, S) for the
            bracket, with S for the largest degree.
        x: an operand, of the batch size, channels and dtype of all.
        sizes: number of coefficients of the others.
        evaluations: how many operands are on the grid at a time.
    """

    def __init__(self, table: Tensor, x: Tensor, *sizes: int, evaluations: int) -> None:
        self.bracket = len(table) == 3
        evaluated = table[1:].flatten(0, 1) if self.bracket else table[0]
        points, (batch, coeffs, channels) = len(evaluated), x.shape
        row = (evaluations * points + coeffs + sum(sizes)) * channels * table.element_size()
        budget = _CACHE * torch.get_num_threads() if x.device.type == "cpu" else _ON_DEVICE
        size = max(1, min(batch, budget // row))
        self.blocks = [slice(i, min(i + size, batch)) for i in range(0, batch, size)]
        self.evaluated = evaluated.expand(size, -1, -1)
        self.projected = table[0].mT.expand(size, -1, -1)
        self.grids = table.new_empty(evaluations, size, points, channels)
        self.coefficients = table.new_empty(size * max(coeffs, *sizes) * channels)

    def evaluate(self, x: Tensor, weight: Tensor | None, slot: int) -> Tensor:
        """Values of w x on the grid, or its derivatives along both tangents."""
        size, coeffs, _ = x.shape
        if weight is not None or x.dtype != self.grids.dtype:
            plain = self.coefficients[: x.numel()].view(x.shape)
            x = plain.copy_(x) if weight is None else torch.mul(x, weight, out=plain)
        return torch.bmm(self.evaluated[:size, :, :coeffs], x, out=self.grids[slot, :size])

    def multiply(self, f: Tensor, g: Tensor) -> Tensor:
        """Product on the grid, or the bracket, in the place of f."""
        if not self.bracket:
            return f.mul_(g)
        (f1, f2), (g1, g2) = f.chunk(2, dim=1), g.chunk(2, dim=1)
        return f1.mul_(g2).addcmul_(f2, g1, value=-1)

    def project(self, f: Tensor, weight: Tensor | None, out: Tensor) -> None:
        """Coefficients of f, times w, in the place of ``out``."""
        size, coeffs, _ = out.shape
        table = self.projected[:size, :coeffs]
        if weight is None and out.dtype == f.dtype:
            torch.bmm(table, f, out=out)
            return
        plain = self.coefficients[: out.numel()].view(out.shape)
        torch.bmm(table, f, out=plain)
        if weight is not None:
            plain.mul_(weight)
        out.copy_(plain)
