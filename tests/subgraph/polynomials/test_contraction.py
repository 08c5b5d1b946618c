"""In which order black nodes are summed over, and at what cost."""

import itertools

import pytest

from eqlib.subgraph.polynomials import Multigraph, contraction_order, is_computable, multigraphs


def degrees_of(multigraph: Multigraph, order) -> list[int]:
    """Number of neighbours of each node when it is taken out, its neighbours being joined."""
    near = {node: set() for node in range(multigraph.nodes)}
    for a, b in multigraph.edges:
        if a != b:
            near[a].add(b)
            near[b].add(a)
    found = []
    for node in order:
        neighbours = near.pop(node)
        found.append(len(neighbours))
        for other in neighbours:
            near[other] |= neighbours - {other}
            near[other].discard(node)
    return found


def greedily_computable(multigraph: Multigraph) -> bool:
    """Take out any black node with at most two neighbours, as long as there is one."""
    order = []
    while len(order) < len(multigraph.black):
        ready = [
            node
            for node in multigraph.black
            if node not in order and degrees_of(multigraph, [*order, node])[-1] <= 2
        ]
        if not ready:
            return False
        order.append(ready[0])
    return True


@pytest.mark.parametrize("red", [0, 1, 2], ids=str)
def test_no_order_is_cheaper_than_the_one_that_is_found(red):
    for multigraph in multigraphs(5, red, simple=True):
        found = contraction_order(multigraph)
        assert list(found.degrees) == degrees_of(multigraph, found.order)
        orders = itertools.permutations(multigraph.black)
        best = min(sorted(degrees_of(multigraph, order), reverse=True) for order in orders)
        assert sorted(found.degrees, reverse=True) == best
        assert found.exponent == max([red, *(degree + 1 for degree in best)])


@pytest.mark.parametrize("red", [0, 1, 2], ids=str)
def test_any_order_of_easy_nodes_tells_what_is_computable(red):
    found = multigraphs(6, red, simple=True)
    assert [is_computable(each) for each in found] == [greedily_computable(each) for each in found]


@pytest.mark.parametrize(
    ("text", "exponent", "width"),
    [
        ("P3 with red ends", 3, 2),
        ("C6", 3, 2),
        ("S4 rooted", 2, 2),
        ("0-0; red 0", 1, 2),
        ("K4", 4, 3),
        ("K4 minus the red edge", 4, 3),
        ("K5 with a red edge", 5, 4),
        ("K5 rooted", 5, 4),
    ],
)
def test_costs_of_well_known_polynomials(text, exponent, width):
    found = contraction_order(Multigraph.parse(text))
    assert (found.exponent, found.width) == (exponent, width)


def test_parallel_edges_and_loops_cost_nothing():
    plain, doubled = Multigraph.parse("C4"), Multigraph.parse("0-1, 0-1, 1-2, 1-1, 2-3, 3-2, 3-0")
    assert contraction_order(plain).degrees == contraction_order(doubled).degrees
    assert is_computable(doubled)


@pytest.mark.unchecked
def test_too_many_black_nodes_are_refused():
    with pytest.raises(ValueError, match="got 20 black nodes; expected at most 16"):
        contraction_order(Multigraph.parse("P20"))
