"""The equivariant linear layer on subgraphs with its basis maps in memory, for all or for each."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eqlib.subgraph import PermutationLinear, SubgraphPlan


class MapWeights(NamedTuple):
    """Weights of each map, in the order in which :func:`dense_layer` makes them."""

    pairs: Float[Tensor, "20 inputs outputs"]
    nodes: Float[Tensor, "7 inputs outputs"]
    pair_bias: Float[Tensor, "2 outputs"]
    """Of the diagonal, and of all entries."""
    node_bias: Float[Tensor, "1 outputs"]


def map_weights(layer: PermutationLinear) -> MapWeights:
    """The weights of a layer from pairs and nodes to pairs and nodes.

    Args:
        layer: with weights that all subgraphs share, not rooted.
    """
    from_to = layer.coefficients()
    a, x = from_to[2, 2], from_to[1, 2]
    pairs = [a[:2], a[5:8], x[1:2], a[8:11], x[2:3], a[2:5], x[:1], a[11:13], x[3:4], a[13:], x[4:]]
    a, x = from_to[2, 1], from_to[1, 1]
    nodes = [a[:3], x[:1], a[3:], x[1:]]
    return MapWeights(torch.cat(pairs), torch.cat(nodes), layer.bias["2"], layer.bias["1"])


def stacked_layer(
    pairs: Float[Tensor, "pairs inputs"],
    nodes: Float[Tensor, "members inputs"],
    plan: SubgraphPlan,
    weights: MapWeights,
) -> tuple[Float[Tensor, "pairs outputs"], Float[Tensor, "members outputs"]]:
    """The layer on all subgraphs at once, in one product with all 20 maps to pairs.

    Written with care: sums are taken once, the maps are written where they belong in one tensor
    (and not concatenated), and their gradients are read from there.

    Args:
        pairs: features of pairs, those of each subgraph in the order of the plan.
        nodes: features of the members.
        plan: the subgraphs.
        weights: of the maps.
    """
    sizes = plan.sizes.to(pairs.dtype)[:, None]
    sums = _MemberSums.apply(pairs, plan.row, plan.column, plan.diagonal, len(nodes))
    per_member = 1 / sizes.index_select(0, plan.subgraph)
    diagonal, rows, columns = sums.chunk(3, 1)
    members = torch.cat([diagonal, rows * per_member, columns * per_member, nodes], 1)
    three = torch.cat([diagonal, rows * per_member, nodes], 1)
    scalars = three.new_zeros(len(sizes), three.shape[1])
    scalars = scalars.index_add(0, plan.subgraph, three) / sizes
    index = (plan.transpose, plan.row, plan.column, plan.diagonal, plan.subgraph)
    to_pairs = torch.addmm(
        weights.pair_bias[1],
        _PairMaps.apply(pairs, members, scalars, *index),
        weights.pairs.flatten(0, 1),
    )
    to_pairs = to_pairs.index_add(0, plan.diagonal, weights.pair_bias[:1].expand(len(nodes), -1))
    to_nodes = torch.addmm(
        weights.node_bias[0],
        torch.cat([members, scalars.index_select(0, plan.subgraph)], 1),
        weights.nodes.flatten(0, 1),
    )
    return to_pairs, to_nodes


def concatenated_layer(
    pairs: Float[Tensor, "pairs inputs"],
    nodes: Float[Tensor, "members inputs"],
    plan: SubgraphPlan,
    weights: MapWeights,
) -> tuple[Float[Tensor, "pairs outputs"], Float[Tensor, "members outputs"]]:
    """The same as one would write it down: maps are concatenated; see :func:`stacked_layer`."""
    row, column, diagonal, subgraph = plan.row, plan.column, plan.diagonal, plan.subgraph
    sizes = plan.sizes.to(pairs.dtype)[:, None]
    per_member = 1 / sizes.index_select(0, subgraph)
    zeros = torch.zeros_like(nodes)
    on_diagonal = pairs.index_select(0, diagonal)
    rows = zeros.index_add(0, row, pairs) * per_member
    columns = zeros.index_add(0, column, pairs) * per_member
    members = torch.cat([on_diagonal, rows, columns, nodes], 1)
    three = torch.cat([on_diagonal, rows, nodes], 1)
    scalars = three.new_zeros(len(sizes), three.shape[1]).index_add(0, subgraph, three) / sizes
    by_member = scalars.index_select(0, subgraph)
    everything = torch.cat([members, by_member], 1)
    maps = [
        pairs,
        pairs.index_select(0, plan.transpose),
        members.index_select(0, row),
        members.index_select(0, column),
        everything.new_zeros(len(pairs), everything.shape[1]).index_copy(0, diagonal, everything),
        by_member.index_select(0, row),
    ]
    to_pairs = torch.cat(maps, 1) @ weights.pairs.flatten(0, 1) + weights.pair_bias[1]
    bias = weights.pair_bias[:1].expand(len(nodes), -1)
    to_nodes = everything @ weights.nodes.flatten(0, 1) + weights.node_bias
    return to_pairs.index_add(0, diagonal, bias), to_nodes


def mean_rows(
    rows: Float[Tensor, "copies channels"], index: Int[Tensor, " copies"], count: int
) -> Float[Tensor, "rows channels"]:
    """The mean of the copies of each row.

    Args:
        rows: copies in any order.
        index: which row each is a copy of.
        count: number of rows.
    """
    copies = torch.bincount(index, minlength=count).clamp(min=1)
    return rows.new_zeros(count, rows.shape[1]).index_add(0, index, rows) / copies[:, None]


def looped_layer(
    pairs: Float[Tensor, "pairs inputs"],
    nodes: Float[Tensor, "members inputs"],
    plan: SubgraphPlan,
    weights: MapWeights,
) -> tuple[Float[Tensor, "pairs outputs"], Float[Tensor, "members outputs"]]:
    """The same layer, one subgraph after the other; see :func:`stacked_layer`."""
    sizes = plan.sizes.tolist()
    to_pairs, to_nodes = [], []
    blocks = pairs.split([size * size for size in sizes]), nodes.split(sizes)
    for size, a, x in zip(sizes, *blocks, strict=True):
        found = dense_layer(a.unflatten(0, (size, size)), x, weights)
        to_pairs.append(found[0].flatten(0, 1))
        to_nodes.append(found[1])
    return torch.cat(to_pairs), torch.cat(to_nodes)


def dense_layer(
    a: Float[Tensor, "m m inputs"], x: Float[Tensor, "m inputs"], weights: MapWeights
) -> tuple[Float[Tensor, "m m outputs"], Float[Tensor, "m outputs"]]:
    """The layer on one subgraph.

    Args:
        a: features of its pairs.
        x: features of its nodes.
        weights: of the maps.
    """
    size = len(a)
    vectors = [a.diagonal().T, a.mean(1), a.mean(0), x]
    scalars = [vectors[0].mean(0), vectors[1].mean(0), x.mean(0)]
    eye = torch.eye(size, dtype=a.dtype, device=a.device)[..., None]
    maps = [a, a.transpose(0, 1)]
    maps += [vector[:, None].expand(-1, size, -1) for vector in vectors]
    maps += [vector.expand(size, -1, -1) for vector in vectors]
    maps += [eye * vector for vector in vectors] + [eye * scalar for scalar in scalars]
    maps += [scalar.expand(size, size, -1) for scalar in scalars]
    to_pairs = torch.cat(maps, -1) @ weights.pairs.flatten(0, 1)
    to_pairs = to_pairs + eye * weights.pair_bias[0] + weights.pair_bias[1]
    everything = [*vectors, *(scalar.expand(size, -1) for scalar in scalars)]
    return to_pairs, torch.cat(everything, -1) @ weights.nodes.flatten(0, 1) + weights.node_bias[0]


class _MemberSums(torch.autograd.Function):
    """Diagonal, row and column sums (members, 3 inputs) of the pairs of each member."""

    @staticmethod
    def forward(
        ctx: Any, pairs: Tensor, row: Tensor, column: Tensor, diagonal: Tensor, members: int
    ) -> Tensor:
        ctx.save_for_backward(row, column, diagonal)
        zeros = pairs.new_zeros(2, members, pairs.shape[1])
        parts = zeros[0].index_add_(0, row, pairs), zeros[1].index_add_(0, column, pairs)
        return torch.cat([pairs.index_select(0, diagonal), *parts], 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        row, column, diagonal = ctx.saved_tensors
        on_diagonal, rows, columns = (part.contiguous() for part in grads[0].chunk(3, 1))
        by_pairs = rows.index_select(0, row).add_(columns.index_select(0, column))
        return by_pairs.index_add_(0, diagonal, on_diagonal), None, None, None, None


class _PairMaps(torch.autograd.Function):
    """All maps to pairs, (pairs, 20 inputs): in the order of :func:`dense_layer`."""

    @staticmethod
    def forward(
        ctx: Any,
        pairs: Tensor,
        members: Tensor,
        scalars: Tensor,
        transpose: Tensor,
        row: Tensor,
        column: Tensor,
        diagonal: Tensor,
        subgraph: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(transpose, row, column, diagonal, subgraph)
        ctx.scalars = len(scalars)
        maps = pairs.new_empty(len(pairs), 20 * pairs.shape[1])
        parts = _split(maps)
        parts[0].copy_(pairs)
        torch.index_select(pairs, 0, transpose, out=parts[1])
        torch.index_select(members, 0, row, out=parts[2])
        torch.index_select(members, 0, column, out=parts[3])
        by_member = scalars.index_select(0, subgraph)
        parts[4].zero_().index_copy_(0, diagonal, torch.cat([members, by_member], 1))
        torch.index_select(by_member, 0, row, out=parts[5])
        return maps

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        transpose, row, column, diagonal, subgraph = ctx.saved_tensors
        parts = _split(grads[0])
        by_pairs = parts[1].index_select(0, transpose).add_(parts[0])
        on_diagonal = parts[4].index_select(0, diagonal)
        width = parts[2].shape[1]
        by_members = on_diagonal[:, :width].contiguous()
        by_members.index_add_(0, row, parts[2]).index_add_(0, column, parts[3])
        each = on_diagonal[:, width:].contiguous().index_add_(0, row, parts[5])
        by_scalars = each.new_zeros(ctx.scalars, each.shape[1]).index_add_(0, subgraph, each)
        return by_pairs, by_members, by_scalars, None, None, None, None, None


def _split(maps: Tensor) -> tuple[Tensor, ...]:
    """The pairs, their transpose, by row, by column, on the diagonal, the same everywhere."""
    width = maps.shape[1] // 20
    return maps.split([width, width, 4 * width, 4 * width, 7 * width, 3 * width], 1)
