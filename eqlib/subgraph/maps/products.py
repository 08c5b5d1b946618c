"""Linear maps between orders in factorised form: sums once, then products level by level."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from eqlib.subgraph.maps.basis import pair_count, scalar_count, vector_count
from eqlib.subgraph.maps.fused import apply_fused, can_fuse
from eqlib.subgraph.maps.layouts import Layout, Ragged
from eqlib.subgraph.maps.terms import Term

Terms = Mapping[tuple[int, int], Term]
"""The weights from each order to each other."""

_ANYWHERE = (1, 1, 2)
"""How many places of a scalar in each order are not at the root."""


def apply_terms(
    features: Mapping[int, Tensor],
    layout: Layout,
    terms: Terms,
    biases: Mapping[int, Tensor],
    normalised: bool,
) -> dict[int, Tensor]:
    """Apply basis maps to features of all orders.

    Pairs are read twice: for the sums of each member, and for the product with the weights of A and
    its transpose. All else has one row per member or per subgraph.

    Args:
        features: of each order; there is one at least.
        layout: how the features lie in memory.
        terms: weights from each order of the features to each order of the result.
        biases: (places of a scalar, outputs) for each order of the result.
        normalised: divide sums over members by their number.

    Returns:
        Features of each order of ``biases``.
    """
    if can_fuse(features, layout, terms, biases):
        assert isinstance(layout, Ragged)
        return apply_fused(features, layout, terms, biases, normalised)
    rooted = layout.root is not None
    vectors, scalars = _sources(features, layout, normalised)
    found = {}
    for order, bias in biases.items():
        z = bias.expand(layout.sizes.shape[0], *bias.shape)
        for source, rows in scalars.items():
            z = _scalar_part(terms[source, order], source, order, rooted).add(z, rows)
        if order == 0:
            found[order] = z.squeeze(1)
            continue
        u = _place(z, order, layout)
        for source, rows in vectors.items():
            part = _vector_part(terms[source, order], source, order, rooted)
            u = layout.of_members(part).add(u, rows)
        found[order] = (
            layout.nodes_of(u.squeeze(1))
            if order == 1
            else _pairs(u, features.get(2), terms, layout)
        )
    return found


def _sources(
    features: Mapping[int, Tensor], layout: Layout, normalised: bool
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Vectors (members, vectors, C) and scalars (subgraphs, scalars, C) of each order."""
    vectors, scalars = {}, {}
    inverse = None
    if normalised:
        inverse = layout.sizes.clamp(min=1).to(_wide(features)).reciprocal()[:, None, None]
    for order, rows in features.items():
        if order == 0:
            scalars[order] = rows[:, None]
            continue
        found = layout.members_of(rows)[:, None] if order == 1 else layout.reduce(rows)
        if order == 2 and inverse is not None:
            found = _with_mean_sums(found, layout.to_members(inverse))
        # All columns at once: a part of them would first be copied.
        total = layout.total(found)[:, : 1 if order == 1 else 2]
        parts = [total if inverse is None else (total * inverse).to(total.dtype)]
        if layout.root is not None:
            parts.append(found[:, : 1 if order == 1 else 3].index_select(0, layout.root))
        vectors[order], scalars[order] = found, torch.cat(parts, 1)
    return vectors, scalars


def _wide(features: Mapping[int, Tensor]) -> torch.dtype:
    """The dtype to divide in: at least float32, as half precision rounds 1 / 3 too far."""
    dtype = next(iter(features.values())).dtype
    return torch.promote_types(dtype, torch.float32)


def _with_mean_sums(vectors: Tensor, inverse: Tensor) -> Tensor:
    """Turn the sums of rows and columns, but not the diagonal and the root's pairs, into means."""
    ones = torch.ones_like(inverse)
    count = vectors.shape[1]
    factors = torch.cat([ones, inverse, inverse, *[ones] * (count - 3)], 1)
    return (vectors * factors).to(vectors.dtype)


def _scalar_part(term: Term, source: int, order: int, rooted: bool) -> Term:
    first = pair_count(source, order) + vector_count(source, rooted) * vector_count(order, rooted)
    return term.maps(first, scalar_count(source, rooted) * scalar_count(order, rooted))


def _vector_part(term: Term, source: int, order: int, rooted: bool) -> Term:
    count = vector_count(source, rooted) * vector_count(order, rooted)
    return term.maps(pair_count(source, order), count)


def _place(z: Tensor, order: int, layout: Layout) -> Tensor:
    """Write scalars as vectors: z I as a diagonal, z 1 1^T as rows, and those of the root there."""
    places = vector_count(order, layout.root is not None)
    anywhere, at_root = z[:, : _ANYWHERE[order]], z[:, _ANYWHERE[order] :]
    u = layout.to_members(_padded(anywhere, places))
    if layout.root is None:
        return u
    # e e^T is the diagonal at the root, e 1^T its row and 1 e^T its column.
    return u.index_add(0, layout.root, _padded(at_root, places))


def _padded(z: Tensor, places: int) -> Tensor:
    return pad(z, (0, 0, 0, places - z.shape[1]))


def _pairs(u: Tensor, pairs: Tensor | None, terms: Terms, layout: Layout) -> Tensor:
    """Maps of pairs, with what the members spread."""
    if pairs is None:
        return layout.linear(None, Term(u.new_empty(2, 0, u.shape[2])), u)
    return layout.linear(pairs, terms[2, 2].maps(0, 2), u)
