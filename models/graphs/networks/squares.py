"""Features of all pairs of nodes of ragged graphs, and their matrix products, graph by graph."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eqlib.geometry import gather_nodes
from eqlib.kernels.channelwise_matmul import compiled
from eqlib.kernels.channelwise_matmul.op import pick
from eqlib.kernels.operation import is_transforming
from eqlib.models.graphs.networks.base import RaggedGraphs


class Squares(NamedTuple):
    """Where the pairs of nodes lie: the matrix of each graph, row after row, without padding."""

    sizes: list[int]
    """Number of nodes of each graph."""
    graph: Int[Tensor, "pairs"]
    """The graph of each pair."""
    diagonal: Int[Tensor, "nodes"]
    """The pair of each node with itself."""
    edges: Int[Tensor, "edges"]
    """The pair of each edge: its target by its source."""


def squares(graphs: RaggedGraphs) -> Squares:
    """Return the places of all pairs of nodes, of those of each node and of those of each edge."""
    counts = torch.bincount(graphs.batch, minlength=graphs.num_graphs)
    pairs = counts.square()
    first, place = (pairs.cumsum(0) - pairs)[graphs.batch], graphs.place
    nodes = counts[graphs.batch]
    row = first + place * nodes  # where the row of each node begins
    source, target = graphs.edge_index
    graph = torch.arange(graphs.num_graphs, device=pairs.device).repeat_interleave(pairs)
    return Squares(counts.tolist(), graph, row + place, row[target] + place[source])


def multiply(
    a: Float[Tensor, "pairs channels"], b: Float[Tensor, "pairs channels"], sizes: Sequence[int]
) -> Float[Tensor, "pairs channels"]:
    r"""Products of the matrices of each graph, one for every channel.

    .. math:: c_{ijn} = \sum_k a_{ikn}\, b_{kjn}

    On a CPU with a C compiler one graph follows the other and nothing is padded. Elsewhere graphs
    of similar sizes are padded to the same and multiplied together.

    Args:
        a: features of all pairs, as `squares` places them.
        b: likewise.
        sizes: number of nodes of each graph.
    """
    if pick(a.device, a.dtype)[0] == "compiled" and not is_transforming():
        return multiply_singly(a, b, sizes)
    return multiply_padded(a, b, sizes)


def multiply_singly(
    a: Float[Tensor, "pairs channels"], b: Float[Tensor, "pairs channels"], sizes: Sequence[int]
) -> Float[Tensor, "pairs channels"]:
    """Return the products of `multiply`, one graph after the other."""
    found: Tensor = _Products.apply(a, b, sizes, False, False)
    return found


class _Products(torch.autograd.Function):
    """Products of the matrices of each graph, or of their transposes: one node for all graphs.

    Its derivatives are such products again.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, sizes: Sequence[int], turn_a: bool, turn_b: bool
    ) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.sizes, ctx.turn_a, ctx.turn_b = sizes, turn_a, turn_b
        found, squared = a.new_empty(a.shape), [size * size for size in sizes]
        parts = (part.split(squared) for part in (a.contiguous(), b.contiguous(), found))
        for size, *matrices in zip(sizes, *parts, strict=True):
            left, right, product = (part.view(size, size, a.shape[1]) for part in matrices)
            # the axis that is summed over comes first
            left = left if turn_a else left.transpose(0, 1)
            compiled.multiply(left, right.transpose(0, 1) if turn_b else right, product)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (a, b), (grad,) = ctx.saved_tensors, grads
        sizes, turn_a, turn_b = ctx.sizes, ctx.turn_a, ctx.turn_b
        by_a = (b, grad, sizes, turn_b, True) if turn_a else (grad, b, sizes, False, not turn_b)
        by_b = (grad, a, sizes, True, turn_a) if turn_b else (a, grad, sizes, not turn_a, False)
        return _Products.apply(*by_a), _Products.apply(*by_b), None, None, None


def multiply_padded(
    a: Float[Tensor, "pairs channels"], b: Float[Tensor, "pairs channels"], sizes: Sequence[int]
) -> Float[Tensor, "pairs channels"]:
    """Return the products of `multiply`, graphs of similar sizes together."""
    counts = torch.tensor(sizes, dtype=torch.int64, device=a.device)
    starts = counts.square().cumsum(0) - counts.square()
    padded = [_padded(size) for size in sizes]
    products, rows = [a.new_zeros(0, a.shape[1])], [counts.new_zeros(0)]
    for side in sorted(set(padded)):
        members = [graph for graph, size in enumerate(padded) if size == side]
        inner = torch.arange(side, device=a.device)
        count, start = counts[members, None, None], starts[members, None, None]
        i, j = inner[:, None], inner
        inside = (i < count) & (j < count)
        row = (start + i * count + j)[inside]
        left, right = (_spread(part, row, inside) for part in (a, b))
        products.append(torch.einsum("gikc,gkjc->gijc", left, right)[inside])
        rows.append(row)
    # every pair has one row: sorting the rows puts the products back in their order
    return gather_nodes(torch.cat(products), torch.cat(rows).argsort())


def _spread(values: Tensor, row: Tensor, inside: Tensor) -> Tensor:
    """Put rows into padded matrices, with zeros around them."""
    padded = values.new_zeros(inside.numel(), values.shape[1])
    place = inside.flatten().nonzero()[:, 0]
    return padded.index_copy(0, place, gather_nodes(values, row)).unflatten(0, inside.shape)


def _padded(size: int) -> int:
    """Round a size up, by a quarter at most where it has eight nodes or more."""
    step = max(2, 2 ** (max(size, 1).bit_length() - 3))
    return -(-size // step) * step
