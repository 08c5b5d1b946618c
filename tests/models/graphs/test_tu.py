"""The seven sets with folds: layouts, folds, and what is said of missing or damaged files."""

import os
import zipfile

import pytest
import torch

from eqlib.models.graphs import DataOptions, GraphClassification
from eqlib.models.graphs.data import (
    COLLECTIONS,
    fold_splits,
    load_collection,
    read_folds,
    read_public,
    read_tu,
)
from eqlib.models.graphs.data import collection as module
from eqlib.usage import UsageError
from tests.models.graphs.folds import public_files, random_graphs, write_public, write_text

TEST_SIZES = {
    "mutag": 18,
    "ptc": 34,
    "proteins": 111,
    "nci1": 411,
    "nci109": 412,
    "imdb_binary": 100,
    "imdb_multi": 150,
}


def assert_same_graphs(found, expected):
    assert len(found) == len(expected)
    for index in range(len(found)):
        a, b = (graphs[torch.tensor([index])] for graphs in (found, expected))
        assert a["x"].equal(b["x"])
        assert a["y"].equal(b["y"])
        assert set(zip(*a["edge_index"].tolist(), strict=True)) == set(
            zip(*b["edge_index"].tolist(), strict=True)
        )


def test_labels_and_types_are_numbered_over_the_whole_file(text):
    graphs, _, _, about = load_collection("mutag", text)
    assert graphs.y.bincount().tolist() == [22, 21]
    assert graphs.x.unique().tolist() == [0, 1, 2]
    assert about == "the given folds, 10fold_idx"


@pytest.mark.parametrize("layout", ["folder", "raw", "zip", "zip with a folder"])
def test_both_layouts_have_the_same_graphs(layout, text, tmp_path):
    expected = load_collection("mutag", text).graphs
    place, graphs = tmp_path / "public" / "tu", random_graphs(43)
    if layout == "folder":
        write_public(place / "MUTAG", "MUTAG", graphs)
    elif layout == "raw":
        write_public(place / "MUTAG" / "raw", "MUTAG", graphs)
    else:
        place.mkdir(parents=True)
        with zipfile.ZipFile(place / "MUTAG.zip", "w") as archive:
            for file, content in public_files("MUTAG", graphs).items():
                archive.writestr(f"MUTAG/{file}" if "folder" in layout else file, content)
    found = load_collection("mutag", tmp_path / "public")
    assert_same_graphs(found.graphs, expected)
    assert "stratified folds of our own" in found.about


def test_names_of_the_public_layout_are_known(tmp_path):
    for name, public in (("ptc", "PTC_MR"), ("imdb_binary", "IMDB-BINARY")):
        write_public(tmp_path / public, public, random_graphs(20))
        assert len(load_collection(name, tmp_path).graphs) == 20


def test_repeated_edges_count_once_and_missing_types_are_one(tmp_path):
    files = public_files("MUTAG", random_graphs(10))
    del files["MUTAG_node_labels.txt"]
    files["MUTAG_A.txt"] *= 2
    (tmp_path / "MUTAG").mkdir()
    for file, content in files.items():
        (tmp_path / "MUTAG" / file).write_text(content)
    graphs = read_public(tmp_path / "MUTAG", "MUTAG")
    pairs = graphs.edge_index.shape[1]
    assert pairs == sum(2 * graph.number_of_edges() for *_, graph in random_graphs(10))
    assert graphs.x.unique().tolist() == [0]


def test_folds_of_our_own_are_stratified_and_always_the_same(tmp_path):
    write_public(tmp_path / "MUTAG", "MUTAG", random_graphs(43))
    first = load_collection("mutag", tmp_path)
    module._read.cache_clear()
    again = load_collection("mutag", tmp_path)
    for a, b in zip(first.test, again.test, strict=True):
        assert a.equal(b)
    assert torch.cat(first.test).sort().values.equal(torch.arange(43))
    for train, test in zip(first.train, first.test, strict=True):
        assert torch.cat([train, test]).sort().values.equal(torch.arange(43))
        assert first.graphs.y[test].bincount().tolist() in ([2, 2], [3, 2], [2, 3])


def test_a_collection_is_read_once_and_again_where_its_files_change(text):
    first = load_collection("mutag", text)
    assert load_collection("mutag", text) is first
    path = text / "tu" / "MUTAG" / "MUTAG.txt"
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 10))
    assert load_collection("mutag", text) is not first


def test_degrees_stand_for_types_where_all_nodes_are_of_one(tmp_path):
    graphs = [(label, [0] * len(tags), graph) for label, tags, graph in random_graphs(20)]
    write_text(tmp_path / "IMDBBINARY", "IMDBBINARY", graphs)
    found = load_collection("imdb_binary", tmp_path).graphs
    degrees = torch.tensor([degree for *_, graph in graphs for _, degree in graph.degree])
    ranks = {degree: rank for rank, degree in enumerate(degrees.unique().tolist())}
    assert found.x.tolist() == [ranks[degree] for degree in degrees.tolist()]


