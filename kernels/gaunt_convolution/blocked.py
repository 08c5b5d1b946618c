"""Sums over edges on a grid of the sphere, some edges at a time.

Every node is evaluated on the grid once and projected back once; an edge multiplies, point by
point, the values of its source by those of its filter.
"""

from collections.abc import Iterator, Sequence
from math import isqrt
from typing import NamedTuple

import torch
from torch import Tensor

# Bytes of the grid values of the edges that are worked on at a time. On a CPU these, and two
# buffers of the same size, should stay in the cache of a core; a GPU wants few launches.
BLOCK_BYTES = {"cpu": 2**19, "cuda": 2**27}


class Edges(NamedTuple):
    """Node indices of a graph, renumbered where most nodes have no edge."""

    source: Tensor
    target: Tensor


def convolve(
    x: Tensor,
    harmonics: Tensor,
    radial: Tensor,
    table: Tensor,
    source: Tensor,
    target: Tensor,
    num_targets: int,
    lmax_out: int,
    odd: bool,
) -> Tensor:
    """Sum the messages into each target; the arguments are those of the operation."""
    coeffs_out = (lmax_out + 1) ** 2
    from_source, to_target, values = bases(table, x.shape[2], coeffs_out, odd)
    used, target = used_nodes(target, num_targets)
    x, source = rows_in_use(x, source)
    field = from_source @ x.to(table.dtype)
    nodes = num_targets if used is None else len(used)
    total = field.new_zeros(nodes, *field.shape[1:])
    size = _block_size(len(source), field)
    # Two buffers for all blocks: new memory for each would cost as much as the arithmetic.
    some_messages = field.new_empty(size, *field.shape[1:])
    some_filters = field.new_empty(size, len(values), field.shape[3])
    for block in _blocks(len(source), size):
        rows = source[block]
        messages, filters = some_messages[: len(rows)], some_filters[: len(rows)]
        torch.index_select(field, 0, rows, out=messages)
        weights = radial[block].to(table.dtype).flatten(1, 2)
        torch.bmm(_zonal(harmonics[block], values), weights, out=filters)
        messages.unflatten(2, (-1, len(values))).mul_(filters[:, None, None])
        total.index_add_(0, target[block], messages)
    result = (to_target.mT @ total).to(x.dtype)
    if used is None:
        return result
    return result.new_zeros(num_targets, *result.shape[1:]).index_copy_(0, used, result)


def convolve_filter(
    x: Tensor,
    z: Tensor,
    harmonics: Tensor,
    radial: Tensor,
    table: Tensor,
    source: Tensor,
    target: Tensor,
    odd: bool,
    wants_harmonics: bool,
    wants_radial: bool,
) -> tuple[Tensor, Tensor]:
    """Differentiate by harmonics and radial; the arguments are those of the operation."""
    from_source, to_target, values = bases(table, x.shape[2], z.shape[2], odd)
    x, source = rows_in_use(x, source)
    z, target = rows_in_use(z, target)
    fields = from_source @ x.to(table.dtype), to_target @ z.to(table.dtype)
    by_harmonics = torch.empty_like(harmonics) if wants_harmonics else harmonics.new_empty(0)
    by_radial = torch.empty_like(radial) if wants_radial else radial.new_empty(0)
    size = _block_size(len(source), fields[0])
    buffers = [field.new_empty(size, *field.shape[1:]) for field in fields]
    for block in _blocks(len(source), size):
        indices = (source[block], target[block])
        pair = [buffer[: len(indices[0])] for buffer in buffers]
        for field, index, rows in zip(fields, indices, pair, strict=True):
            torch.index_select(field, 0, index, out=rows)
        product = _sum_of_products(pair, len(values))
        if wants_harmonics:
            weights = radial[block].to(table.dtype).flatten(1, 2)
            by_zonal = torch.bmm(product, weights.mT)
            by_harmonics[block] = _from_zonal(by_zonal, values, harmonics[block])
        if wants_radial:
            zonal = _zonal(harmonics[block], values)
            by_radial[block] = torch.bmm(zonal.mT, product).view(radial[block].shape)
    return by_harmonics, by_radial


def bases(table: Tensor, coeffs_in: int, coeffs_out: int, odd: bool) -> tuple[Tensor, ...]:
    """Return the matrices that evaluate a source and a target, and the values for filters.

    The bracket is symmetric up to sign in its three operands, so the filter may be the one that is
    not differentiated: the integral of {z, x} h.
    """
    values = table[0]
    if not odd:
        return values[:, :coeffs_in], values[:, :coeffs_out], values
    first, second = table[1], table[2]
    from_source = torch.cat([second, -first])[:, :coeffs_in]
    return from_source, torch.cat([first, second])[:, :coeffs_out], values


def used_nodes(index: Tensor, size: int) -> tuple[Tensor | None, Tensor]:
    """Renumber nodes where fewer of them than edges cannot all be used."""
    if size <= len(index):
        return None, index
    used, index = torch.unique(index, return_inverse=True)
    return used, index


def rows_in_use(x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows that have an edge, where most have none, and the index renumbered."""
    used, index = used_nodes(index, len(x))
    return (x if used is None else x.index_select(0, used)), index


def _block_size(edges: int, field: Tensor) -> int:
    row = max(1, field[:1].numel() * field.element_size())
    return min(edges, max(1, BLOCK_BYTES["cuda" if field.is_cuda else "cpu"] // row))


def _blocks(edges: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, edges, max(1, size)))


def _zonal(harmonics: Tensor, values: Tensor) -> Tensor:
    """Return the sums over the orders of each degree, (edges, grid, degrees).

    For harmonics of a direction that is the Legendre polynomial of the angle to the grid point.
    """
    edges, terms, coeffs = harmonics.shape
    degrees = isqrt(coeffs)
    rows = harmonics.to(values.dtype).transpose(0, 1)
    zonal = values.new_empty(terms, degrees, edges, len(values))
    for degree in range(degrees):
        band = slice(degree**2, (degree + 1) ** 2)
        torch.matmul(rows[..., band], values[:, band].mT, out=zonal[:, degree])
    return zonal.flatten(0, 1).permute(1, 2, 0)


def _from_zonal(by_zonal: Tensor, values: Tensor, harmonics: Tensor) -> Tensor:
    """Return the transpose of :func:`_zonal`."""
    result = torch.empty_like(harmonics, dtype=values.dtype)
    by_term = by_zonal.permute(2, 0, 1).unflatten(0, (harmonics.shape[1], -1))
    for degree in range(by_term.shape[1]):
        band = slice(degree**2, (degree + 1) ** 2)
        result[..., band] = (by_term[:, degree] @ values[:, band]).transpose(0, 1)
    return result.to(harmonics.dtype)


def _sum_of_products(pair: Sequence[Tensor], points: int) -> Tensor:
    """Multiply two fields, the first in place, and sum all but edges, grid points and channels."""
    first, second = (field.flatten(1, 2).unflatten(1, (-1, points)) for field in pair)
    product = first[:, 0].mul_(second[:, 0])
    for copy in range(1, first.shape[1]):
        product.addcmul_(first[:, copy], second[:, copy])
    return product
