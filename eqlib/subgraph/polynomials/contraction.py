"""In which order to sum over the black nodes of a multigraph, and what that costs."""

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from eqlib.subgraph.polynomials.multigraph import Multigraph


class Contraction(NamedTuple):
    """An order of the black nodes and its cost."""

    order: tuple[int, ...]
    """The black nodes, in the order in which they are summed over."""
    degrees: tuple[int, ...]
    """Number of neighbours of each at that time."""
    exponent: int
    """The cost grows like n to this power."""
    width: int
    """The largest intermediate result has n to this power numbers."""


@cache
def contraction_order(multigraph: Multigraph | str) -> Contraction:
    r"""Return the cheapest order of summing over black nodes.

    A node with k neighbours, parallel edges counted once, is summed over at cost :math:`n^{k+1}`,
    which joins the neighbours to one another: k = 1 is a row sum, k = 2 a matrix product; parallel
    edges are multiplied entry by entry, and a loop is a diagonal.

    Args:
        multigraph: with at most 16 black nodes, or what `Multigraph.parse` reads.

    Returns:
        The order whose largest degrees are least; of those, the first.

    Raises:
        ValueError: there are more black nodes.
    """
    if isinstance(multigraph, str):
        multigraph = Multigraph.parse(multigraph)
    black = multigraph.black
    if len(black) > _MOST:
        raise ValueError(
            f"multigraph: got {len(black)} black nodes; expected at most {_MOST}: all sets of them "
            "are searched"
        )
    near: list[set[int]] = [set() for _ in range(multigraph.nodes)]
    for a, b in multigraph.edges:
        if a != b:
            near[a].add(b)
            near[b].add(a)
    # What summing over a node costs depends on the set of those before it alone.
    best: dict[frozenset[int], tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
        frozenset(): ((), (), ())
    }
    for _ in black:
        longer: dict[frozenset[int], tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {}
        for done, (worst, order, degrees) in best.items():
            for node in black:
                if node in done:
                    continue
                degree = len(_reach(near, node, done))
                path = (
                    tuple(sorted((*worst, degree), reverse=True)),
                    (*order, node),
                    (*degrees, degree),
                )
                both = done | {node}
                longer[both] = min(longer.get(both, path), path)
        best = longer
    ((worst, order, degrees),) = best.values()
    red = len(multigraph.red)
    return Contraction(
        order, degrees, max([red, *(degree + 1 for degree in worst)]), max([red, 2, *worst])
    )


_MOST = 16


def is_computable(multigraph: Multigraph | str) -> bool:
    """Return whether matrix products, row sums, diagonals and products of entries are enough.

    They are where each black node in turn has at most two neighbours, parallel edges counted once.
    Networks such as PPGN compute exactly these polynomials of a matrix.

    Args:
        multigraph: as in :func:`contraction_order`.

    Source:
        Puny et al., Equivariant Polynomials for Graph Neural Networks, ICML 2023; Maron et al.,
        Provably Powerful Graph Networks, NeurIPS 2019.
    """
    return all(degree <= 2 for degree in contraction_order(multigraph).degrees)


def _reach(near: list[set[int]], node: int, done: Iterable[int]) -> set[int]:
    """The neighbours of a node once others have been summed over."""
    done = set(done)
    reached, ahead = {node}, [node]
    found: set[int] = set()
    while ahead:
        for other in near[ahead.pop()] - reached:
            reached.add(other)
            (ahead.append if other in done else found.add)(other)
    return found
