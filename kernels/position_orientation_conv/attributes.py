r"""Attributes of an offset and an orientation, and their monomials.

Attributes a of the offset r, with A the axes of an orientation and o its only axis:

* "axes": :math:`A r`;
* "perpendicular": :math:`o \cdot r` and :math:`s(|r - (o \cdot r)\, o|^2)`;
* "distance": :math:`s(|r|^2)`,

where :math:`s(q) = \sqrt{q + \varepsilon^2} - \varepsilon` is the length, made smooth at zero.
Each function has a transpose beside it, which takes a gradient backwards.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement
from math import comb

from eqlib.kernels.position_orientation_conv import duals
from eqlib.kernels.position_orientation_conv.duals import Value


def count_attributes(attributes: str, axes: int) -> int:
    """Return the number of attributes for a number of axes of an orientation."""
    return {"axes": axes, "perpendicular": 2, "distance": 1}[attributes]


def count_monomials(attributes: str, axes: int, degree: int) -> int:
    """Return the number of distinct monomials of degree 1 and up.

    Args:
        attributes: one of ``ATTRIBUTES``.
        axes: of an orientation.
        degree: the highest.
    """
    return comb(count_attributes(attributes, axes) + degree, degree) - 1


def factors(count: int, degree: int) -> Iterator[tuple[int, ...]]:
    """Yield the attributes that each monomial multiplies, in the order of the columns of w1."""
    for order in range(1, degree + 1):
        yield from combinations_with_replacement(range(count), order)


def evaluate(offsets: Value, axes: Value, attributes: str, softening: float) -> list[Value]:
    """Return the attributes, each (edges, orientations).

    Args:
        offsets: (edges, n).
        axes: of each edge or of all, (edges or 1, orientations, m, n).
        attributes: one of ``ATTRIBUTES``.
        softening: epsilon, in the unit of the offsets.
    """
    r = _components(offsets[:, None])
    if attributes == "distance":
        length = duals.soft_length(_dot(r, r), softening)
        return [length.expand(-1, axes.shape[1])]
    along = [_dot(_components(axes[:, :, i]), r) for i in range(axes.shape[2])]
    if attributes == "axes":
        return along
    across = _across(along[0], _components(axes[:, :, 0]), r)
    return [along[0], duals.soft_length(_dot(across, across), softening)]


def evaluate_transposed(
    grad: Value, offsets: Value, axes: Value, attributes: str, softening: float
) -> tuple[Value, Value]:
    """Return the gradients of offsets (edges, n) and axes (edges, orientations, m, n).

    Args:
        grad: of the attributes, (edges, orientations, number of attributes).
        offsets: as in :func:`evaluate`.
        axes: as in :func:`evaluate`.
        attributes: as in :func:`evaluate`.
        softening: as in :func:`evaluate`.
    """
    r, grads = _components(offsets[:, None]), _components(grad)
    if attributes == "distance":
        slope = duals.soft_length_slope(_dot(r, r), softening) * 2.0
        return (grads[0] * slope).sum(1, keepdim=True) * offsets, axes * offsets[:, None, None]
    if attributes == "axes":
        by_axes = grad[..., None] * offsets[:, None, None]
        return (grad[..., None] * axes).sum((1, 2)), by_axes
    o = _components(axes[:, :, 0])
    along = _dot(o, r)
    across = _across(along, o, r)
    slope = grads[1] * duals.soft_length_slope(_dot(across, across), softening) * 2.0
    by_across = [slope * component for component in across]
    by_along = grads[0] - _dot(by_across, o)
    by_offsets = [(g + by_along * a).sum(1) for a, g in zip(o, by_across, strict=True)]
    by_o = [by_along * a - along * g for a, g in zip(r, by_across, strict=True)]
    return duals.stack(by_offsets), duals.stack(by_o)[:, :, None]


def monomials(values: Sequence[Value], degree: int) -> list[Value]:
    """Return all products of attributes of degree 1 and up."""
    return list(_monomials(values, degree).values())


def monomials_transposed(
    grads: Sequence[Value], values: Sequence[Value], degree: int
) -> list[Value]:
    """Return the gradients of the attributes from those of the monomials."""
    products = _monomials(values, degree)
    by_product = dict(zip(products, grads, strict=True))
    by_value: dict[int, Value] = {}
    for chosen in reversed(products):
        rest, last = chosen[:-1], chosen[-1]
        through = by_product[chosen]
        if rest:
            by_product[rest] = by_product[rest] + through * values[last]
            through = through * products[rest]
        by_value[last] = by_value[last] + through if last in by_value else through
    return [by_value[i] for i in range(len(values))]


def _monomials(values: Sequence[Value], degree: int) -> dict[tuple[int, ...], Value]:
    products: dict[tuple[int, ...], Value] = {}
    for chosen in factors(len(values), degree):
        last = values[chosen[-1]]
        products[chosen] = products[chosen[:-1]] * last if chosen[:-1] else last
    return products


def _components(vectors: Value) -> list[Value]:
    return [vectors[..., i] for i in range(vectors.shape[-1])]


def _across(along: Value, o: Sequence[Value], r: Sequence[Value]) -> list[Value]:
    """Return what is left of an offset without its part along an axis."""
    return [b - along * a for a, b in zip(o, r, strict=True)]


def _dot(a: Sequence[Value], b: Sequence[Value]) -> Value:
    total = a[0] * b[0]
    for first, second in zip(a[1:], b[1:], strict=True):
        total = total + first * second
    return total
