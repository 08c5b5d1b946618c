"""Blocks of rows whose grid values stay in cache, with polynomials in nested form."""

import torch
from torch import Tensor

from eqlib.kernels.gaunt_many_body.terms import SLOTS, Nested, nested, polynomials

# Grid values of one block, over all variables: what a core's cache holds, or what fills a GPU.
CPU_VALUES = 1 << 19
GPU_VALUES = 1 << 25


def forward(
    fields: list[Tensor], tables: Tensor, weights: Tensor, terms: list[int], outputs: list[int]
) -> list[Tensor]:
    """Return the coefficients of each output."""
    nodes, _, channels = fields[0].shape
    polynomial_of = polynomials(tuple(terms))
    variables = sorted({v for p in polynomial_of.values() for factors, _ in p for v in factors})
    narrow = frozenset(v for v in variables if fields[v // SLOTS].shape[1] == 1)
    densities = {target: nested(p, narrow) for target, p in polynomial_of.items()}
    duals = (weights[:, None] * tables).mT.contiguous()
    found = [fields[0].new_zeros(nodes, size, channels) for size in outputs]
    values = GPU_VALUES if fields[0].is_cuda else CPU_VALUES
    step = max(1, values // (len(weights) * channels * (len(variables) - len(narrow) + 2)))
    for start in range(0, nodes, step):
        rows = slice(start, start + step)
        grid = _evaluate([x[rows] for x in fields], tables, variables)
        for output, block in _project(grid, densities, duals, outputs).items():
            found[output][rows] = block.unflatten(1, (-1, channels)).transpose(0, 1)
    return found


def _evaluate(fields: list[Tensor], tables: Tensor, variables: list[int]) -> dict[int, Tensor]:
    """Return the value of each variable: (grid, rows * channels), or (1, ...) for a constant."""
    used = {variable // SLOTS for variable in variables}
    columns = {k: fields[k].transpose(0, 1).flatten(1).to(tables.dtype) for k in used}
    grid = {}
    for variable in variables:
        x, table = columns[variable // SLOTS], tables[variable % SLOTS]
        grid[variable] = table[:1, :1] * x if len(x) == 1 else table[:, : len(x)] @ x
    return grid


def _project(
    grid: dict[int, Tensor], densities: dict[int, Nested], duals: Tensor, outputs: list[int]
) -> dict[int, Tensor]:
    """Return the coefficients of each output that has terms, (coeffs, rows * channels)."""
    found: dict[int, Tensor] = {}
    shared: dict[int, Tensor] = {}
    for target, polynomial in densities.items():
        output, slot = divmod(target, SLOTS)
        dual = duals[slot, : outputs[output]]
        density = _value(polynomial, grid, shared)
        constant = len(density) == 1
        block = dual.sum(1, keepdim=True) * density if constant else dual @ density
        found[output] = found[output] + block if output in found else block
    return found


def _value(polynomial: Nested, grid: dict[int, Tensor], shared: dict[int, Tensor]) -> Tensor:
    """Return the values of a polynomial; what occurs twice is computed once."""
    if id(polynomial) not in shared:
        scale, variable, *parts = polynomial
        inside, outside = (
            _value(part, grid, shared) if isinstance(part, Nested) else part for part in parts
        )
        shared[id(polynomial)] = _combined(scale, grid[variable], inside, outside)
    return shared[id(polynomial)]


def _combined(scale: int, x: Tensor, inside: Tensor | int, outside: Tensor | int) -> Tensor:
    """Return ``scale * x * inside + outside`` in as few passes as there are."""
    if isinstance(inside, int):
        factor = scale * inside
        if isinstance(outside, Tensor):
            return torch.add(outside, x, alpha=factor)
        value = x * factor if factor != 1 else x
    else:
        if isinstance(outside, Tensor):
            return torch.addcmul(outside, x, inside, value=scale)
        value = x * inside
        value = value * scale if scale != 1 else value
    return value + outside if outside else value
