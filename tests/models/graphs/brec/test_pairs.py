"""Readers of both forms of BREC, and relabellings."""

import networkx
import numpy as np
import pytest
import torch

from eqlib.models.graphs import encode_graph6
from eqlib.models.graphs.brec import CATEGORIES, PAIRS, read_brec
from eqlib.models.graphs.brec.pairs import PUBLIC, PublicCopies
from eqlib.usage import UsageError
from tests.models.graphs.brec.toy import EASY, HARD, easy_and_hard, edges_of


def graph_of(graphs, index):
    """One graph as networkx knows it."""
    batch = graphs[torch.tensor([index])]
    graph = networkx.Graph(batch["edge_index"].T.tolist())
    graph.add_nodes_from(range(len(batch["x"])))
    return graph


def test_copies_are_relabellings_of_both_graphs_in_turn():
    copies = easy_and_hard().copies(1, seed=3)
    assert (len(copies.pair), len(copies.alone)) == (64, 64)
    for index in range(8):
        assert networkx.is_isomorphic(graph_of(copies.pair, index), HARD[index % 2])
    kinds = {networkx.is_isomorphic(graph_of(copies.alone, each), HARD[0]) for each in range(64)}
    assert len(kinds) == 1
    orders = {
        tuple(copies.pair.edge_index[:, 12 * k : 12 * k + 12].flatten().tolist()) for k in range(64)
    }
    assert len(orders) > 50


def test_copies_are_a_function_of_pair_and_seed():
    first, again, other = (easy_and_hard().copies(0, seed) for seed in (1, 1, 2))
    assert torch.equal(first.pair.edge_index, again.pair.edge_index)
    assert torch.equal(first.alone.edge_index, again.alone.edge_index)
    assert not torch.equal(first.pair.edge_index, other.pair.edge_index)


@pytest.fixture
def folder(tmp_path):
    """The seven files of pairs in their several forms; all pairs are the hard one."""
    lines = [encode_graph6(*edges_of(graph)) for graph in HARD]
    (tmp_path / "brec").mkdir()
    for category in CATEGORIES:
        count = category.stop - category.start
        array = np.array(lines * count)
        if category.name == "basic":
            array = np.array([line.decode() for line in lines] * count)
        if category.name == "regular":
            array = array.reshape(-1, 2)
        np.save(tmp_path / "brec" / category.file, array)
    return tmp_path


def test_the_seven_files_are_read(folder):
    source = read_brec(folder)
    assert len(source.graphs) == 2 * PAIRS == 800
    for pair in (0, 60, 399):
        assert networkx.is_isomorphic(graph_of(source.graphs, 2 * pair), HARD[0])
        assert networkx.is_isomorphic(graph_of(source.graphs, 2 * pair + 1), HARD[1])


def test_categories_follow_one_another():
    assert [category.start for category in CATEGORIES[1:]] == [c.stop for c in CATEGORIES[:-1]]
    assert [category.stop - category.start for category in CATEGORIES] == [
        *(60, 50, 50, 100, 100, 20, 20)
    ]


def test_the_public_file_is_read(tmp_path):
    (tmp_path / "brec").mkdir()
    easy, hard = ([encode_graph6(*edges_of(g)) for g in pair] for pair in (EASY, HARD))
    lines = np.array([*easy * 32] * 399 + hard * 32 + [easy[0]] * 64 * 399 + [hard[1]] * 64)
    assert len(lines) == 51_200
    np.save(tmp_path / "brec" / PUBLIC, lines)
    source = read_brec(tmp_path)
    assert isinstance(source, PublicCopies)
    copies = source.copies(399, seed=0)
    assert (len(copies.pair), len(copies.alone)) == (64, 64)
    for index in (0, 1, 62, 63):
        assert networkx.is_isomorphic(graph_of(copies.pair, index), HARD[index % 2])
        assert networkx.is_isomorphic(graph_of(copies.alone, index), HARD[1])
    first = source.copies(0, seed=1)
    assert networkx.is_isomorphic(graph_of(first.pair, 1), EASY[1])


@pytest.mark.unchecked
def test_missing_and_damaged_files(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"download BREC_data_all.zip from https://github"):
        read_brec(tmp_path / "nowhere")
    path = folder / "brec" / "cfi.npy"
    np.save(path, np.array([b"A_"] * 3))
    with pytest.raises(ValueError, match=r"got 3 entries of dtype .S2, expected 200 graphs"):
        read_brec(folder)
    np.save(path, np.zeros(200))
    with pytest.raises(ValueError, match="dtype float64"):
        read_brec(folder)
    np.save(path, np.array([{}] * 200), allow_pickle=True)
    with pytest.raises(ValueError, match=r"cfi\.npy is damaged or of another format: Object"):
        read_brec(folder)


@pytest.mark.unchecked
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY"], ids=str)
def test_a_file_that_is_no_array_is_named(content, folder):
    path = folder / "brec" / "cfi.npy"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"cfi\.npy is damaged or of another format"):
        read_brec(folder)
    np.save(path, np.array(["no graph6 \x1f"] * 200))
    with pytest.raises(UsageError, match=r"cfi\.npy is damaged .*expected a graph6 line"):
        read_brec(folder)


def test_checksums_are_those_of_the_graphs(folder, tmp_path):
    first = read_brec(folder).checksum()
    assert read_brec(folder).checksum() == first != easy_and_hard().checksum()
    lines = np.array([b"A_"] * 4)
    assert PublicCopies(lines).checksum() != PublicCopies(lines[::2]).checksum()


@pytest.mark.data
def test_the_400_pairs(data):
    source = read_brec(data / "graphs")
    sizes, edges = source.graphs.node_ptr.diff(), source.graphs.edge_ptr.diff()
    assert torch.equal(sizes[0::2], sizes[1::2])
    assert torch.equal(edges[0::2], edges[1::2])
    assert (int(sizes.min()), int(sizes.max())) == (7, 198)
    degrees = torch.bincount(
        source.graphs[torch.arange(120, 320)]["edge_index"][0],
    )
    assert len(degrees) > 0
    strongly = source.graphs.part(220, 320)
    for index in range(0, 100, 25):
        assert networkx.is_strongly_regular(graph_of(strongly, index))
