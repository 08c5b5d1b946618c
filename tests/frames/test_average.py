"""Frame averaging makes any backbone equivariant, in every layout, for every kind of output."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad

from eqlib.frames import FrameAverage, pca_frames
from eqlib.geometry import complete_graph
from eqlib.symmetry import (
    BatchIndex,
    E,
    EdgeIndex,
    Irreps,
    NodeOrder,
    Permutations,
    Point,
    Pseudoscalar,
    Pseudovector,
    Scalar,
    Signature,
    Vector,
    as_group,
    assert_equivariant,
    equivariance_error,
)
from tests.frames.clouds import DEGENERATE, GROUPS, MessagePassing, mlp, separated
from tests.tolerances import EQUIVARIANCE

GRAPHS = Signature(
    E(3) * Permutations(),
    inputs={
        "points": Point() * NodeOrder(-2),
        "charges": Scalar() * NodeOrder(-1),
        "edge_index": EdgeIndex(),
        "batch": BatchIndex(),
    },
    outputs={
        "moved": Point() * NodeOrder(-2),
        "forces": Vector() * NodeOrder(-2),
        "energy": Scalar(),
        "dipole": Vector(),
        "spin": Pseudovector(),
        "chirality": Pseudoscalar(),
    },
)
LEVELS = dict.fromkeys(("dipole", "spin", "chirality"), "graph")


class Fields(NamedTuple):
    """Outputs of every kind at the points."""

    scalar: Tensor
    pseudoscalar: Tensor
    vector: Tensor
    pseudovector: Tensor
    point: Tensor


class Pointwise(nn.Module):
    """A network on points and velocities, with outputs of every kind and no symmetry at all."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.sizes = [4, 2, dimension, dimension, dimension]
        self.network = mlp(2 * dimension, sum(self.sizes))

    def forward(self, points: Tensor, velocities: Tensor) -> Fields:
        return Fields(*self.network(torch.cat([points, velocities], -1)).split(self.sizes, -1))


def fields_signature(group: str) -> Signature:
    order = NodeOrder(-2)
    return Signature(
        as_group(group) * Permutations(),
        inputs={"points": Point() * order, "velocities": Vector() * order},
        outputs={
            "scalar": Scalar() * order,
            "pseudoscalar": Pseudoscalar() * order,
            "vector": Vector() * order,
            "pseudovector": Pseudovector() * order,
            "point": Point() * order,
        },
    )


