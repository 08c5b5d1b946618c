"""Rows sorted by graph, and lists of those of some graphs, one graph after the other."""

import torch
from jaxtyping import Int
from torch import Tensor

from eqlib.kernels.tracing import is_readable


def list_spans(
    first: Int[Tensor, "spans"], count: Int[Tensor, "spans"]
) -> tuple[Int[Tensor, "members"], Int[Tensor, "members"]]:
    """The span of each member, and the member: ``first[i]`` and the next ``count[i] - 1``."""
    span = torch.arange(len(count), device=count.device).repeat_interleave(count)
    shift = first - (count.cumsum(0) - count)
    places = torch.arange(len(span), device=count.device)
    return span, places + shift.repeat_interleave(count, output_size=len(span))


def sorting_order(graph: Int[Tensor, "rows"]) -> Int[Tensor, "rows"] | None:
    """The order that sorts rows by their graph, or None where a look at a CPU finds them sorted."""
    if is_readable(graph) and bool((graph[1:] >= graph[:-1]).all()):
        return None
    return graph.argsort(stable=True)


def sorted_spans(
    graph: Int[Tensor, "rows"], graphs: int
) -> tuple[Int[Tensor, "rows"] | None, Int[Tensor, "graphs"], Int[Tensor, "graphs"]]:
    """The order that sorts rows by their graph, and the start and number of rows of each graph."""
    order = sorting_order(graph)
    ends = torch.arange(graphs + 1, device=graph.device)
    starts = torch.searchsorted(graph if order is None else graph[order], ends)
    return order, starts[:-1], starts.diff()
