"""All maps of a layer in one operation, on a CPU."""

from collections.abc import Mapping

from torch import Tensor

from eqlib.kernels.autocast import is_autocasting
from eqlib.kernels.operation import is_transforming
from eqlib.kernels.pair_linear import Settings, pair_layer, whynot_layer
from eqlib.kernels.tracing import is_traced
from eqlib.subgraph.maps.layouts import Layout, Ragged
from eqlib.subgraph.maps.terms import Term

_ORDERS = (2, 1, 0)


def can_fuse(
    features: Mapping[int, Tensor],
    layout: Layout,
    terms: Mapping[tuple[int, int], Term],
    biases: Mapping[int, Tensor],
) -> bool:
    """Whether :func:`apply_fused` can stand for the usual way; see there for the arguments."""
    if not isinstance(layout, Ragged):
        return False
    tensors = [*features.values(), *(term.weight for term in terms.values()), *biases.values()]
    like = tensors[0]
    if is_transforming() or is_traced(*tensors, layout.pairs.transpose):
        return False
    if is_autocasting(like.device.type) or len({t.dtype for t in tensors}) > 1:
        return False
    if layout.implementation not in ("auto", "compiled") or not all(
        term.shared for term in terms.values()
    ):
        return False
    return not whynot_layer(like.device, like.dtype)


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
    like, rows = next(iter(features.values())), layout.rows
    x, nodes, scalars = (features.get(q, like.new_empty(rows[q], 0)) for q in _ORDERS)
    weights = [terms[p, q].weight for p in _ORDERS if p in features for q in _ORDERS if q in biases]
    weights += [biases[q] for q in _ORDERS if q in biases]
    outputs = (biases[q].shape[1] if q in biases else 0 for q in _ORDERS)
    channels = (x.shape[1], nodes.shape[1], scalars.shape[1], *outputs)
    settings = Settings(layout.pairs, layout.nodes, channels, normalised)
    found = pair_layer((x, nodes, scalars), weights, settings)
    return {q: values for q, values in zip(_ORDERS, found, strict=True) if q in biases}
