r"""Quadrature on the sphere for a CPU, in blocks of rows whose grid values stay in the cache.

.. math:: z = V^T \bigl[(V x) \cdot (V y)\bigr], \qquad
    z = V^T \bigl[(D_1 x) (D_2 y) - (D_2 x) (D_1 y)\bigr]

for the product and the bracket, with V the harmonics on the grid and D_1, D_2 their derivatives
along two tangents, all times the cube root of the weights. Each table product is a batched one
with the rows where they are: no transposed copy of the features is made.
"""

import torch
from torch import Tensor

from eqlib.kernels.gaunt_product._degrees import by_coefficient, by_degree, lmax_of

_CACHE = 1 << 20
"""Bytes of grid values that a block may take for each thread: half of a usual second-level cache."""

Weights = tuple[Tensor | None, Tensor | None, Tensor | None]


def product(
    x: Tensor, y: Tensor, weights: Weights, tables: list[Tensor], lmax_out: int, odd: bool
) -> Tensor:
    """Return :math:`z = w_3 P(w_1 x, w_2 y)`."""
    grid = _Grid(tables[0], x, (lmax_out + 1) ** 2, y.shape[1])
    w1, w2, w3 = grid.factors(weights)
    z = x.new_empty(len(x), (lmax_out + 1) ** 2, x.shape[2])
    for rows in grid.blocks:
        f = grid.evaluate(x[rows], w1, 0)
        g = grid.evaluate(y[rows], w2, 1)
        grid.project(grid.multiply(f, g, f), w3, z[rows])
    return z


def gradients(
    gz: Tensor, x: Tensor, y: Tensor, weights: Weights, tables: list[Tensor], odd: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and y, with three evaluations and two projections."""
    grid = _Grid(tables[0], x, y.shape[1], gz.shape[1])
    w1, w2, w3 = grid.factors(weights)
    gx, gy = torch.empty_like(x), torch.empty_like(y)
    for rows in grid.blocks:
        f = grid.evaluate(x[rows], w1, 0)
        g = grid.evaluate(y[rows], w2, 1)
        h = grid.evaluate(gz[rows], w3, 2)
        grid.project(grid.multiply(g, h, g), w1, gx[rows])
        grid.project(grid.multiply(h, f, f), w2, gy[rows])
    return gx, gy


class _Grid:
    """Blocks of rows, and what is done to each.

    Args:
        table: (k, G, S), with S for the largest degree; k = 1 or, for the bracket, 3.
        x: an operand, of the batch size, channels and dtype of all.
        sizes: number of coefficients of the others.
    """

    def __init__(self, table: Tensor, x: Tensor, *sizes: int) -> None:
        self.values = table[0]
        self.slopes = None if len(table) == 1 else table[1:].flatten(0, 1)
        self.storage = x.dtype
        batch, coeffs, channels = x.shape
        evaluated = table[0] if self.slopes is None else self.slopes
        points, operands = len(evaluated), 1 + len(sizes)
        row = (points * operands + coeffs + sum(sizes)) * channels * table.element_size()
        size = max(1, min(batch, _CACHE * torch.get_num_threads() // row))
        self.blocks = [slice(i, min(i + size, batch)) for i in range(0, batch, size)]
        self.grids = [table.new_empty(size, points, channels) for _ in range(operands)]
        self.rows = table.new_empty(size, max(coeffs, *sizes), channels)
        self.evaluated = evaluated.expand(size, -1, -1)
        self.projected = self.values.mT.expand(size, -1, -1)

    def factors(self, weights: Weights) -> list[Tensor | None]:
        """Weights for the coefficients of each degree."""
        return [None if w is None else by_coefficient(w) for w in weights]

    def evaluate(self, x: Tensor, weight: Tensor | None, operand: int) -> Tensor:
        """Values of w x on the grid, or its derivatives along both tangents."""
        size, coeffs, _ = x.shape
        if weight is not None:
            x = torch.mul(x, weight)
        elif x.dtype != self.values.dtype:
            x = x.to(self.values.dtype)
        return torch.bmm(self.evaluated[:size, :, :coeffs], x, out=self.grids[operand][:size])

    def multiply(self, f: Tensor, g: Tensor, out: Tensor) -> Tensor:
        """Return the product on the grid, or the bracket, in the place of ``out``."""
        if self.slopes is None:
            return torch.mul(f, g, out=out)
        (f1, f2), (g1, g2) = f.chunk(2, 1), g.chunk(2, 1)
        bracket = f1 * g2
        return bracket.addcmul_(f2, g1, value=-1)

    def project(self, f: Tensor, weight: Tensor | None, out: Tensor) -> None:
        """Coefficients of f, times w, in the place of ``out``."""
        size, coeffs, _ = out.shape
        table = self.projected[:size, :coeffs]
        if weight is None and out.dtype == f.dtype:
            torch.bmm(table, f, out=out)
            return
        z = torch.bmm(table, f)
        out.copy_(z if weight is None else z.mul_(weight))
