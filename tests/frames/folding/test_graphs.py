"""Graphs of torch_geometric, in and out."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from eqlib.frames import FrameAverage
from eqlib.geometry import complete_graph, radius_graph, segment_sum
from eqlib.symmetry import (
    SO,
    BatchIndex,
    E,
    EdgeIndex,
    NodeOrder,
    Permutations,
    Point,
    Scalar,
    Signature,
    Vector,
    assert_equivariant,
    equivariance_error,
)
from tests.frames.clouds import mlp, separated

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # of PyG

MODES = ["full", "minimal", "weighted"]
SIGNATURE = Signature(
    E(3) * Permutations(),
    {
        "x": Scalar() * NodeOrder(-2),
        "pos": Point() * NodeOrder(-2),
        "edge_index": EdgeIndex(),
        "edge_attr": Vector(),
    },
    {"energy": Scalar(), "moved": Point() * NodeOrder(-2), "edges": Vector()},
)
LEVELS = {"energy": "graph", "edges": "edge", "x": "node"}


class Messages(nn.Module):
    """A network on a graph of PyG, without symmetry."""

    def __init__(self):
        super().__init__()
        self.message, self.update = mlp(2 + 3 + 3, 8), mlp(8, 7)
        self.seen = []

    def forward(self, data, scale=1.0):
        self.seen.append(data)
        source, target = data.edge_index
        sent = torch.cat([data.x[source], data.pos[source], data.edge_attr], dim=-1)
        features = self.update(segment_sum(self.message(sent), target, data.num_nodes))
        energy, moved, sides = features.split([1, 3, 3], dim=-1)
        return {
            "energy": scale * segment_sum(energy[:, 0], data.batch, data.num_graphs),
            "moved": moved,
            "edges": sides[source] * data.edge_attr,
        }


def molecule(rng, nodes):
    from torch_geometric.data import Data

    edges = complete_graph(torch.zeros(nodes, dtype=torch.int64))
    return Data(
        x=torch.rand(nodes, 2, dtype=torch.float64, generator=rng),
        pos=separated(rng, nodes),
        edge_index=edges,
        edge_attr=torch.randn(edges.shape[1], 3, dtype=torch.float64, generator=rng),
        y=torch.zeros(1),
        name="molecule",
    )


@pytest.mark.parametrize("mode", MODES)
def test_batches_equal_their_graphs_one_by_one(mode, rng):
    from torch_geometric.data import Batch

    molecules = [molecule(rng, nodes) for nodes in (5, 7, 4)]
    batch = Batch.from_data_list(molecules)
    layer = FrameAverage(Messages(), mode=mode, signature=SIGNATURE, levels=LEVELS)
    outputs = layer(batch, scale=2.0)
    edge_graph = batch.batch[batch.edge_index[0]]
    for i, data in enumerate(molecules):
        alone = layer(data, scale=2.0)
        torch.testing.assert_close(alone["energy"], outputs["energy"][i : i + 1])
        torch.testing.assert_close(alone["moved"], outputs["moved"][batch.batch == i])
        torch.testing.assert_close(alone["edges"], outputs["edges"][edge_graph == i])
    seen = layer.backbone.seen[0]
    assert isinstance(seen, Batch)
    assert seen.num_graphs == len(seen.ptr) - 1 == int(seen.batch.max()) + 1
    assert set(seen.keys()) == {"x", "pos", "edge_index", "edge_attr", "batch", "ptr"}


@pytest.mark.parametrize("mode", MODES)
def test_averages_over_graphs_commute_with_isometries_and_permutations(mode, rng):
    from torch_geometric.data import Batch, Data

    batch = Batch.from_data_list([molecule(rng, nodes) for nodes in (5, 7)])
    inputs = {name: batch[name] for name in ("x", "pos", "edge_index", "edge_attr")}
    layer = FrameAverage(Messages(), mode=mode, signature=SIGNATURE, levels=LEVELS)

    def run(network):
        return lambda **inputs: network(Batch(**inputs, batch=batch.batch, ptr=batch.ptr))

    # Of one graph only: permutations would mix the nodes of two.
    single = Data(**{name: molecule(rng, 7)[name] for name in inputs})
    named = {name: single[name] for name in inputs}
    zeros = torch.zeros(7, dtype=torch.int64)
    assert_equivariant(lambda **i: layer(Data(**i)), named, SIGNATURE, samples=16, generator=rng)
    bare = equivariance_error(
        lambda **i: layer.backbone(Batch(**i, batch=zeros, ptr=torch.tensor([0, 7]))),
        named,
        SIGNATURE,
        generator=rng,
    )
    assert min(bare.outputs.values()) > 1e-2
    without = Signature(E(3), SIGNATURE.inputs, SIGNATURE.outputs)
    assert_equivariant(run(layer), inputs, without, samples=16, generator=rng)


def test_empty_graphs_keep_their_row(rng):
    from torch_geometric.data import Batch

    molecules = [molecule(rng, 5), molecule(rng, 0), molecule(rng, 4)]
    layer = FrameAverage(Messages(), mode="minimal", signature=SIGNATURE, levels=LEVELS)
    outputs = layer(Batch.from_data_list(molecules))
    assert outputs["energy"].shape == (3,)
    assert outputs["energy"][1] == 0


def test_gradients_reach_positions(rng):
    data = molecule(rng, 5)
    data.pos.requires_grad_()
    layer = FrameAverage(Messages(), signature=SIGNATURE, levels=LEVELS)
    (forces,) = torch.autograd.grad(layer(data)["energy"].sum(), data.pos)
    assert forces.abs().max() > 1e-6


def test_models_of_pyg_are_averaged_as_they_are(rng):
    from torch_geometric.nn.models import GIN, SchNet

    batch = torch.tensor([0] * 5 + [1] * 6)
    points, edges = separated(rng, 11), complete_graph(batch)
    signature = Signature(
        SO(3) * Permutations(),
        {"x": Vector() * NodeOrder(-2), "edge_index": EdgeIndex(), "batch": BatchIndex()},
        Vector() * NodeOrder(-2),
    )
    layer = FrameAverage(GIN(3, 16, 2, 3).double(), signature=signature)
    inputs = {"x": points, "edge_index": edges, "batch": batch}
    assert_equivariant(layer, inputs, generator=rng)
    assert equivariance_error(layer.backbone, inputs, signature, generator=rng).max > 1e-2

    class Neighbours(nn.Module):
        def forward(self, pos, batch):
            edges = radius_graph(pos, 3.0, batch=batch).edge_index
            return edges, (pos[edges[0]] - pos[edges[1]]).norm(dim=-1)

    # An invariant network is its own average.
    network = SchNet(8, 8, 1, 4, interaction_graph=Neighbours()).double()
    signature = Signature(E(3), {"z": Scalar(), "pos": Point(), "batch": BatchIndex()}, Scalar())
    charges = torch.ones(11, dtype=torch.int64)
    found = FrameAverage(network, signature=signature)(charges, points, batch)
    torch.testing.assert_close(found, network(charges, points, batch))


@pytest.mark.unchecked
def test_graphs_of_another_kind_are_refused(rng):
    from torch_geometric.data import HeteroData

    layer = FrameAverage(Messages(), signature=SIGNATURE, levels=LEVELS)
    with pytest.raises(TypeError, match="a Data or a Batch of torch_geometric, got HeteroData"):
        layer(HeteroData())
    data = molecule(rng, 5)
    del data.pos
    with pytest.raises(TypeError, match="pos: expected the tensor whose frames are taken"):
        layer(data)


def test_frames_do_not_import_torch_geometric():
    code = (
        "import sys, torch; from eqlib.frames import FrameAverage; "
        "FrameAverage(torch.nn.Linear(3, 3))(torch.randn(4, 3)); "
        "sys.exit('torch_geometric' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
