"""Polynomials in grid variables: their code as integers, their derivatives, their nested form.

A variable is the value of a field (slot 0), or its derivative along the first (slot 1) or the
second tangent (slot 2), numbered 3 * field + slot. A term is a number times a product of variables,
integrated against one slot of an output, numbered in the same way.
"""

from collections import Counter
from functools import lru_cache
from math import gcd
from typing import NamedTuple

SLOTS = 3
Monomial = tuple[int, ...]
Polynomial = tuple[tuple[Monomial, int], ...]


class Term(NamedTuple):
    """``scale`` times the product of ``factors``, integrated against ``output``."""

    scale: int
    output: int
    factors: Monomial


class Nested(NamedTuple):
    """``scale * variable * inside + outside``; both parts are polynomials again, or numbers."""

    scale: int
    variable: int
    inside: "Nested | int"
    outside: "Nested | int"


def encode(terms: list[Term]) -> list[int]:
    """Return the integers of terms: number of factors, scale, output, factors; and so on."""
    return [
        number
        for term in terms
        for number in (len(term.factors), term.scale, term.output, *term.factors)
    ]


def decode(code: tuple[int, ...]) -> list[Term]:
    """Return the terms of :func:`encode`."""
    terms, start = [], 0
    while start < len(code):
        count, scale, output = (*code[start : start + 3], 0, 0)[:3]
        factors = code[start + 3 : start + 3 + count]
        if count < 1 or len(factors) < count or min(output, *factors) < 0:
            raise ValueError(
                "terms: expected the number of factors, scale, output, factors, and so on; "
                f"got {code[start : start + 8]} at {start}; make them with encode"
            )
        terms.append(Term(scale, output, factors))
        start += 3 + count
    return terms


@lru_cache(maxsize=256)
def polynomials(code: tuple[int, ...]) -> dict[int, Polynomial]:
    """Return the polynomial of each output slot that is not zero: factors and scale of terms."""
    found: dict[int, Counter[Monomial]] = {}
    for term in decode(code):
        found.setdefault(term.output, Counter())[tuple(sorted(term.factors))] += term.scale
    sorted_terms = {
        target: tuple(sorted((factors, scale) for factors, scale in sums.items() if scale))
        for target, sums in found.items()
    }
    return {target: polynomial for target, polynomial in sorted_terms.items() if polynomial}


@lru_cache(maxsize=256)
def derivative(code: tuple[int, ...], fields: int, wanted: tuple[int, ...]) -> list[int]:
    """Return the terms of the derivatives by some fields.

    Each output, integrated against its cotangent and summed, gives one number, whose derivative by
    a field is a sum of terms again: a term loses one factor, which becomes its output, and gets the
    cotangent of its former output in place of it.

    Args:
        code: terms.
        fields: number of fields of ``code``; the cotangents are numbered from there on.
        wanted: fields to differentiate by; output i is the derivative by the i-th.
    """
    found: Counter[tuple[int, Monomial]] = Counter()
    for scale, output, factors in decode(code):
        for variable, power in Counter(factors).items():
            field, slot = divmod(variable, SLOTS)
            if field in wanted:
                others = list(factors)
                others.remove(variable)
                key = (*sorted(others), SLOTS * fields + output)
                found[SLOTS * wanted.index(field) + slot, key] += scale * power
    return encode([Term(scale, target, factors) for (target, factors), scale in found.items()])


@lru_cache(maxsize=4096)
def nested(polynomial: Polynomial, narrow: frozenset[int]) -> Nested:
    """Return the nested form of a polynomial with variables; equal parts are one object.

    Args:
        polynomial: factors and scale of each term, in sorted order.
        narrow: variables that are constant on the grid: factored out last, which keeps their
            products small.
    """
    counts = Counter(v for factors, _ in polynomial for v in set(factors))
    variable = max(counts, key=lambda v: (counts[v], v not in narrow, v % SLOTS > 0, -v))
    with_it = [(_without(f, variable), scale) for f, scale in polynomial if variable in f]
    without_it = tuple((f, scale) for f, scale in polynomial if variable not in f)
    common = gcd(*(scale for _, scale in with_it))
    common = -common if with_it[0][1] < 0 else common
    inside = tuple(sorted((f, scale // common) for f, scale in with_it))
    return Nested(common, variable, _part(inside, narrow), _part(without_it, narrow))


def _part(polynomial: Polynomial, narrow: frozenset[int]) -> Nested | int:
    """Return the nested form of a polynomial, or the number that it is."""
    if any(factors for factors, _ in polynomial):
        return nested(polynomial, narrow)
    return sum(scale for _, scale in polynomial)


def _without(factors: Monomial, variable: int) -> Monomial:
    place = factors.index(variable)
    return factors[:place] + factors[place + 1 :]
