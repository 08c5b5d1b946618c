"""Products of rows with one of several matrices each."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 64
"""Rows that share a copy of their matrix."""


def grouped_matmul(
    rows: Float[Tensor, "rows inputs"],
    matrices: Float[Tensor, "groups inputs outputs"],
    group: Int[Tensor, "rows"],
) -> Float[Tensor, "rows outputs"]:
    r"""Products of rows with the matrix of their group, :math:`y_i = x_i W_{g_i}`.

    Rows go into blocks of one group, which are filled up with zeros: their number is known without
    looking at the values, so that nothing waits for the device and torch.compile sees no branch.

    Args:
        rows: one vector each.
        matrices: one for each group.
        group: group of each row, in any order.

    Returns:
        One row per row.
    """
    groups, count = matrices.shape[0], group.shape[0]
    if groups == 0:
        return rows.new_zeros(count, matrices.shape[2])
    sizes = group.new_zeros(groups).scatter_add(0, group, torch.ones_like(group))
    order = group.argsort(stable=True)
    rank = torch.empty_like(order).scatter(0, order, torch.arange(count, device=group.device))
    first_row = sizes.cumsum(0) - sizes
    blocks = (sizes + BLOCK - 1) // BLOCK
    last_block = blocks.cumsum(0)
    first_block = last_block - blocks
    place = first_block[group] * BLOCK + rank - first_row[group]
    bound = count // BLOCK + groups
    group_of_block = torch.searchsorted(
        last_block, torch.arange(bound, device=group.device), right=True
    ).clamp(max=groups - 1)
    filled = rows.new_zeros(bound * BLOCK, rows.shape[1]).index_copy(0, place, rows)
    products = torch.bmm(
        filled.view(bound, BLOCK, rows.shape[1]), matrices.index_select(0, group_of_block)
    )
    return products.flatten(0, 1).index_select(0, place)
