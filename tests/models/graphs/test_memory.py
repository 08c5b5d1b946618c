"""Memory of training steps: what is counted, and the command."""

import json

import pytest
import torch

from eqlib.models.graphs.data.ragged import Graphs
from eqlib.models.graphs.memory import main, memory_of, memory_table, saved_bytes
from eqlib.models.graphs.networks import GIN, SPEN
from tests.models.graphs.conftest import circles


@pytest.fixture
def rings():
    """Circles of 30 nodes, whose ego nets have three."""
    return Graphs.stack(circles(30) for _ in range(4))


def test_ego_nets_keep_less_than_whole_graphs(rings):
    found = memory_of(rings)
    assert found["pairs"] == 4 * 30 * 9
    assert found["stored_pairs"] == 4 * 30 * 5
    assert found["pairs_whole"] == 4 * 900
    assert found["spen"]["epoch"] < found["spen_whole"]["epoch"] / 2
    assert found["spen"]["epoch"] == found["spen"]["largest"]
    assert "rings" in memory_table({"rings": found})


def test_bytes_grow_with_the_batch_and_the_width(rings):
    one, four = rings[torch.arange(1)], rings[torch.arange(4)]
    sizes = {"node_types": 1, "outputs": 2}
    network = SPEN(8, 3, hidden=8, **sizes)
    assert 3 < saved_bytes(network, four) / saved_bytes(network, one) < 4.5
    wide = SPEN(16, 3, hidden=8, **sizes)
    assert 1.5 < saved_bytes(wide, four) / saved_bytes(network, four) < 2.5
    assert 0 < saved_bytes(GIN(8, 3, **sizes), four) < saved_bytes(network, four)


def test_weights_do_not_count(rings):
    network = GIN(64, 2, node_types=1)
    nothing = rings[torch.zeros(0, dtype=torch.int64)]
    assert saved_bytes(network, nothing) < 1000 < sum(part.nbytes for part in network.parameters())


@pytest.mark.unchecked
def test_the_command_names_what_is_wrong(tmp_path, capsys):
    assert main(["--dataset", "mutagen", "--data-dir", str(tmp_path)]) == 2
    assert "did you mean 'mutag'" in capsys.readouterr().err
    assert main(["--dataset", "mutag", "--data-dir", str(tmp_path)]) == 2


@pytest.mark.data
def test_the_command_writes_figures_of_real_graphs(data, tmp_path, capsys):
    out = tmp_path / "memory.json"
    given = ["--dataset", "mutag", "--data-dir", str(data / "graphs"), "--out", str(out)]
    assert main(given) == 0
    figures = json.loads(out.read_text())["mutag"]
    assert (figures["pairs"], figures["pairs_whole"]) == (36_553, 64_381)
    assert "| mutag" in capsys.readouterr().out
