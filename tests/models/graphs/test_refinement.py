"""The refinements that bound networks separate what these separate, and no relabelled copies."""

import itertools
import json

import networkx
import numpy as np
import pytest
import torch
from torch import nn

from eqlib.models.graphs.brec.three_wl import first_colours, separated
from eqlib.models.graphs.networks import MLP
from eqlib.models.graphs.refinement import MODELS, count_left, graph_colours, main
from eqlib.models.graphs.variants import VARIANTS
from tests.models.graphs.brec.test_three_wl import rook, shrikhande
from tests.models.graphs.test_separation import same_colours

models = pytest.mark.parametrize("model", MODELS)


def batch_of(graphs):
    """Graphs of networkx as a batch, with edges in both directions."""
    edges, sizes, first = [], [], 0
    for graph in graphs:
        plain = networkx.convert_node_labels_to_integers(graph)
        ends = torch.tensor(list(plain.edges), dtype=torch.int64).reshape(-1, 2).T + first
        edges += [ends, ends.flip(0)]
        sizes.append(len(plain))
        first += len(plain)
    x = torch.zeros(first, dtype=torch.int64)
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return {"x": x, "edge_index": torch.cat(edges, 1), "batch": batch}


def network(model, width=1, layers=2, types=1):
    return VARIANTS[model].make(3, width=width, layers=layers, node_types=types, outputs=4)


def colours(model, graphs):
    return graph_colours(network(model), batch_of(graphs), len(graphs))


def of_six():
    """All graphs of six nodes, one of each kind."""
    return [graph for graph in networkx.graph_atlas_g() if len(graph) == 6]


@models
def test_relabelled_graphs_are_of_one_colour(model, rng):
    graph = batch_of([networkx.karate_club_graph()])
    nodes = len(graph["x"])
    types = torch.randint(3, (nodes,), generator=rng)
    order = torch.randperm(nodes, generator=rng)
    edges = torch.cat([graph["edge_index"], order[graph["edge_index"]] + nodes], 1)
    batch = torch.arange(2).repeat_interleave(nodes)
    made = network(model, types=3)
    for second, same in ((types[order.argsort()], True), (types, False)):
        both = {"x": torch.cat([types, second]), "edge_index": edges, "batch": batch}
        first, other = graph_colours(made, both, 2)
        assert (first == other) == same


@models
def test_separates_what_networks_with_random_weights_separate(model):
    chosen = of_six()[30:110]
    found = colours(model, chosen)
    made = network(model, width=12, layers=4)
    if model == "gin":  # at 0, its value before training, a node looks as its neighbours do
        nn.init.uniform_(made.epsilon)
    given = batch_of(chosen)
    with torch.no_grad():
        outputs = made(given["x"], given["edge_index"], given["batch"], len(chosen))
    same = separate = 0
    for a, b in itertools.combinations(range(len(chosen)), 2):
        distance = float((outputs[a] - outputs[b]).abs().max() / outputs.abs().max())
        if found[a] == found[b]:
            assert distance < 1e-12
            same += 1
        else:
            assert distance > 1e-12
            separate += 1
    assert separate > 3000
    weak = model == "gin" or ("2hop" in model and "polynomials" not in model)
    assert (same > 0) == weak


def test_gin_is_bounded_by_1_wl():
    graphs = of_six()
    assert count_left(colours("gin", graphs), paired=False)[0] == same_colours(6) == 4


def test_ppgn_is_bounded_by_3_wl():
    graphs = [*of_six()[30:60], rook(), shrikhande()]
    found = colours("ppgn", graphs)
    matrices = [torch.tensor(networkx.to_numpy_array(graph, dtype=np.int64)) for graph in graphs]
    for a, b in itertools.combinations(range(len(graphs)), 2):
        if len(matrices[a]) == len(matrices[b]):
            both = torch.stack([matrices[a], matrices[b]])
            assert (found[a] != found[b]) == separated(first_colours(both, polynomials=False))


@pytest.mark.parametrize(
    ("model", "told_apart"),
    [
        ("gin", False),
        ("ppgn", False),
        ("spen", False),
        ("spen_rooted", False),
        ("spen_2hop_rooted", False),
        ("spen_polynomials", True),
        ("spen_rooted_polynomials", True),
    ],
)
def test_strongly_regular_graphs_need_polynomials(model, told_apart):
    first, second = colours(model, [rook(), shrikhande()])
    assert (first != second) == told_apart


def test_pairs_are_counted():
    found = torch.tensor([3, 3, 5, 7, 3, 5])
    assert count_left(found, paired=True) == (1, 3)
    assert count_left(found, paired=False) == (4, 15)


@pytest.mark.unchecked
def test_wrong_names_are_refused(capsys, tmp_path):
    assert main(["--dataset", "sr26"]) == 2
    assert "unknown dataset 'sr26'; did you mean 'sr25'" in capsys.readouterr().err
    assert main(["--model", "mlp"]) == 2
    assert "unknown model 'mlp'" in capsys.readouterr().err
    assert main(["--data-dir", str(tmp_path)]) == 2
    with pytest.raises(TypeError, match="network is of type MLP; expected GIN, PPGN or SPEN"):
        graph_colours(MLP(), batch_of([rook()]), 1)


@pytest.mark.data
def test_what_gin_and_ppgn_leave_of_sr25(data, tmp_path):
    out = tmp_path / "left.json"
    words = ["--dataset", "sr25", "--model", "gin", "ppgn", "--data-dir", str(data / "graphs")]
    assert main([*words, "--out", str(out)]) == 0
    assert json.loads(out.read_text()) == [{"name": "sr25", "pairs": 105, "gin": 105, "ppgn": 105}]


@pytest.mark.data
def test_what_spen_leaves_of_the_public_pairs(data, tmp_path):
    out = tmp_path / "left.json"
    words = ["--dataset", "sr25", "exp", "brec", "--model", "spen"]
    assert main([*words, "--data-dir", str(data / "graphs"), "--out", str(out)]) == 0
    left = {row["name"]: row["pairs"] - row["spen"] for row in json.loads(out.read_text())}
    brec = [60, 50, 0, 95, 0, 0, 0]
    assert list(left.values()) == [0, 0, *brec]
