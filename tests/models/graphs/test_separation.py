"""Counts of pairs that untrained networks do not separate, and what is said beside them."""

import json

import networkx
import numpy as np
import pytest
import torch

from eqlib.models.graphs import FAGIN, Graphs, encode_graph6
from eqlib.models.graphs.networks.base import RaggedGraphs
from eqlib.models.graphs.separation import count_pairs, embed, main, merge_equal_copies, split
from eqlib.models.graphs.variants import VARIANTS


def atlas(nodes: int) -> Graphs:
    """All graphs with so many nodes, one of each kind."""
    graphs = [graph for graph in networkx.graph_atlas_g() if len(graph) == nodes]
    edges = [np.array(graph.to_directed().edges, np.int64).reshape(-1, 2).T for graph in graphs]
    return Graphs.stack((nodes, edge_index) for edge_index in edges)


def same_colours(nodes: int) -> int:
    """Pairs that colour refinement does not separate, by an independent implementation."""
    hashes = []
    for graph in networkx.graph_atlas_g():
        if len(graph) == nodes:
            networkx.set_node_attributes(graph, "0", "colour")
            hashes.append(
                networkx.weisfeiler_lehman_graph_hash(graph, node_attr="colour", iterations=nodes)
            )
    counts = np.unique(hashes, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


def test_gin_merges_what_colour_refinement_merges_and_frames_merge_nothing():
    graphs = atlas(6)
    assert len(graphs) == 156
    gin = count_pairs("atlas", graphs, "gin", networks=6)
    assert gin.not_separated >= same_colours(6) == 4
    assert gin.not_separated < 20
    assert gin.agreement == 1
    framed = count_pairs("atlas", graphs, "fa_mlp", networks=3)
    assert (framed.not_separated, framed.agreement, framed.within_relabelling) == (0, 1, 0)
    assert framed.frames.startswith("exact")


def test_the_prism_and_the_utility_graph_differ_once_a_node_has_a_weight_of_its_own():
    """With epsilon 0 they look the same: their matrices A + I differ by an automorphism."""
    graphs = [networkx.circular_ladder_graph(3), networkx.complete_bipartite_graph(3, 3)]
    edges = [np.array(graph.to_directed().edges, np.int64).T for graph in graphs]
    both = Graphs.stack((6, edge_index) for edge_index in edges)
    assert count_pairs("cubic", both, "gin", networks=2).not_separated == 1
    assert count_pairs("cubic", both, "fa_gin", networks=2).not_separated == 0
    batch = both[torch.arange(2)]
    ragged = RaggedGraphs(batch["x"], batch["edge_index"], batch["batch"], 2)
    network = FAGIN(width=8, layers=3, nodes=6, node_types=1).double().eval()
    network.limit = 720
    first, second = embed([network], ragged)[0][0]
    assert (first - second).abs().max() < 1e-12


def test_control_a_network_that_depends_on_labels_separates_but_does_not_agree():
    """Random identifiers tell everything apart, copies of one graph too."""
    graphs = atlas(5)
    count = count_pairs("atlas", graphs, "mlp", networks=3)
    assert count.not_separated == 0
    assert count.agreement < 0.5
    assert count.within_relabelling > 0.5 * count.pairs


def test_pairs_of_exp_are_neighbours(pairs):
    assert (
        count_pairs("exp", pairs, "gin", networks=2).not_separated
        == count_pairs("exp", pairs, "gin", networks=2).pairs
        == 4
    )
    assert count_pairs("exp", pairs.part(0, 4), "fa_gin", networks=2).not_separated == 0


def test_merged_copies_have_the_same_average():
    graphs = atlas(5)
    batch = graphs[torch.arange(len(graphs))]
    ragged = RaggedGraphs(batch["x"], batch["edge_index"], batch["batch"], len(graphs))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = FAGIN(width=8, layers=2, nodes=5, node_types=1).double().eval()
    network.limit = 120
    with torch.no_grad():
        copies = network.copies(ragged)
        merged = merge_equal_copies(copies)
        assert torch.allclose(network.average(merged), network.average(copies), atol=1e-12)
    assert len(merged.graph) < 0.3 * len(copies.graph)
    # the complete graph and the empty one look the same in all 120 orders
    assert torch.bincount(merged.graph)[[0, -1]].tolist() == [1, 1]
    assert merged.weights.sum().item() == pytest.approx(len(graphs))


@pytest.mark.unchecked
def test_copies_of_large_graphs_are_not_merged(pairs):
    graphs = Graphs.stack([(9, np.array([[0, 8], [8, 0]]))])
    batch = graphs[torch.tensor([0])]
    ragged = RaggedGraphs(batch["x"], batch["edge_index"], batch["batch"], 1)
    copies = FAGIN(samples=1).eval().copies(ragged)
    with pytest.raises(ValueError, match="at most eight nodes"):
        merge_equal_copies(copies)


def test_the_command_prints_a_table_and_writes_json(tmp_path, capsys):
    triangle = encode_graph6(3, np.array([[0, 1, 2], [1, 2, 0]]))
    path = encode_graph6(3, np.array([[0, 1], [1, 2]]))
    (tmp_path / "graph8c.g6").write_bytes(triangle + b"\n" + path + b"\n")
    out = tmp_path / "counts.json"
    options = ["--dataset", "graph8c", "--model", "gin", "fa_gin", "--networks", "2"]
    folder = ["--data-dir", str(tmp_path)]
    assert main([*options, *folder, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "relative threshold 1e-06, float64; 32 relabellings" in printed
    assert main([*options[:3], "gin", *options[5:], *folder, "--out", str(out)]) == 0
    rows = json.loads(out.read_text())
    assert [(row["model"], row["not_separated"], row["agreement"]) for row in rows] == [
        ("fa_gin", 0, 1.0),
        ("gin", 0, 1.0),  # counted anew, in the place of its older count
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "graph8"], "did you mean 'graph8c'"),
        (["--dataset", "sr25", "--model", "gan"], "unknown model 'gan'"),
        (["--dataset", "sr25", "--data-dir", "nowhere"], "there is no file nowhere/sr251256.g6"),
        (["--dataset", "sr25", "--networks", "many"], "networks: expected an integer"),
    ],
    ids=["dataset", "model", "file", "number"],
)
def test_wrong_words_are_explained(options, message, capsys):
    assert main(options) > 0
    assert message in capsys.readouterr().err


