"""Multigraphs: canonical forms, names, and how many of them there are."""

import itertools
import random

import networkx
import pytest

from eqlib.subgraph.polynomials import Multigraph, is_computable, multigraphs


def shuffled(multigraph: Multigraph, seed: int) -> Multigraph:
    """The same multigraph with other numbers, and edges turned round."""
    order = list(range(multigraph.nodes))
    random.Random(seed).shuffle(order)
    edges = [(order[b], order[a]) for a, b in multigraph.edges]
    return Multigraph(multigraph.nodes, tuple(edges), tuple(order[node] for node in multigraph.red))


@pytest.mark.parametrize("red", [0, 1, 2], ids=str)
def test_isomorphic_multigraphs_have_one_canonical_form(red):
    for multigraph in multigraphs(4, red):
        for seed in range(3):
            assert shuffled(multigraph, seed).canonical() == multigraph


def test_control_canonical_forms_of_different_multigraphs_differ():
    path, star = Multigraph.parse("P4"), Multigraph.parse("S3")
    assert path.canonical() != star.canonical()
    # two triangles and a circle of six: equal to colour refinement
    triangles = Multigraph(6, ((0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)))
    assert triangles.canonical() != Multigraph.parse("C6").canonical()


def test_direction_counts_where_it_is_asked_for():
    into, through = Multigraph(3, ((0, 1), (2, 1))), Multigraph(3, ((0, 1), (1, 2)))
    assert into.canonical() == through.canonical()
    assert into.canonical(directed=True) != through.canonical(directed=True)


@pytest.mark.parametrize(("degree", "count"), [(1, 2), (2, 7), (3, 23)], ids=str)
def test_enumeration_agrees_with_a_search_through_all_multisets_of_pairs(degree, count):
    nodes = 2 * degree
    pairs = itertools.combinations_with_replacement(range(nodes), 2)
    multisets = itertools.combinations_with_replacement(list(pairs), degree)
    seen, found = set(), 0
    for edges in multisets:
        if tuple(sorted(edges)) not in seen:
            found += 1
            for order in itertools.permutations(range(nodes)):
                moved = (tuple(sorted((order[a], order[b]))) for a, b in edges)
                seen.add(tuple(sorted(moved)))
    exactly = [each for each in multigraphs(degree, connected=False) if each.degree == degree]
    assert found == len(exactly) == count


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        # multigraphs with loops (OEIS A007717), connected (A007719)
        ({"connected": False}, [2, 7, 23, 79, 274]),
        ({}, [2, 4, 11, 30, 95]),
        # connected graphs by edges (A002905)
        ({"simple": True}, [1, 1, 3, 5, 12, 30]),
        # graphs by edges, without isolated nodes (A000664)
        ({"simple": True, "connected": False}, [1, 2, 5, 11, 26, 68]),
    ],
    ids=["all", "connected", "simple connected", "simple"],
)
def test_known_numbers_of_multigraphs(options, counts):
    found = multigraphs(len(counts), **options)
    degrees = [each.degree for each in found]
    assert [degrees.count(degree + 1) for degree in range(len(counts))] == counts
    assert len({each.canonical() for each in found}) == len(found)


def test_of_52_connected_graphs_with_up_to_six_edges_only_k4_is_not_computable():
    found = multigraphs(6, simple=True)
    assert len(found) == 52
    atlas = [graph for graph in networkx.graph_atlas_g() if graph.number_of_edges() in range(1, 7)]
    trees = list(networkx.nonisomorphic_trees(7))  # all have six edges, and the atlas has them too
    connected = [graph for graph in atlas if networkx.is_connected(graph)]
    assert len(connected) == 52
    assert len(trees) == 11
    assert [str(each) for each in found if not is_computable(each)] == ["K4"]
    rooted = [str(each) for each in multigraphs(6, 1, simple=True) if not is_computable(each)]
    assert rooted == ["K4 rooted"]
    pairs = [str(each) for each in multigraphs(6, 2, simple=True) if not is_computable(each)]
    assert pairs[:2] == ["K4 minus the red edge", "K4 with a red edge"]


@pytest.mark.parametrize("red", [1, 2], ids=str)
def test_red_nodes_multiply_the_number_by_the_orbits_of_their_places(red):
    """Independent count: place red nodes into graphs, and let networkx compare."""
    kinds = []
    for graph in networkx.graph_atlas_g():
        if graph.number_of_edges() not in range(1, 5) or not networkx.is_connected(graph):
            continue
        for places in itertools.permutations(graph, red):
            coloured = graph.copy()
            for node in graph:
                coloured.nodes[node]["red"] = places.index(node) if node in places else -1
            kinds.append(coloured)
    distinct = []
    match = networkx.isomorphism.categorical_node_match("red", -1)
    for graph in kinds:
        if not any(networkx.is_isomorphic(graph, other, node_match=match) for other in distinct):
            distinct.append(graph)
    assert len(multigraphs(4, red, simple=True)) == len(distinct)


@pytest.mark.parametrize(
    "text",
    [
        "K4",
        "K4 rooted",
        "K4 with a red edge",
        "K4 minus the red edge",
        "K2 with a red edge",
        "C5",
        "C5 rooted",
        "P4 with red ends",
        "P4 rooted",
        "S3",
        "S3 rooted",
        "0-1, 1-1; red 0",
        "0-1, 0-1, 1-2",
        "0-1, 1-2; red 1, 3",
    ],
)
def test_text_that_is_printed_is_read_back(text):
    multigraph = Multigraph.parse(text)
    assert str(multigraph) == text
    assert Multigraph.parse(multigraph.listing) == multigraph


def test_names_mean_what_they_say():
    assert Multigraph.parse("C3").canonical() == Multigraph.parse("K3").canonical()
    assert Multigraph.parse("P3 with red ends").edges == ((0, 1), (1, 2))
    assert Multigraph.parse("P3 with red ends").red == (0, 2)
    minus = Multigraph.parse("K4 minus the red edge")
    assert (minus.degree, minus.black, minus.is_simple, minus.is_connected) == (
        5,
        (2, 3),
        True,
        True,
    )
    assert Multigraph.parse("S3 rooted").red == (0,)
    loose = Multigraph.parse("0-1, 2-2")
    assert (loose.is_simple, loose.is_connected, loose.nodes) == (False, False, 3)
    assert Multigraph(0, ()).is_connected
    assert not Multigraph(2, ((0, 1), (1, 0))).is_simple


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Multigraph(2, ((0, 2),)), r"name the nodes \[0, 2\]; expected 0 to 1"),
        (lambda: Multigraph(2, ((0, 1),), (1, 1)), "at most two nodes, none of them twice"),
        (lambda: Multigraph(4, (), (0, 1, 2)), "at most two nodes"),
        (lambda: Multigraph.parse("K4 minus an edge"), "expected a name such as 'K4 minus the red"),
        (lambda: Multigraph.parse(""), "expected a name"),
        (lambda: Multigraph.parse("C2"), "expected a name"),
        (lambda: Multigraph.parse("K4 with red ends"), "expected a name"),
        (lambda: multigraphs(9), "degree is 9; expected 0 to 8"),
        (lambda: multigraphs(2, 3), "red is 3; expected 0, 1 or 2"),
    ],
    ids=["edge", "twice", "three", "name", "nothing", "circle", "ends", "degree", "red"],
)
def test_bad_multigraphs_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
