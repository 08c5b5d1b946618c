"""The definition: sums over the triples of coefficients, with all edges in memory at once."""

from math import isqrt

import torch
from torch import Tensor


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
    filters = _filters(harmonics, radial, table)
    triples = table[: x.shape[2], : filters.shape[1], : (lmax_out + 1) ** 2]
    sources = x.to(table.dtype).index_select(0, source)
    messages = torch.einsum("abo,ekac,ebc->ekoc", triples, sources, filters)
    result = messages.new_zeros(num_targets, *messages.shape[1:])
    return result.index_add_(0, target, messages).to(x.dtype)


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
    triples = table[: x.shape[2], : harmonics.shape[2], : z.shape[2]]
    sources = x.to(table.dtype).index_select(0, source)
    targets = z.to(table.dtype).index_select(0, target)
    by_filter = torch.einsum("abo,ekac,ekoc->ebc", triples, sources, targets)[:, None]
    by_harmonics, by_radial = harmonics.new_empty(0), radial.new_empty(0)
    degrees = _degrees(harmonics)
    if wants_harmonics:
        by_harmonics = (by_filter * radial[:, :, degrees]).sum(-1).to(harmonics.dtype)
    if wants_radial:
        by_order = by_filter * harmonics[..., None]
        by_radial = torch.zeros_like(radial, dtype=table.dtype)
        by_radial = by_radial.index_add_(2, degrees, by_order).to(radial.dtype)
    return by_harmonics, by_radial


def coefficients(grid: Tensor, odd: bool) -> Tensor:
    """Return the table of coefficients, out of that of a grid; ``op.py`` describes both."""
    if not odd:
        return torch.einsum("pa,pb,po->abo", *[grid[0]] * 3)
    values, first, second = grid
    turned = torch.einsum("pa,pb,po->abo", first, second, values)
    return turned - turned.transpose(0, 1)


def _degrees(harmonics: Tensor) -> Tensor:
    """Return the degree of each coefficient."""
    degrees = torch.arange(isqrt(harmonics.shape[2]), device=harmonics.device)
    return degrees.repeat_interleave(2 * degrees + 1)


def _filters(harmonics: Tensor, radial: Tensor, table: Tensor) -> Tensor:
    """Return the coefficients of the filter of each edge and channel, summed over the terms."""
    radial = radial.to(table.dtype)[:, :, _degrees(harmonics)]
    return (harmonics.to(table.dtype)[..., None] * radial).sum(1)