@pytest.mark.parametrize("published", [False, True], ids=["nested", "published"])
@pytest.mark.parametrize("fold", [1, 10])
def test_splits_of_a_fold_are_disjoint(fold, published, text):
    collection = load_collection("mutag", text)
    train, valid, test = fold_splits(collection, fold, 0, published)
    rows = [set(split.rows.tolist()) for split in (train, valid, test)]
    assert not rows[0] & rows[2]
    assert len(train) == len(rows[0])
    assert rows[0] | rows[1] | rows[2] == set(range(43))
    if published:
        assert rows[1] == rows[2]
    else:
        assert not rows[0] & rows[1]
        assert not rows[1] & rows[2]
        labels = collection.graphs.y
        counts = labels[collection.train[fold - 1]].bincount()
        assert labels[valid.rows].bincount().tolist() == [round(c / 10) for c in counts.tolist()]


def test_held_out_graphs_depend_on_fold_and_seed_alone(text):
    collection = load_collection("mutag", text)
    held = fold_splits(collection, 3, 0).valid.rows
    assert held.equal(fold_splits(collection, 3, 0).valid.rows)
    assert not held.equal(fold_splits(collection, 3, 1).valid.rows)


def test_batches_of_a_split_have_neither_folds_nor_other_labels(text):
    collection = load_collection("mutag", text)
    test = fold_splits(collection, 2, 0).test
    batch = test[torch.tensor([1, 0])]
    assert set(batch) == {"x", "edge_index", "batch", "y"}
    rows = test.rows[[1, 0]]
    expected = collection.graphs[rows]
    assert all(batch[name].equal(expected[name]) for name in batch)
    assert rows.tolist() == [5, 4]


def test_a_missing_set_is_named_with_its_sources_and_places(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        load_collection("ptc", tmp_path)
    for part in ("PTC/PTC.txt", "PTC_MR.zip", "pytorch_DGCNN", "--data-dir", "--data.download"):
        assert part in str(raised.value)
    with pytest.raises(FileNotFoundError, match=r"ptc: there is no folder .*nowhere; .*--data-dir"):
        load_collection("ptc", tmp_path / "nowhere")


def test_nothing_is_downloaded_unless_that_is_asked_for(tmp_path, monkeypatch):
    asked = []

    def download(name, folder):
        asked.append(folder)
        write_public(folder / "MUTAG" / "raw", "MUTAG", random_graphs(20))

    monkeypatch.setattr(module, "_download", download)
    with pytest.raises(FileNotFoundError):
        load_collection("mutag", tmp_path)
    assert asked == []
    task = GraphClassification(DataOptions("mutag", download=True), tmp_path)
    assert len(task.load().train) == 16
    assert asked == [tmp_path / "tu"]


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("A", lambda t: t.replace(", ", " ; ", 1), "MUTAG_A.txt"),
        ("A", lambda t: t + "1, 39\n", "A.txt, line 89: an edge joins two graphs"),
        ("A", lambda t: t + "1, 999\n", "A.txt, line 89: expected nodes 1 to 40, got"),
        ("A", lambda t: t.partition("\n")[2], "A.txt, line 1: the edge back is missing"),
        ("A", lambda t: "", "MUTAG_A.txt is empty"),
        ("graph_indicator", lambda t: "\n", "MUTAG_graph_indicator.txt is empty"),
        ("graph_labels", lambda t: "\x93", "MUTAG_graph_labels.txt: could not convert"),
        ("A", lambda t: "1\n2\n", "two numbers in a line"),
        ("graph_labels", lambda t: t[:-2], "graph_labels.txt has 9 lines"),
        ("graph_indicator", lambda t: t[::-1], "line 12: expected graphs 1 to 10 in ascending"),
        ("node_labels", lambda t: t[:-2], "expected one for each of the 40 nodes"),
        ("graph_labels", None, "there is no MUTAG_graph_labels.txt"),
    ],
    ids=[
        *("no number", "across", "outside", "one way", "no edges", "no nodes", "no text"),
        *("one column", "labels", "order", "types", "missing"),
    ],
)
def test_damaged_public_files_are_named(file, change, message, tmp_path):
    write_public(tmp_path / "MUTAG", "MUTAG", random_graphs(10))
    path = tmp_path / "MUTAG" / f"MUTAG_{file}.txt"
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text()))
    with pytest.raises(UsageError, match=message):
        read_public(tmp_path / "MUTAG", "MUTAG")


