"""Frame averaging on ragged and masked batches, single graphs, edges and chunks."""

import pytest
import torch
from torch import nn
from torch.autograd import grad

from eqlib.frames import FrameAverage
from eqlib.geometry import complete_graph
from eqlib.symmetry import (
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
from tests.frames.clouds import (
    GRAPHS,
    LEVELS,
    MessagePassing,
    graphs,
    mlp,
    separated,
)
from tests.tolerances import EQUIVARIANCE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_ragged_batches_commute_with_isometries_and_permutations(dtype, rng):
    layer = FrameAverage(MessagePassing(), signature=GRAPHS, levels=LEVELS).to(dtype)
    inputs = graphs(rng, [5, 0, 6, 4], dtype)
    report = equivariance_error(layer, inputs, samples=16, generator=rng)
    assert report.max < EQUIVARIANCE[dtype], report
    # control: the same check must reject each output of the bare backbone
    bare = equivariance_error(layer.backbone, inputs, GRAPHS, samples=16, generator=rng)
    assert min(bare.outputs.values()) > 1e-2, bare


def test_ragged_batches_equal_their_graphs_one_by_one(rng):
    layer = FrameAverage(MessagePassing(), signature=GRAPHS, levels=LEVELS)
    inputs = graphs(rng, [0, 5, 0, 6, 4, 0])
    outputs = layer(**inputs)
    for graph in (1, 3, 4):
        nodes = inputs["batch"] == graph
        cloud = {name: inputs[name][nodes] for name in ("points", "charges")}
        batch = torch.zeros(int(nodes.sum()), dtype=torch.int64)
        alone = layer(**cloud, edge_index=complete_graph(batch), batch=batch, num_graphs=1)
        for name, output in alone.items():
            rows = nodes if name in ("moved", "forces") else [graph]
            torch.testing.assert_close(outputs[name][rows], output)
    for name in ("energy", "dipole", "spin", "chirality"):
        assert (outputs[name][[0, 2, 5]] == 0).all()


def test_a_single_graph_needs_no_batch(rng):
    inputs = graphs(rng, [6])
    whole = FrameAverage(MessagePassing(), signature=GRAPHS, levels=LEVELS)(**inputs)
    backbone = MessagePassing()
    layer = FrameAverage(
        lambda **inputs: backbone(**inputs)["moved"],
        signature=Signature(E(3), GRAPHS.inputs, Point()),
    )
    del inputs["batch"], inputs["num_graphs"]
    torch.testing.assert_close(layer(**inputs), whole["moved"])


def test_masked_batches_equal_their_clouds_one_by_one(rng):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = mlp()

        def forward(self, points, mask):
            features = self.network(points)
            return features + torch.where(mask[..., None], features.square(), 0).sum(-2, True)

    layer = FrameAverage(Pooled(), "SE(3)")
    points = separated(rng, 3, 7)
    mask = torch.arange(7) < torch.tensor([[7], [0], [4]])
    points[~mask] = torch.nan
    points.requires_grad_()
    outputs = layer(points, mask=mask)
    (gradient,) = grad(outputs[mask].square().sum(), points)
    assert (gradient[~mask] == 0).all()
    for cloud, size in ((0, 7), (2, 4)):
        alone = points[cloud, :size].detach().requires_grad_()
        output = layer(alone, mask=torch.ones(size, dtype=torch.bool))
        torch.testing.assert_close(outputs[cloud, :size], output)
        (expected,) = grad(output.square().sum(), alone)
        torch.testing.assert_close(gradient[cloud, :size], expected)


@pytest.mark.parametrize("chunk", [1, 3, 4, 100])
def test_chunks_change_nothing_but_the_number_of_calls(chunk, rng):
    calls = []
    backbone = MessagePassing()

    def counted(**inputs):
        calls.append(len(inputs["points"]))
        return backbone(**inputs)

    inputs = graphs(rng, [5, 0, 4])
    whole = FrameAverage(backbone, signature=GRAPHS, levels=LEVELS)(**inputs)
    chunked = FrameAverage(counted, signature=GRAPHS, levels=LEVELS, chunk=chunk)(**inputs)
    torch.testing.assert_close(chunked, whole)
    assert sum(calls) == 8 * 9
    assert max(calls) == min(chunk, 8) * 9


@pytest.mark.parametrize("bad", [torch.nan, torch.inf], ids=str)
def test_a_bad_graph_leaves_the_others_exact(bad, rng):
    layer = FrameAverage(MessagePassing(), signature=GRAPHS, levels=LEVELS)
    inputs = graphs(rng, [5, 6, 4])
    broken = {**inputs, "points": inputs["points"].clone()}
    broken["points"][7, 1] = bad
    expected, found = layer(**inputs), layer(**broken)
    other = inputs["batch"] != 1
    for name, output in expected.items():
        rows = other if name in ("moved", "forces") else [0, 2]
        assert torch.equal(found[name][rows], output[rows])
    assert found["moved"][~other].isnan().all()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # on import of PyG
def test_modules_of_pyg_are_averaged_as_they_are(rng):
    from torch_geometric.nn import PointNetConv, global_add_pool

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = PointNetConv(mlp(5, 8), mlp(8, 4))

        def forward(self, x, pos, edge_index, batch):
            features = self.convolution(x, pos, edge_index)
            return global_add_pool(features, batch)

    signature = Signature(
        E(3) * Permutations(),
        {
            "x": Scalar() * NodeOrder(-2),
            "pos": Point() * NodeOrder(-2),
            "edge_index": EdgeIndex(),
            "batch": BatchIndex(),
        },
        Scalar(),
    )
    layer = FrameAverage(Network(), signature=signature)
    inputs = graphs(rng, [5, 6])
    inputs = {
        "x": torch.rand(11, 2, dtype=torch.float64, generator=rng),
        "pos": inputs["points"],
        "edge_index": inputs["edge_index"],
        "batch": inputs["batch"],
    }
    assert layer(**inputs).shape == (2, 4)
    assert_equivariant(layer, inputs, generator=rng)
    assert equivariance_error(layer.backbone, inputs, signature, generator=rng).max > 1e-2


def test_edges_shared_by_dense_clouds_are_passed_on(rng):
    edges = complete_graph(torch.zeros(6, dtype=torch.int64))

    def backbone(points, edge_index, scale):
        assert torch.equal(edge_index, edges)
        source, target = edge_index
        return scale * (points[:, source] - points[:, target] ** 2).unflatten(1, (6, 5)).sum(2)

    signature = Signature(E(3), {"points": Point(), "edge_index": EdgeIndex()}, Vector())
    layer = FrameAverage(backbone, signature=signature)
    inputs = {"points": separated(rng, 2, 6), "edge_index": edges, "scale": 0.5}
    assert_equivariant(layer, inputs, generator=rng)


def test_edge_vectors_are_expressed_in_the_frame_of_their_edge(rng):
    signature = Signature(
        E(3), {"points": Point(), "fields": Vector(), "edge_index": EdgeIndex()}, Vector()
    )
    levels = {"fields": "edge", "output": "edge"}
    layer = FrameAverage(
        lambda points, fields, edge_index, batch: fields + fields**2 * points[edge_index[0]],
        signature=signature,
        levels=levels,
    )
    inputs = graphs(rng, [5, 0, 4])
    del inputs["charges"], inputs["num_graphs"]
    inputs["fields"] = torch.randn(32, 3, dtype=torch.float64, generator=rng)
    assert_equivariant(layer, inputs, generator=rng)


def test_rows_of_another_level_are_refused_with_the_mend(rng):
    layer = FrameAverage(MessagePassing(), signature=GRAPHS)
    with pytest.raises(ValueError, match=r"dipole: expected one row per node .*'dipole': 'graph'"):
        layer(**graphs(rng, [5, 4]))
    layer = FrameAverage(lambda **inputs: {"energy": torch.zeros(2)}, signature=GRAPHS)
    with pytest.raises(ValueError, match="the backbone returned energy, but the signature has"):
        layer(**graphs(rng, [5, 4]))
