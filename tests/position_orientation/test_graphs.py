"""Graphs of torch_geometric give the same as their tensors."""

import subprocess
import sys

import pytest
import torch

from eqlib.position_orientation import graph_inputs
from tests.position_orientation.nets import network

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")


def graphs(rng):
    from torch_geometric.data import Data

    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    return [
        Data(
            pos=torch.randn(nodes, 3, dtype=torch.float64, generator=rng),
            x=torch.randn(nodes, dtype=torch.float64, generator=rng),
            mass=torch.rand(nodes, 1, generator=rng),
            velocity=torch.randn(nodes, 3, dtype=torch.float64, generator=rng),
            edge_index=edges,
            edge_attr=torch.arange(4.0)[:, None],
        )
        for nodes in (3, 4)
    ]


def test_a_batch_gives_what_its_tensors_give(rng):
    from torch_geometric.data import Batch

    data = Batch.from_data_list(graphs(rng))
    net = network(edge_scalars=1)
    inputs = graph_inputs(data, ["x", "mass"], "velocity", "edge_attr")
    expected = net(
        points=data.pos,
        scalars=torch.stack([data.x, data.mass[:, 0].double()], -1),
        vectors=data.velocity[:, None],
        edge_index=data.edge_index,
        edge_scalars=data.edge_attr.double(),
        batch=data.batch,
        num_graphs=2,
    )
    torch.testing.assert_close(net(**inputs), expected, rtol=0, atol=0)


def test_a_batch_is_its_graphs_one_after_the_other(rng):
    from torch_geometric.data import Batch

    several = graphs(rng)
    net = network(scalars_in=1, pool="sum")
    together = net(**graph_inputs(Batch.from_data_list(several), "x", "velocity"))
    alone = [net(**graph_inputs(data, "x", "velocity")) for data in several]
    torch.testing.assert_close(together.scalars, torch.cat([out.scalars for out in alone]))
    torch.testing.assert_close(together.vectors, torch.cat([out.vectors for out in alone]))


def test_the_graph_is_left_as_it_is(rng):
    (data, _), (copy, _) = (graphs(torch.Generator().manual_seed(0)) for _ in range(2))
    network(scalars_in=1)(**graph_inputs(data, "x", "velocity"))
    assert data.keys() == copy.keys()
    assert all(torch.equal(data[name], copy[name]) for name in copy.keys())  # noqa: SIM118


def test_edges_are_searched_where_there_are_none(rng):
    data, _ = graphs(rng)
    data.edge_index = data.edge_attr = None
    assert "edge_index" not in graph_inputs(data, "x")


@pytest.mark.unchecked
def test_refusals(rng):
    data, _ = graphs(rng)
    with pytest.raises(TypeError, match="data: expected a Data or a Batch"):
        graph_inputs({"pos": data.pos})
    with pytest.raises(ValueError, match="charge: the graph has no such tensor; it has"):
        graph_inputs(data, "charge")
    with pytest.raises(ValueError, match=r"edge_attr: expected shape \(3,\) or \(3, s\)"):
        graph_inputs(data, "edge_attr")
    with pytest.raises(ValueError, match=r"mass: expected shape \(3, 3\) or \(3, v, 3\)"):
        graph_inputs(data, "x", "mass")


def test_nothing_imports_torch_geometric():
    code = "import sys, eqlib.position_orientation; assert 'torch_geometric' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
