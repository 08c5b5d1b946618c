"""Readers of graph6 and of the TU text format."""

import networkx
import numpy as np
import pytest
import torch

from eqlib.models.graphs import decode_graph6, encode_graph6, load, read_graph6, read_tu
from eqlib.usage import UsageError


@pytest.mark.parametrize("nodes", [0, 1, 2, 5, 8, 62, 63, 64, 130], ids=lambda n: f"n={n}")
def test_graph6_agrees_with_networkx_in_both_directions(nodes, rng):
    upper = torch.rand(nodes, nodes, generator=rng).lt(0.3).triu(1).numpy()
    graph = networkx.from_numpy_array(upper | upper.T)
    line = networkx.to_graph6_bytes(graph, header=False).strip()
    size, edge_index = decode_graph6(line)
    adjacency = np.zeros((nodes, nodes), bool)
    adjacency[tuple(edge_index)] = True
    assert size == nodes
    assert np.array_equal(adjacency, upper | upper.T)
    assert encode_graph6(nodes, edge_index) == line
    assert encode_graph6(nodes, np.stack(np.nonzero(upper))) == line


def test_a_file_of_graph6_lines_may_have_a_header(tmp_path):
    path = tmp_path / "two.g6"
    path.write_bytes(b">>graph6<<Bw\nA?\n")
    triangle, empty = read_graph6(path)
    assert triangle[0] == 3
    assert triangle[1].tolist() == [[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]]
    assert (empty[0], empty[1].shape) == (2, (2, 0))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"B", "expected 1 characters for the pairs of 3 nodes, got 0"),
        (b"Bww", "expected 1 characters for the pairs of 3 nodes, got 2"),
        (b"B\x1f", "characters"),
        (b"", "characters"),
    ],
    ids=["short", "long", "foreign", "empty"],
)
@pytest.mark.unchecked
def test_a_damaged_line_is_named(line, message, tmp_path):
    path = tmp_path / "damaged.g6"
    path.write_bytes(b"Bw\n" + line + b"\n")
    with pytest.raises(ValueError, match=rf"damaged.g6, line 2: .*{message}"):
        read_graph6(path)


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [(2, [[0], [2]], "0 ... 1"), (2, [[1], [1]], "self loops"), (300_000, [[0], [1]], "258047")],
    ids=["outside", "loop", "large"],
)
@pytest.mark.unchecked
def test_graphs_that_graph6_cannot_hold_are_refused(nodes, edges, message):
    with pytest.raises(ValueError, match=message):
        encode_graph6(nodes, np.array(edges))


TU = "2\n3 2\n4 2 1 2\n7 1 0\n4 1 0\n1 0\n9 0\n"


def test_text_of_tu_sets_is_read_with_labels_and_tags_numbered_anew(tmp_path):
    path = tmp_path / "TINY.txt"
    path.write_text(TU)
    graphs = read_tu(path)
    assert graphs.y.tolist() == [1, 0]
    assert graphs.x.tolist() == [0, 1, 0, 2]
    assert graphs.node_ptr.tolist() == [0, 3, 4]
    assert graphs.edge_ptr.tolist() == [0, 4, 4]
    assert graphs.edge_index.tolist() == [[0, 0, 1, 2], [1, 2, 0, 0]]


def test_what_follows_the_neighbours_and_blank_lines_at_the_end_are_passed_over(tmp_path):
    path = tmp_path / "TINY.txt"
    path.write_text(TU.replace("4 2 1 2", "4 2 1 2 77 78") + "\n \n")
    assert read_tu(path).edge_index.tolist() == [[0, 0, 1, 2], [1, 2, 0, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TU[:-4], "line 6: the file ends before"),
        (TU.replace("4 2 1 2", "4 2 1"), "line 3: expected 2 neighbours, got 1"),
        (TU.replace("4 2 1 2", "4 2 1 x"), "line 3: .*'x'"),
        (TU.replace("4 2 1 2", "4 2 1 3"), "line 3: expected neighbours from 0 to 2, got 3"),
        (TU.replace("4 1 0", "4 1 -1"), "line 5: expected neighbours from 0 to 2, got -1"),
        (TU.replace("4 1 0", "4 -1 0"), "line 5: expected -1 neighbours, got 1"),
        (TU.replace("4 1 0", "4 0"), "line 3: node 0 has neighbour 2, whose line 5 lacks 0"),
        (TU.replace("7 1 0", "7 1 2"), "line 3: node 0 has neighbour 1, whose line 4 lacks 0"),
        (TU.replace("1 0\n9 0", "-1 0\n9 0"), "line 6: expected the number of nodes .*, got -1"),
        (TU + "1 0\n9 0\n", "line 8: expected the end of the file after its last graph"),
        ("", "line 0: the file ends before"),
    ],
    ids=[
        *("truncated", "neighbour missing", "not a number", "beyond", "negative", "degree"),
        *("one way", "another way", "size", "too long", "empty"),
    ],
)
def test_a_damaged_tu_file_is_named(text, message, tmp_path):
    path = tmp_path / "TINY.txt"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"TINY.txt, {message}"):
        read_tu(path)


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "TINY.txt"
    path.write_bytes(b"2\n\x93\xff\x00")
    with pytest.raises(UsageError, match=r"TINY.txt is damaged .*can't decode byte 0x93"):
        read_tu(path)
    with pytest.raises(UsageError, match=r"cannot read .*missing.txt: No such file"):
        read_tu(tmp_path / "missing.txt")


@pytest.mark.data
def test_tu_sets_have_the_published_sizes(data):
    folder = data / "graphs" / "tu" / "MUTAG"
    graphs = read_tu(folder / "MUTAG.txt")
    assert len(graphs) == 188
    assert graphs.y.bincount().tolist() == [63, 125]
    assert int(graphs.x.max()) + 1 == 7
    assert graphs.edge_index.shape[1] == 7442


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "graphs", "nodes"), [("graph8c", 11_117, 8), ("sr25", 15, 25)], ids=str
)
def test_graph6_files_have_the_published_graphs(name, graphs, nodes, data):
    found = load(name, data / "graphs")
    assert len(found) == graphs
    assert found.node_ptr.diff().unique().tolist() == [nodes]
    if name == "sr25":  # (25, 12, 5, 6)
        assert found.edge_index.shape[1] == 15 * 25 * 12
