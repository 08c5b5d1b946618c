"""All multigraphs of a degree, one of each kind."""

from functools import cache

from eqlib.subgraph.polynomials.multigraph import Edge, Multigraph


def multigraphs(
    degree: int,
    red: int = 0,
    connected: bool = True,
    simple: bool = False,
    directed: bool = False,
) -> tuple[Multigraph, ...]:
    """Return the multigraphs with 1 to ``degree`` edges, one of each class of isomorphic ones.

    Their polynomials span all polynomials of that degree without constant term which are invariant
    (no red node) or equivariant (one or two) under permutations, the connected ones up to products.

    Args:
        degree: largest number of edges.
        red: number of red nodes. Two are told apart: the polynomials of H and of H with its red
            nodes exchanged are transposes of one another.
        connected: leave out those of several parts, whose polynomials are products.
        simple: leave out loops and parallel edges, which add nothing for adjacency matrices.
        directed: count the direction of edges, for matrices that are not symmetric.

    Returns:
        Canonical multigraphs, sorted by their number of edges and nodes. Black nodes without edges
        do not occur: each would be a factor n.

    Raises:
        ValueError: ``degree`` is negative or above 8, or ``red`` is not 0, 1 or 2.

    Note:
        Their number grows fast: of at most six edges there are 52, 172 and 634 connected simple
        ones with no, one and two red nodes.
    """
    if not 0 <= degree <= _HIGHEST:
        raise ValueError(f"degree is {degree}; expected 0 to {_HIGHEST}")
    if red not in (0, 1, 2):
        raise ValueError(f"red is {red}; expected 0, 1 or 2 red nodes")
    return tuple(
        multigraph
        for edges in range(1, degree + 1)
        for multigraph in _of_degree(edges, red, connected, simple, directed)
        if multigraph.is_connected or not connected
    )


_HIGHEST = 8


@cache
def _of_degree(
    degree: int, red: int, rooted: bool, simple: bool, directed: bool
) -> tuple[Multigraph, ...]:
    """Multigraphs of exactly one degree, made from those of one edge less.

    Args:
        degree: number of edges.
        red: number of red nodes.
        rooted: each part has a red node, or there is one part only; else any parts.
        simple: as above.
        directed: as above.
    """
    if degree == 0:
        return (Multigraph(red, (), tuple(range(red))),)
    smaller = _of_degree(degree - 1, red, rooted, simple, directed)
    found = {
        Multigraph(max([old.nodes - 1, *edge]) + 1, (*old.edges, edge), old.red).canonical(directed)
        for old in smaller
        for edge in _further_edges(old, rooted, simple, directed)
    }
    return tuple(sorted(found, key=lambda graph: (graph.nodes, graph.edges)))


def _further_edges(old: Multigraph, rooted: bool, simple: bool, directed: bool) -> list[Edge]:
    """The edges that may be added to a multigraph, among its nodes and up to two new ones."""
    new = old.nodes
    found = [(a, b) for b in range(new) for a in range(b + 1)] + [(a, new) for a in range(new)]
    if not rooted or not new:
        found += [(new, new), (new, new + 1)]
    if simple:
        present = {frozenset(edge) for edge in old.edges}
        found = [(a, b) for a, b in found if a != b and frozenset((a, b)) not in present]
    return found + [(b, a) for a, b in found if directed and a != b]
