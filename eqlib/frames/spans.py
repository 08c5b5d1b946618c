"""Lists of consecutive rows: those of some graphs of a batch, one graph after the other."""

import torch
from jaxtyping import Int
from torch import Tensor


def list_spans(
    first: Int[Tensor, "spans"], count: Int[Tensor, "spans"]
) -> tuple[Int[Tensor, "members"], Int[Tensor, "members"]]:
    """The span of each member, and the member: ``first[i]`` and the next ``count[i] - 1``."""
    span = torch.arange(len(count), device=count.device).repeat_interleave(count)
    place = torch.arange(len(span), device=count.device) - (count.cumsum(0) - count)[span]
    return span, first[span] + place