def graphs(rng, sizes, dtype=torch.float64):
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return {
        "points": separated(rng, sum(sizes), dtype=dtype),
        "charges": torch.rand(sum(sizes), dtype=torch.float64, generator=rng).to(dtype),
        "edge_index": complete_graph(batch, len(sizes)),
        "batch": batch,
        "num_graphs": len(sizes),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
def test_every_kind_of_output_commutes_with_the_group(batch, group, dtype, rng):
    signature = fields_signature(group)
    layer = FrameAverage(Pointwise(int(group[-2])), signature=signature).to(dtype)
    shape = (*batch, 7, int(group[-2]))
    inputs = {
        "points": separated(rng, *shape[:-1], dtype=dtype, dimension=shape[-1]),
        "velocities": torch.randn(shape, dtype=torch.float64, generator=rng).to(dtype),
    }
    assert layer.frames(inputs["points"]).gap.min() > 2e-2
    outputs = layer(**inputs)
    assert isinstance(outputs, Fields)
    assert all(output.dtype == dtype for output in outputs)
    report = equivariance_error(layer, inputs, samples=16, generator=rng)
    assert report.max < EQUIVARIANCE[dtype], report
    # control: the same check must reject each output of the bare backbone
    bare = equivariance_error(layer.backbone, inputs, signature, samples=16, generator=rng)
    assert min(bare.outputs.values()) > 1e-2, bare


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


@pytest.mark.parametrize("group", ["O(3)", "E(3)"])
def test_irreps_outputs_commute_with_the_group(group, rng):
    irreps = Irreps("2x0e+1x0o+1x1o+1x1e+1x2e+1x2o")
    signature = Signature(as_group(group), {"points": Point()}, irreps)
    network = mlp(3, irreps.size(signature.group))
    inputs = {"points": separated(rng, 2, 6)}
    assert_equivariant(FrameAverage(network, signature=signature), inputs, generator=rng)
    bare = equivariance_error(lambda points: network(points), inputs, signature, generator=rng)
    assert bare.max > 1e-2


@pytest.mark.parametrize(
    ("group", "distinguishes"), [("SE(3)", True), ("E(3)", False), ("SO(3)", True), ("O(3)", False)]
)
def test_mirror_images_differ_under_rotations_only(group, distinguishes, rng):
    signature = Signature(as_group(group), {"points": Point()}, Scalar())
    layer = FrameAverage(mlp(3, 1), signature=signature)
    points = separated(rng, 6)
    mirrored = points * torch.tensor([1.0, 1.0, -1.0])
    difference = (layer(points) - layer(mirrored)).abs().max()
    assert difference > 1e-3 if distinguishes else difference < 1e-12


def test_points_move_with_a_translation_and_vectors_do_not(rng):
    layer = FrameAverage(Pointwise(3), signature=fields_signature("SE(3)"))
    points, velocities = separated(rng, 6), separated(rng, 6)
    shift = 100 * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    here, there = layer(points, velocities), layer(points + shift, velocities)
    torch.testing.assert_close(there.point, here.point + shift)
    torch.testing.assert_close(there.vector, here.vector)
    torch.testing.assert_close(there.scalar, here.scalar)


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


def test_forces_are_the_negative_gradient_of_the_energy(rng):
    signature = Signature(E(3), {"points": Point()}, Scalar())
    network = mlp(3, 1)

    def energy(points):
        return network(points).square().sum((-1, -2))

    def forces(layer, points):
        points = points.detach().requires_grad_()
        return -grad(layer(points).sum(), points)[0]

    points, step = separated(rng, 2, 5), 1e-5
    layer = FrameAverage(energy, signature=signature)
    steps = step * torch.eye(15, dtype=torch.float64).reshape(15, 1, 5, 3)
    with torch.no_grad():
        slopes = (layer(points - steps) - layer(points + steps)) / (2 * step)
    expected = slopes.T.reshape(2, 5, 3)
    torch.testing.assert_close(forces(layer, points), expected, rtol=1e-6, atol=1e-8)
    # control: with detached frames the energy is the same and the forces are wrong
    detached = FrameAverage(energy, signature=signature, detach=True)
    torch.testing.assert_close(detached(points), layer(points))
    assert (forces(detached, points) - expected).abs().max() > 1e-2


def test_forces_rotate_with_the_points(rng):
    signature = Signature(as_group("SE(3)"), {"points": Point()}, Scalar())
    layer = FrameAverage(mlp(3, 1), signature=signature)

    def forces(points):
        points = points.detach().requires_grad_()
        return -grad(layer(points).sum(), points)[0]

    claim = Signature(as_group("SE(3)"), {"points": Point()}, Vector())
    assert_equivariant(forces, {"points": separated(rng, 2, 6)}, claim, tolerance=1e-11)


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


@pytest.mark.parametrize("group", ["SO(3)", "E(3)"])
@pytest.mark.parametrize("name", list(DEGENERATE))
def test_symmetric_clouds_have_outputs_and_two_finite_derivatives(name, group):
    layer = FrameAverage(mlp(), group)
    points = DEGENERATE[name].double().requires_grad_()
    output = layer(points)
    assert output.shape == points.shape
    (first,) = grad(output.pow(3).sum(), points, create_graph=True)
    (second,) = grad(first.square().sum(), points)
    for result in (output, first, second):
        assert result.isfinite().all()


def test_signs_by_a_sum_are_rejected(rng):
    """Control: one frame with fixed signs is cheap, and no frame."""

    def one_frame(points):
        frames = pca_frames(points, "O(3)").axes
        frames = frames * frames.sum(-2, keepdim=True).sign()
        return network(points @ frames) @ frames.mT

    network = mlp()
    inputs = {"points": separated(rng, 16, 6)}
    signature = Signature(as_group("SO(3)"), {"points": Point()}, Point())
    assert equivariance_error(one_frame, inputs, signature, generator=rng).max > 1e-2
    assert_equivariant(FrameAverage(network, "SO(3)"), inputs, generator=rng)


def test_autocast_rounds_the_backbone_only(rng):
    points = separated(rng, 2, 6, dtype=torch.float32)
    identity = FrameAverage(lambda points: points)
    layer = FrameAverage(mlp().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert identity(points).dtype == layer(points).dtype == torch.float32
        torch.testing.assert_close(identity(points), points, rtol=1e-6, atol=1e-6)
        report = equivariance_error(layer, {"points": points}, generator=rng)
        rounded = layer(points)
    assert report.max < EQUIVARIANCE[torch.bfloat16]
    # control: the backbone itself was rounded
    assert (rounded - layer(points)).abs().max() > 1e-3


def test_bfloat16_networks_return_bfloat16(rng):
    layer = FrameAverage(mlp().bfloat16())
    points = separated(rng, 2, 6, dtype=torch.bfloat16)
    assert layer(points).dtype == torch.bfloat16
    report = equivariance_error(layer, {"points": points}, generator=rng)
    assert report.max < EQUIVARIANCE[torch.bfloat16]


def test_strides_do_not_matter(rng):
    layer, points = FrameAverage(mlp()), separated(rng, 2, 6)
    torch.testing.assert_close(layer(points.mT.contiguous().mT), layer(points))


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


def test_parameters_are_those_of_the_backbone():
    layer = FrameAverage(mlp(), "SE(3)")
    assert set(layer.state_dict()) == {f"backbone.{name}" for name in mlp().state_dict()}
    assert "group=SE(3)" in repr(layer)


POINTS = Signature(E(3), {"points": Point()}, Point())
SCALARS = Signature(E(3), {"points": Scalar()}, Scalar())


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "SE(4)"}, r"in 2 or 3 dimensions, got SE\(4\)"),
        ({"group": "SE(3)", "signature": POINTS}, r"SE\(3\) is not that of the signature, E\(3\)"),
        ({"signature": SCALARS}, "frames need an input that is a Point or a Vector"),
        ({"cloud": "pos"}, "cloud: 'pos' is none of the inputs points"),
        ({"levels": {"forces": "node"}}, "for some of points, output, got 'forces': 'node'"),
        ({"levels": {"output": "atom"}}, "expected node, edge, graph for some of points"),
        ({"chunk": 0}, "chunk: expected at least one frame per call, got 0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FrameAverage(mlp(), **options)


@pytest.mark.unchecked
def test_wrong_inputs_are_refused(rng):
    layer, points = FrameAverage(mlp()), separated(rng, 2, 6)
    with pytest.raises(
        TypeError, match="points: expected the tensor whose frames are taken, got N"
    ):
        layer()
    with pytest.raises(TypeError, match=r"points: Point\(\) needs floating-point numbers"):
        layer(points.long())
    with pytest.raises(ValueError, match=r"points: expected shape \(..., 3\)"):
        layer(points[..., :2])
    with pytest.raises(TypeError, match="got 2 by position and none by name"):
        layer(points, points)
    with pytest.raises(ValueError, match="velocities: the signature does not say how"):
        layer(points, velocities=points)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (lambda points: points[:1], r"expected the batch of 8 clouds .* got shape \(1, 6, 3\)"),
        (lambda points: {"points": points}, "expected one tensor, .* got dict"),
    ],
    ids=["rows", "dict"],
)
def test_wrong_outputs_are_refused(backbone, message, rng):
    with pytest.raises((TypeError, ValueError), match=message):
        FrameAverage(backbone)(separated(rng, 2, 6))


def test_rows_of_another_level_are_refused_with_the_mend(rng):
    layer = FrameAverage(MessagePassing(), signature=GRAPHS)
    with pytest.raises(ValueError, match=r"dipole: expected one row per node .*'dipole': 'graph'"):
        layer(**graphs(rng, [5, 4]))
    layer = FrameAverage(lambda **inputs: {"energy": torch.zeros(2)}, signature=GRAPHS)
    with pytest.raises(ValueError, match="the backbone returned energy, but the signature has"):
        layer(**graphs(rng, [5, 4]))
