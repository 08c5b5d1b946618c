"""Lists of the members of segments, whole or drawn at random."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def list_spans(
    first: Int[Tensor, "spans"], count: Int[Tensor, "spans"]
) -> tuple[Int[Tensor, "members"], Int[Tensor, "members"]]:
    """The span of each member, and the member: ``first[i]`` and the next ``count[i] - 1``."""
    span = torch.arange(len(count), device=count.device).repeat_interleave(count)
    place = torch.arange(len(span), device=count.device) - (count.cumsum(0) - count)[span]
    return span, first[span] + place


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
