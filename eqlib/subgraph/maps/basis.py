r"""The basis of all linear maps between orders that commute with permutations: names and counts.

Of a matrix A (order 2) permutations of the nodes keep apart, as vectors and as scalars,

    d_i = A_ii    r_i = sum_j A_ij    c_i = sum_j A_ji         t = sum_i A_ii    s = sum_ij A_ij

and, where one node is the root 0 and stays in its place, also

    p_i = A_i0    q_i = A_0i           A00    r0 = sum_j A_0j    c0 = sum_j A_j0

of a vector x (order 1) x itself, u = sum_i x_i and x0, of a scalar (order 0) z. A vector v goes
to the diagonal, the rows or the columns, and to the column or the row of the root:

    diag(v)    v 1^T    1 v^T          v e^T    e v^T

(1 is the vector of ones, e that of the root), a scalar to I, 1 1^T, and e e^T, e 1^T, 1 e^T. All
of these combinations, A and A^T are the basis: the maps from order p to order q number Bell(p + q)
without root, and Bell(p + q + 1) with it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.subgraph.features import ORDERS

VECTORS = {2: ("d", "r", "c", "p", "q"), 1: ("x",), 0: ()}
SCALARS = {2: ("t", "s", "A00", "r0", "c0"), 1: ("u", "x0"), 0: ("z",)}
VECTOR_PLACES = {2: ("diag({})", "{} 1^T", "1 {}^T", "{} e^T", "e {}^T"), 1: ("{}",), 0: ()}
SCALAR_PLACES = {2: ("I", "1 1^T", "e e^T", "e 1^T", "1 e^T"), 1: ("1", "e"), 0: ("",)}
"""What has no place without a root stands last in each, as ``vector_count`` and others count."""

_MEAN_POWER = {"r": 1, "c": 1, "t": 1, "s": 2, "r0": 1, "c0": 1, "u": 1}
"""Power of the number of nodes that turns each sum into a mean."""


def vector_count(order: int, rooted: bool) -> int:
    """Number of vectors that features of an order give, and of places that a vector has in them."""
    return (0, 1, 5 if rooted else 3)[order]


def scalar_count(order: int, rooted: bool) -> int:
    """Number of scalars that features of an order give, and of places that a scalar has in them."""
    return (1, 2, 5)[order] if rooted else (1, 1, 2)[order]


def pair_count(order_in: int, order_out: int) -> int:
    """Number of maps that only exchange pairs: A and its transpose."""
    return 2 if order_in == order_out == 2 else 0


def basis_names(order_in: int, order_out: int, rooted: bool = False) -> tuple[str, ...]:
    """Names of the basis maps, in the order of the weights.

    Args:
        order_in: order of the features, 0, 1 or 2.
        order_out: order of the result.
        rooted: whether one node is the root.

    Raises:
        ValueError: there is no such order.
    """
    _check_orders(order_in=order_in, order_out=order_out)
    vectors = VECTORS[order_in][: vector_count(order_in, rooted)]
    vector_places = VECTOR_PLACES[order_out][: vector_count(order_out, rooted)]
    scalars = SCALARS[order_in][: scalar_count(order_in, rooted)]
    scalar_places = SCALAR_PLACES[order_out][: scalar_count(order_out, rooted)]
    return (
        *("A", "A^T")[: pair_count(order_in, order_out)],
        *(place.format(vector) for place in vector_places for vector in vectors),
        *(f"{scalar} {place}".strip() for place in scalar_places for scalar in scalars),
    )


def bias_names(order: int, rooted: bool = False) -> tuple[str, ...]:
    """Names of the constant features of an order that commute with permutations.

    Args:
        order: 0, 1 or 2.
        rooted: whether one node is the root.

    Raises:
        ValueError: there is no such order.
    """
    _check_orders(order=order)
    return tuple(place or "1" for place in SCALAR_PLACES[order][: scalar_count(order, rooted)])


def basis_count(order_in: int, order_out: int, rooted: bool = False) -> int:
    """Number of basis maps, Bell(p + q), or Bell(p + q + 1) with a root.

    Args:
        order_in: order p of the features, 0, 1 or 2.
        order_out: order q of the result.
        rooted: whether one node is the root.

    Raises:
        ValueError: there is no such order.
    """
    return len(basis_names(order_in, order_out, rooted))


def basis_maps(
    nodes: int, order_in: int, order_out: int, rooted: bool = False, normalised: bool = False
) -> Float[Tensor, "maps *axes"]:
    r"""All basis maps as dense tensors, for teaching and checking: layers never build them.

    .. math:: B_k = \sum_{ab} T_{k\,ij\,ab} A_{ab} \quad (p = q = 2)

    Args:
        nodes: number of nodes m.
        order_in: order p of the features, 0, 1 or 2.
        order_out: order q of the result.
        rooted: whether node 0 is the root.
        normalised: divide each sum over nodes by m, as :class:`PermutationLinear` does.

    Returns:
        float64 (maps, q axes of m, p axes of m).

    Raises:
        ValueError: there is no such order, or no node.

    Note:
        For few nodes the maps depend on each other: the 15 from order 2 to 2 have rank 1, 8 and 14
        for m = 1, 2 and 3.

    Source:
        Maron et al., Invariant and Equivariant Graph Networks, ICLR 2019.
    """
    names = basis_names(order_in, order_out, rooted)
    _check_nodes(nodes)
    scalars = _scalar_tensors(nodes, order_in, rooted)
    vectors = _vector_tensors(nodes, order_in, rooted)
    if normalised:
        scalars = _means(scalars, SCALARS[order_in], nodes)
        vectors = _means(vectors, VECTORS[order_in], nodes)
    width_in, width_out = nodes**order_in, nodes**order_out
    eye = torch.eye(nodes, dtype=torch.float64)
    both = [torch.einsum("ia,jb->ijab", eye, eye), torch.einsum("ib,ja->ijab", eye, eye)]
    exchanges = torch.stack(both)[: pair_count(order_in, order_out)]
    places = _vector_tensors(nodes, order_out, rooted).reshape(-1, nodes, width_out)
    placed = torch.einsum("pko,vka->pvoa", places, vectors.reshape(-1, nodes, width_in))
    corners = _scalar_tensors(nodes, order_out, rooted).reshape(-1, width_out)
    filled = torch.einsum("po,va->pvoa", corners, scalars.reshape(-1, width_in))
    parts = [part.reshape(-1, width_out, width_in) for part in (placed, filled)]
    if len(exchanges):
        parts.insert(0, exchanges.reshape(2, width_out, width_in))
    return torch.cat(parts).reshape(len(names), *[nodes] * (order_out + order_in))


def bias_maps(nodes: int, order: int, rooted: bool = False) -> Float[Tensor, "maps *axes"]:
    """The constant features that commute with permutations, as dense tensors.

    Args:
        nodes: number of nodes m.
        order: 0, 1 or 2.
        rooted: whether node 0 is the root.

    Returns:
        float64 (maps, ``order`` axes of m).

    Raises:
        ValueError: there is no such order, or no node.
    """
    _check_orders(order=order)
    _check_nodes(nodes)
    return _scalar_tensors(nodes, order, rooted)


def _vector_tensors(nodes: int, order: int, rooted: bool) -> Tensor:
    """The tensors (vectors, m, order axes) that take vectors from features, or place them there."""
    eye, ones, root = _vectors(nodes)
    if order < 2:
        return eye[None] if order else eye.new_zeros(0, nodes)
    found = [
        torch.einsum("ia,ib->iab", eye, eye),
        torch.einsum("ia,b->iab", eye, ones),
        torch.einsum("a,ib->iab", ones, eye),
        torch.einsum("ia,b->iab", eye, root),
        torch.einsum("a,ib->iab", root, eye),
    ]
    return torch.stack(found[: vector_count(order, rooted)])


def _scalar_tensors(nodes: int, order: int, rooted: bool) -> Tensor:
    """The tensors (scalars, order axes) that take scalars from features, or place them there."""
    eye, ones, root = _vectors(nodes)
    if order == 0:
        return eye.new_ones(1)
    if order == 1:
        return torch.stack([ones, root])[: scalar_count(order, rooted)]
    products = [torch.outer(*both) for both in ((ones, ones), (root, root), (root, ones))]
    return torch.stack([eye, *products, products[-1].T])[: scalar_count(order, rooted)]


def _vectors(nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """The identity, the vector of ones and that of the root."""
    eye = torch.eye(nodes, dtype=torch.float64)
    return eye, eye.new_ones(nodes), eye[0]


def _means(tensors: Tensor, names: tuple[str, ...], nodes: int) -> Tensor:
    powers = torch.tensor([_MEAN_POWER.get(name, 0) for name in names[: len(tensors)]])
    factors = float(max(nodes, 1)) ** -powers.to(tensors)
    return tensors * factors.reshape(-1, *(1 for _ in tensors.shape[1:]))


def _check_orders(**orders: int) -> None:
    for name, order in orders.items():
        if order not in ORDERS:
            raise ValueError(f"{name} is {order!r}; expected 0 (scalars), 1 (nodes) or 2 (pairs)")


def _check_nodes(nodes: int) -> None:
    if nodes < 1:
        raise ValueError(f"nodes is {nodes}; expected at least 1")
