"""Members of segments, drawn at random."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def draw_members(
    weights: Float[Tensor, "members"],
    count: Int[Tensor, "spans"],
    uniform: Float[Tensor, "spans samples"],
) -> Int[Tensor, "draws"]:
    """Draw members of each span with probabilities in proportion to their weights.

    Args:
        weights: non-negative, of all spans one after the other; none has only zeros.
        count: number of members of each span.
        uniform: random numbers from 0 to 1, one for each draw, with replacement.
    """
    reach = torch.cat([weights.new_zeros(1), weights.cumsum(0)])
    last = count.cumsum(0)
    low, high = reach[last - count, None], reach[last, None]
    # Strictly below the end of the span, lest its last draw be the first member of the next one.
    target = torch.minimum(low + uniform * (high - low), high.nextafter(low))
    return torch.searchsorted(reach[1:], target.flatten(), right=True)