@pytest.mark.data
def test_strongly_regular_graphs_look_the_same_to_gin(data):
    from eqlib.models.graphs import load

    graphs = load("sr25", data / "graphs")
    count = count_pairs("sr25", graphs, "gin", networks=2)
    assert (count.pairs, count.not_separated, count.agreement) == (105, 105, 1)


def test_embeddings_of_plain_networks_name_no_frames(pairs):
    from eqlib.models.graphs import GIN

    batch = pairs[torch.arange(2)]
    ragged = RaggedGraphs(batch["x"], batch["edge_index"], batch["batch"], 2)
    found, about = embed([GIN(outputs=3).eval()] * 2, ragged)
    assert (found.shape, about) == ((2, 2, 3), "none")


@pytest.mark.parametrize("model", ["ppgn", "spen", "spen_rooted", "spen_2hop"])
def test_second_order_networks_separate_what_colour_refinement_does_not(model, pairs):
    count = count_pairs("exp", pairs, model, networks=2)
    assert (count.pairs, count.not_separated, count.agreement) == (4, 0, 1)
    assert count.within_relabelling == 0


def test_batches_are_split_between_graphs(pairs):
    batch = pairs[torch.arange(8)]
    whole = RaggedGraphs(batch["x"], batch["edge_index"], batch["batch"], 8)
    network = VARIANTS["gin"].make(0, width=8, layers=2).eval()
    expected = network.predict(whole, None)
    for pairs_at_once, number in ((1, 8), (100, 5), (10_000, 1)):
        parts = split(whole, pairs_at_once)
        assert len(parts) == number
        found = torch.cat([network.predict(part, None) for part in parts])
        torch.testing.assert_close(found, expected)
    empty = RaggedGraphs(batch["x"][:0], batch["edge_index"][:, :0], batch["batch"][:0], 0)
    assert [part.num_graphs for part in split(empty)] == [0]
