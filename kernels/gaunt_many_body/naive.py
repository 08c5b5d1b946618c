"""The definition: all grid values at once, term by term."""

import torch
from torch import Tensor

from eqlib.kernels.gaunt_many_body.terms import SLOTS, polynomials


def forward(
    fields: list[Tensor], tables: Tensor, weights: Tensor, terms: list[int], outputs: list[int]
) -> list[Tensor]:
    """Return the coefficients of each output."""
    dtype = fields[0].dtype
    fields = [x.to(tables.dtype) for x in fields]
    nodes, _, channels = fields[0].shape
    found = [fields[0].new_zeros(nodes, size, channels) for size in outputs]
    for target, polynomial in polynomials(tuple(terms)).items():
        output, slot = divmod(target, SLOTS)
        density = fields[0].new_zeros(nodes, len(weights), channels)
        for factors, scale in polynomial:
            product = torch.full_like(density, scale)
            for variable in factors:
                x, table = fields[variable // SLOTS], tables[variable % SLOTS]
                product = product * torch.einsum("gs,nsc->ngc", table[:, : x.shape[1]], x)
            density = density + product
        dual = weights[:, None] * tables[slot, :, : outputs[output]]
        found[output] = found[output] + torch.einsum("gs,ngc->nsc", dual, density)
    return [x.to(dtype) for x in found]
