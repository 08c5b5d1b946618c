"""The conversion of the public pickle of EXP: same graphs, and no program of the file is run."""

import os
import pickle
import subprocess
import sys
from argparse import Namespace as Storage
from types import SimpleNamespace as Data

import numpy as np
import pytest
import torch

from eqlib.models.graphs import convert
from eqlib.models.graphs.data.sets import read_exp


class Command:
    """What an attacker would write."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


NAMES = {
    b"ctypes\nSimpleNamespace\n": b"ctorch_geometric.data.data\nData\n",
    b"cargparse\nNamespace\n": b"ctorch_geometric.data.storage\nGlobalStorage\n",
}


@pytest.fixture
def save(tmp_path):
    """Write objects as if they were of PyG's classes."""

    def write(graphs, protocol=3):  # up to this one, names are lines of text
        content = pickle.dumps(graphs, protocol)
        for name, stands_for in NAMES.items():
            content = content.replace(name, stands_for)
        path = tmp_path / "GRAPHSAT.pkl"
        path.write_bytes(content)
        return path

    return write


def fields(label):
    return {
        "x": torch.tensor([[0], [1], [1]]),
        "edge_index": torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]),
        "y": torch.tensor([label]),
    }


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("layout", ["fields", "store", "arrays"])
def test_graphs_come_back_equal(layout, protocol, save, tmp_path):
    graphs = [Data(**fields(label)) for label in (1, 0)]
    if layout == "store":
        graphs = [Data(_store=Storage(_mapping=fields(label))) for label in (1, 0)]
    elif layout == "arrays":
        arrays = [{name: t.numpy() for name, t in fields(label).items()} for label in (1, 0)]
        graphs = [Data(**content) for content in arrays]
    out = tmp_path / "exp" / "exp.npz"
    assert convert.main([str(save(graphs, protocol)), str(out)]) == 0
    found = read_exp(out)
    assert found.y.tolist() == [1, 0]
    for index in range(2):
        batch = found[torch.tensor([index])]
        assert torch.equal(batch["x"], fields(1)["x"][:, 0])
        assert torch.equal(batch["edge_index"], fields(1)["edge_index"])


def test_the_command_warns_that_a_pickle_can_run_programs(save, tmp_path, capsys):
    convert.main([str(save([Data(**fields(1))])), str(tmp_path / "exp.npz")])
    printed = capsys.readouterr()
    assert "is a pickle, a format that can run programs" in printed.err
    assert "1 graphs, 3 nodes" in printed.out


def test_what_a_file_asks_to_run_is_refused(save, tmp_path, capsys):
    victim = tmp_path / "victim"
    path = save([Data(**fields(1), note=Command(victim))])
    assert convert.main([str(path), str(tmp_path / "exp.npz")]) == 1
    assert (
        "asks for posix.mkdir, which graphs do not need; it was not run" in capsys.readouterr().err
    )
    assert not victim.exists()
    assert not (tmp_path / "exp.npz").exists()
    # control: the ordinary reader runs it
    pickle.loads(pickle.dumps(Command(victim)))
    assert victim.exists()


@pytest.mark.parametrize("content", [[1, 2], [Data(x=torch.zeros(2, 1))]], ids=["numbers", "parts"])
def test_a_pickle_of_something_else_is_refused(content, save, tmp_path, capsys):
    assert convert.main([str(save(content)), str(tmp_path / "exp.npz")]) == 1
    assert "expected graphs with x, edge_index and y" in capsys.readouterr().err


def test_converted_files_are_read_without_pickle(tmp_path):
    path = tmp_path / "exp.npz"
    np.savez(path, x=np.array([object()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="missing"):
        read_exp(path)
    names = ("x", "edge_index", "node_ptr", "edge_ptr", "y")
    np.savez(path, **dict.fromkeys(names, np.array([object()], dtype=object)))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_exp(path)


def test_the_module_is_a_command():
    command = [sys.executable, "-m", "eqlib.models.graphs.convert", "--help"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "GRAPHSAT.pkl" in run.stdout