def test_a_damaged_zip_file_is_named(tmp_path):
    (tmp_path / "MUTAG.zip").write_bytes(b"PK but no archive")
    with pytest.raises(ValueError, match=r"MUTAG\.zip is damaged .*download it again"):
        load_collection("mutag", tmp_path)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("test", None, "cannot read .*test_idx-3.txt"),
        ("test", "", "expected every graph once, and one at least"),
        ("test", "8\n9\n9\n", "expected every graph once"),
        ("test", "8\n43\n", "got graph 43, expected 0 to 42"),
        ("test", "8\n-1\n", "got graph -1"),
        ("test", "8 x\n", "expected one number"),
        ("test", b"\x93\xff", "test_idx-3.txt is damaged"),
        ("test", "0\n8\n", "graph 0 is for training and for testing"),
    ],
    ids=["missing", "empty", "twice", "outside", "negative", "no number", "binary", "overlap"],
)
def test_damaged_folds_are_named(part, change, message, text):
    path = text / "tu" / "MUTAG" / "10fold_idx" / f"{part}_idx-3.txt"
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change if isinstance(change, bytes) else change.encode())
    with pytest.raises(UsageError, match=message):
        load_collection("mutag", text)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "mutag", "fold": 11}, "fold: expected 1 to 10"),
        ({"dataset": "mutag", "folds": 0}, "folds: expected 2 to 10"),
        (
            {"dataset": "exp_classify", "folds": 10},
            "folds: is for sets with folds, and exp_cl",
        ),
        ({"dataset": "brec", "fold": 2}, "fold: is for sets with folds, and brec has none"),
        ({"dataset": "mutagg"}, "did you mean 'mutag'"),
    ],
    ids=str,
)
def test_folds_that_a_set_does_not_have_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        DataOptions(**options)


@pytest.mark.data
@pytest.mark.parametrize("name", COLLECTIONS)
def test_published_sets_have_the_published_folds(name, data):
    collection = load_collection(name, data / "graphs")
    count = len(collection.graphs)
    tested = torch.zeros(count, dtype=torch.int64)
    for fold in range(1, 11):
        train, valid, test = (set(s.rows.tolist()) for s in fold_splits(collection, fold, 0))
        assert len(test) == TEST_SIZES[name]
        assert not train & test
        assert not train & valid
        assert not valid & test
        assert train | valid | test == set(range(count))
        assert abs(len(valid) - (count - len(test)) / 10) <= 2
        tested[list(test)] += 1
    assert tested.max() == 1
    assert int(tested.sum()) == 10 * TEST_SIZES[name]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "graphs", "classes", "types", "nodes", "edges"),
    [
        ("mutag", 188, [63, 125], 7, 28, 7442),
        ("ptc", 344, [192, 152], 19, 109, 17_862),
        ("proteins", 1113, [663, 450], 3, 620, 162_088),
        ("nci1", 4110, [2053, 2057], 37, 111, 265_506),
        ("nci109", 4127, [2048, 2079], 38, 111, 265_208),
        ("imdb_binary", 1000, [500, 500], 65, 136, 193_062),
        ("imdb_multi", 1500, [500, 500, 500], 59, 89, 197_806),
    ],
    ids=str,
)
def test_published_sets_have_the_published_sizes(name, graphs, classes, types, nodes, edges, data):
    found = load_collection(name, data / "graphs").graphs
    assert len(found) == graphs
    assert found.y.bincount().tolist() == classes
    assert found.node_ptr.diff().max() == nodes
    assert found.edge_index.shape[1] == edges
    assert int(found.x.max()) + 1 == types


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "whole", "egos", "policy"),
    [
        ("mutag", 64_381, 36_553, "ego"),
        ("ptc", 315_512, 92_650, "ego"),
        ("imdb_binary", 492_081, 3_381_067, "whole"),
        ("imdb_multi", 362_562, 3_669_394, "whole"),
    ],
    ids=str,
)
def test_the_policy_of_fewer_pairs_is_chosen_for_a_set(name, whole, egos, policy, data, capsys):
    task = GraphClassification(DataOptions(name), data / "graphs")
    found = task.network_options({"policy": None, "hops": 1, "rooted": False})
    assert found["policy"] == policy
    assert f"sum m^2 = {egos:,}, sum n^2 = {whole:,}" in capsys.readouterr().err
    facts = task.facts(task.load())
    assert (facts["pairs_of_nodes"], facts["pairs_in_ego_nets"]) == (whole, egos)


@pytest.mark.data
def test_given_folds_are_read_as_they_are(data):
    folder = data / "graphs" / "tu" / "MUTAG"
    graphs = read_tu(folder / "MUTAG.txt")
    train, test = read_folds(folder, 1, len(graphs))
    assert (len(train) + len(test), len(test)) == (188, 18)
