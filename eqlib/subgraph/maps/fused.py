"""The factorised maps in one pass, on a CPU where nothing is to be differentiated."""

from collections.abc import Mapping

import torch
from torch import Tensor

from eqlib.kernels.pair_linear import pair_mix, whynot_mix
from eqlib.subgraph.maps.basis import pair_count, scalar_count, vector_count
from eqlib.subgraph.maps.layouts import Layout, Ragged
from eqlib.subgraph.maps.terms import Term

ORDERS = (2, 1, 0)


def can_fuse(
    features: Mapping[int, Tensor],
    layout: Layout,
    terms: Mapping[tuple[int, int], Term],
    biases: Mapping[int, Tensor],
) -> bool:
    """Whether :func:`apply_fused` can stand for the usual way; see there for the arguments."""
    if not isinstance(layout, Ragged) or layout.root is not None:
        return False
    if torch.compiler.is_compiling():  # which would trace how a C compiler is found
        return False
    weights = [term.weight for term in terms.values()]
    tensors = [*features.values(), *weights, *biases.values()]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return False
    like = tensors[0]
    if torch.is_autocast_enabled(like.device.type) or len({t.dtype for t in tensors}) > 1:
        return False
    if layout.implementation not in ("auto", "compiled") or not all(
        term.shared for term in terms.values()
    ):
        return False
    return not whynot_mix(like.device, like.dtype)


def apply_fused(
    features: Mapping[int, Tensor],
    layout: Ragged,
    terms: Mapping[tuple[int, int], Term],
    biases: Mapping[int, Tensor],
    normalised: bool,
) -> dict[int, Tensor]:
    """Apply basis maps to features of all orders, as ``products.apply_terms`` does.

    Args:
        features: of each order; there is one at least.
        layout: how the features lie in memory.
        terms: weights from each order of the features to each order of the result.
        biases: (places of a scalar, outputs) for each order of the result.
        normalised: divide sums over members by their number.
    """
    like, pairs = next(iter(features.values())), layout.pairs
    rows = (len(layout.sizes), pairs.subgraph.shape[0], pairs.transpose.shape[0])
    sources = {q: features.get(q, like.new_empty(rows[q], 0)) for q in ORDERS}
    outputs = [biases[q].shape[1] if q in biases else 0 for q in ORDERS]
    spread, nodes, scalars = pair_mix(
        *(sources[q] for q in ORDERS),
        _matrix(features, terms, biases, of_members=True),
        _matrix(features, terms, biases, of_members=False),
        torch.cat([biases[q].flatten() for q in ORDERS if q in biases]),
        *pairs,
        outputs,
        normalised,
    )
    found = {2: spread, 1: nodes, 0: scalars}
    if 2 in biases:
        none = Term(like.new_empty(2, 0, outputs[0]))
        term = terms[2, 2].maps(0, 2) if 2 in features else none
        found[2] = layout.linear(features.get(2), term, spread)
    return {order: found[order] for order in biases}


def _matrix(
    features: Mapping[int, Tensor],
    terms: Mapping[tuple[int, int], Term],
    biases: Mapping[int, Tensor],
    of_members: bool,
) -> Tensor:
    """The weights of all vectors of members, or of all scalars of subgraphs, in one matrix."""
    count = vector_count if of_members else scalar_count
    heights = [count(p, False) * features[p].shape[1] if p in features else 0 for p in ORDERS]
    widths = [count(q, False) * biases[q].shape[1] if q in biases else 0 for q in ORDERS]
    matrix = next(iter(features.values())).new_empty(sum(heights), sum(widths))
    for p, rows in zip(ORDERS, matrix.split(heights), strict=True):
        for q, block in zip(ORDERS, rows.split(widths, 1), strict=True):
            if not (block.shape[0] and block.shape[1]):
                continue
            first = pair_count(p, q)
            if not of_members:
                first += vector_count(p, False) * vector_count(q, False)
            sources, places = count(p, False), count(q, False)
            weight = terms[p, q].weight.narrow(0, first, sources * places)
            target = block.unflatten(1, (places, -1)).unflatten(0, (sources, -1))
            target.copy_(weight.unflatten(0, (places, sources)).permute(1, 2, 0, 3))
    return matrix
