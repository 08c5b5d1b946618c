"""Ragged batches, the split of EXP, and what is said where data are missing."""

import numpy as np
import pytest
import torch

from eqlib.models.graphs import DataOptions, Graphs, exp_classify, load
from eqlib.models.graphs.data.ragged import relabel, relabellings
from eqlib.usage import UsageError


def test_a_batch_holds_the_chosen_graphs_in_order(pairs):
    batch = pairs[torch.tensor([2, 1])]
    assert batch["y"].tolist() == [1, 0]
    assert batch["batch"].tolist() == [0] * 7 + [1] * 6
    assert batch["x"].shape == (13,)
    source, target = batch["edge_index"]
    assert torch.equal(batch["batch"][source], batch["batch"][target])
    assert torch.bincount(source, minlength=13).tolist() == [2] * 13


def test_an_empty_graph_keeps_its_row():
    none = np.zeros((2, 0), np.int64)
    graphs = Graphs.stack([(0, none), (2, np.array([[0, 1], [1, 0]])), (1, none)])
    batch = graphs[torch.tensor([0, 1, 2])]
    assert batch["batch"].tolist() == [1, 1, 2]
    assert batch["y"].shape == (3,)
    assert batch["edge_index"].tolist() == [[0, 1], [1, 0]]
    assert graphs[torch.tensor([], dtype=torch.int64)]["x"].shape == (0,)


def test_a_part_is_the_same_as_its_items(pairs):
    local = pairs.with_nodes(local=True, relabelled=relabellings(pairs, 3))
    part = local.part(2, 5)
    expected, found = local[torch.arange(2, 5)], part[torch.arange(3)]
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.unchecked
def test_parts_that_disagree_are_refused(pairs):
    parts = [pairs.x, pairs.edge_index, pairs.node_ptr, pairs.edge_ptr, pairs.y]
    for index, wrong, message in (
        (4, pairs.y[:-1], "y: got 7 labels"),
        (0, pairs.x[:-1], "node_ptr, edge_ptr: end at"),
        (1, pairs.edge_index + 1, "an edge leaves the nodes"),
    ):
        with pytest.raises(ValueError, match=message):
            Graphs(*parts[:index], wrong, *parts[index + 1 :])


def test_relabellings_keep_the_graph_and_depend_on_it_alone(pairs):
    targets = relabellings(pairs, 4)
    assert torch.equal(targets, relabellings(pairs, 4))
    batch = pairs.with_nodes(local=True, targets=targets)[torch.arange(8)]
    assert len(batch["targets"].unique(dim=0)) == 4
    for target in batch["targets"]:
        moved = relabel(batch, target)
        assert torch.equal(target.sort().values, torch.arange(len(target)))
        assert torch.equal(batch["batch"][target], batch["batch"])
        before = {(int(target[i]), int(target[j])) for i, j in batch["edge_index"].T}
        assert {(int(i), int(j)) for i, j in moved["edge_index"].T} == before


def test_exp_is_split_in_the_usual_way(exp):
    splits = exp_classify(exp)
    assert [len(split) for split in splits] == [800, 200, 200]
    everything = load("exp", exp)
    for split, start in zip(splits, (400, 0, 200), strict=True):
        expected = everything[torch.arange(start, start + 7)]
        found = split[torch.arange(7)]
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert splits.test[torch.arange(2)]["relabelled"].shape == (32, 14)
    assert set(splits.train[torch.arange(2)]) == {"x", "edge_index", "batch", "y", "classes"}


@pytest.mark.data
def test_exp_has_the_published_graphs(data):
    graphs = load("exp", data / "graphs")
    assert graphs.y.bincount().tolist() == [600, 600]
    assert len(graphs.x) == 53_336
    assert torch.equal(graphs.y[0::2] + graphs.y[1::2], torch.ones(600, dtype=torch.int64))
    nodes, edges = graphs.node_ptr.diff(), graphs.edge_ptr.diff()
    assert torch.equal(nodes[0::2], nodes[1::2])
    assert torch.equal(edges[0::2], edges[1::2])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("graph8c", "graph8c.g6; download .*gnn-matlang.* and put it there, or .*--data-dir"),
        ("sr25", "sr251256.g6; download"),
        ("exp", r"exp.npz; download EXP/raw/GRAPHSAT.pkl .*graphs.convert GRAPHSAT.pkl .*exp.npz"),
    ],
)
def test_a_missing_file_is_named_with_its_source_and_its_place(name, message, tmp_path):
    with pytest.raises(FileNotFoundError, match=message):
        load(name, tmp_path)


def test_data_without_a_folder_lie_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "eqlib" / "graphs" / "sr251256")):
        load("sr25")


@pytest.mark.parametrize("damage", ["array missing", "graph missing"])
def test_a_damaged_exp_is_refused(damage, exp):
    path = exp / "exp" / "exp.npz"
    content = dict(np.load(path))
    if damage == "array missing":
        del content["y"]
    else:
        content["y"] = content["y"][:-1]
    np.savez(path, **content)
    with pytest.raises(ValueError, match=r"y missing|1199 labels"):
        exp_classify(exp)


@pytest.mark.parametrize("kept", [0, 100, 1000, -1], ids="the first {} bytes".format)
def test_a_truncated_exp_is_named(kept, exp):
    path = exp / "exp" / "exp.npz"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UsageError, match=r"exp\.npz is damaged or of another format"):
        exp_classify(exp)


def test_a_damaged_array_of_exp_is_named(exp):
    path = exp / "exp" / "exp.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"exp\.npz is damaged .*CRC"):
        exp_classify(exp)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("graph8c", "python -m eqlib.models.graphs.separation --dataset graph8c"),
        ("exp_clasify", "did you mean 'exp_classify'"),
    ],
)
def test_a_data_set_that_is_not_for_training_is_refused(dataset, message):
    with pytest.raises(ValueError, match=message):
        DataOptions(dataset)
