"""Real graphs: what polynomials separate among strongly regular ones, and relabelled molecules."""

import networkx
import pytest
import torch

from eqlib.subgraph import ego_plan
from eqlib.subgraph.polynomials import evaluate, is_computable, multigraphs, polynomial_features

pytestmark = pytest.mark.data


def read(path):
    """Adjacency matrices of a file of graph6 lines, by networkx."""
    lines = path.read_bytes().split()
    graphs = [networkx.from_graph6_bytes(line) for line in lines]
    return torch.stack([torch.from_numpy(networkx.to_numpy_array(g)) for g in graphs]).long()


def unseparated(values) -> int:
    """Pairs of graphs that have the same multiset of values."""
    _, counts = values.reshape(len(values), -1).sort(1).values.unique(dim=0, return_counts=True)
    return int((counts * (counts - 1) // 2).sum())


def test_what_separates_the_fifteen_strongly_regular_graphs(data):
    graphs = read(data / "graphs" / "sr251256.g6")
    assert graphs.shape == (15, 25, 25)
    for red in (0, 1, 2):
        for multigraph in multigraphs(5, red, simple=True):
            if is_computable(multigraph):
                assert unseparated(evaluate(multigraph, graphs)) == 105, str(multigraph)
    assert unseparated(evaluate("K4", graphs)) == 11
    assert unseparated(evaluate("K4 rooted", graphs)) == 7
    pairs = evaluate("K4 minus the red edge", graphs)
    assert unseparated(pairs) == 6
    # three matrix products of what is seen at pairs separate all
    stacked = torch.stack([graphs, pairs, torch.eye(25).long().expand_as(graphs)], 1)
    colours = stacked.flatten(2).mT.reshape(15, 625, 3)
    for _ in range(3):
        _, names = colours.reshape(-1, colours.shape[-1]).unique(dim=0, return_inverse=True)
        kinds = names.reshape(15, 25, 25)
        weights = (kinds * 2_654_435_761 % 1_000_003).double()
        products = torch.stack([weights @ weights, weights @ weights.square()], -1)
        colours = torch.cat([kinds[..., None].double(), products], -1).reshape(15, 625, -1)
    assert unseparated(names) == 0


def test_pairs_of_exp_have_no_triangles_as_many_squares_and_other_pentagons(data):
    from eqlib.models.graphs import load

    graphs = load("exp", data / "graphs")
    batch = graphs[torch.arange(len(graphs))]
    counts = polynomial_features(
        batch["edge_index"],
        batch["batch"],
        order="graph",
        polynomials=["K3", "C4", "C5"],
        normalise=None,
    )
    triangles, squares, pentagons = counts.reshape(600, 2, 3).unbind(2)
    assert (triangles == 0).all()
    # walks of four steps that return: on equal degrees, the rest are circles of four nodes
    assert (squares[:, 0] == squares[:, 1]).all()
    assert (pentagons[:, 0] != pentagons[:, 1]).all()


@pytest.mark.parametrize("name", ["MUTAG", "PROTEINS", "IMDBBINARY"])
def test_features_of_real_graphs_move_with_their_nodes(name, data, rng):
    from eqlib.models.graphs import read_tu

    graphs = read_tu(data / "graphs" / "tu" / name / f"{name}.txt")
    batch = graphs[torch.arange(12)]
    edges, owner = batch["edge_index"], batch["batch"]
    noise = torch.rand(len(owner), generator=rng)
    place = torch.empty_like(owner)
    place[(owner + noise.double()).argsort()] = torch.arange(len(owner))

    def dense(edge_index):
        plan = ego_plan(edge_index, owner, when_dearer="ignore")
        values = polynomial_features(edge_index, owner, plan=plan)
        table = values.new_zeros(len(owner), len(owner))
        table[plan.pair_index[0], plan.pair_index[1]] = values[:, 0]
        return table

    found, moved = dense(edges), dense(place[edges])
    assert (moved[place][:, place] - found).abs().max() < 1e-12
    nodes, again = (
        polynomial_features(each, owner, order="node") for each in (edges, place[edges])
    )
    assert (again[place] - nodes).abs().max() < 1e-12
    if name != "MUTAG":  # molecules have no four atoms that are all joined
        assert nodes.max() > 0
        assert (again - nodes).abs().max() > 1e-2
