"""Averages over as many frames as each cloud has: layouts, levels, chunks and the projection."""

import pytest
import torch
from torch.autograd import grad

from eqlib.frames import FrameAverage, Frames, RaggedFrames, pca_frames, weighted_frames
from eqlib.geometry import complete_graph
from eqlib.symmetry import (
    E,
    EdgeIndex,
    Element,
    Irreps,
    NodeOrder,
    Point,
    Pseudoscalar,
    Pseudovector,
    Scalar,
    Signature,
    SphericalTensor,
    Vector,
    as_group,
    assert_equivariant,
    equivariance_error,
)
from tests.frames.clouds import GRAPHS, LEVELS, MessagePassing, graphs, mlp, separated
from tests.tolerances import EQUIVARIANCE

ALL_LEVELS = {**LEVELS, "energy": "graph", "charges": "node"}
MODES = ["minimal", "weighted"]


def listed(points, group, mask=None, batch=None, num_graphs=None, detach=False):
    """The principal frames of each cloud as a list, some of them twice with half the weight."""
    found = pca_frames(points, group, mask, batch, num_graphs, detach)
    clouds, count = found.gap.numel(), found.frames.shape[-3]
    frames = found.frames.reshape(clouds, count, *found.frames.shape[-2:])
    inverse = None if found.inverse is None else found.inverse.reshape(frames.shape)
    kept, cloud, weights = [], [], []
    for i in range(clouds):
        chosen = list(range(count)) + ([0] if i % 2 else [])
        kept += [(i, k) for k in chosen]
        cloud += [i] * len(chosen)
        weights += [(0.5 if i % 2 and k == 0 else 1.0) / count for k in chosen]
    i, k = torch.tensor(kept).T
    return RaggedFrames(
        frames[i, k],
        torch.tensor(cloud),
        torch.tensor(weights, dtype=frames.dtype),
        found.centroid,
        found.gap,
        None if inverse is None else inverse[i, k],
    )


@pytest.mark.parametrize("chunk", [None, 1, 5], ids=str)
@pytest.mark.parametrize("group", ["E(3)", "Similarity(3)"])
def test_a_list_of_all_frames_gives_the_full_average(group, chunk, rng):
    signature = Signature(as_group(group), GRAPHS.inputs, GRAPHS.outputs)
    options = {"signature": signature, "levels": ALL_LEVELS, "chunk": chunk}
    inputs = graphs(rng, [5, 0, 6, 4])
    full = FrameAverage(MessagePassing(), signature=signature, levels=LEVELS)(**inputs)
    found = FrameAverage(MessagePassing(), mode=listed, **options)(**inputs)
    torch.testing.assert_close(found, full)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_ragged_batches_commute_with_isometries_and_permutations(mode, dtype, rng):
    layer = FrameAverage(MessagePassing(), mode=mode, signature=GRAPHS, levels=ALL_LEVELS).to(dtype)
    inputs = graphs(rng, [7, 0, 6, 8], dtype)
    assert layer.frames(inputs["points"], None, inputs["batch"], 4).gap[[0, 2, 3]].min() > 2e-2
    report = equivariance_error(layer, inputs, samples=16, generator=rng)
    assert report.max < 3 * EQUIVARIANCE[dtype], report
    # control: the same check must reject each output of the bare backbone
    bare = equivariance_error(layer.backbone, inputs, GRAPHS, samples=16, generator=rng)
    assert min(bare.outputs.values()) > 1e-2, bare


@pytest.mark.parametrize("chunk", [None, 3], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_ragged_batches_equal_their_graphs_one_by_one(mode, chunk, rng):
    options = {"mode": mode, "signature": GRAPHS, "levels": ALL_LEVELS}
    inputs = graphs(rng, [0, 5, 0, 6, 4, 0])
    outputs = FrameAverage(MessagePassing(), chunk=chunk, **options)(**inputs)
    layer = FrameAverage(MessagePassing(), **options)
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


def test_edges_may_stand_in_any_order(rng):
    layer = FrameAverage(
        lambda points, fields, edge_index, batch: fields**2 * points[edge_index[0]],
        mode="minimal",
        signature=Signature(
            E(3), {"points": Point(), "fields": Vector(), "edge_index": EdgeIndex()}, Vector()
        ),
        levels={"fields": "edge", "output": "edge"},
    )
    inputs = graphs(rng, [5, 0, 4])
    del inputs["charges"], inputs["num_graphs"]
    inputs["fields"] = torch.randn(32, 3, dtype=torch.float64, generator=rng)
    order = torch.randperm(32, generator=rng)
    shuffled = {
        **inputs,
        "fields": inputs["fields"][order],
        "edge_index": inputs["edge_index"][:, order],
    }
    torch.testing.assert_close(layer(**shuffled), layer(**inputs)[order])
    assert_equivariant(layer, shuffled, generator=rng)


@pytest.mark.parametrize("mode", ["full", *MODES])
def test_masked_batches_equal_their_clouds_one_by_one(mode, rng):
    network = mlp()

    def pooled(points, mask):
        features = network(points)
        return features + torch.where(mask[..., None], features.square(), 0).sum(-2, True)

    layer = FrameAverage(pooled, "SE(3)", mode)
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


@pytest.mark.parametrize("bad", [torch.nan, torch.inf], ids=str)
@pytest.mark.parametrize("mode", ["full", "stochastic", *MODES])
def test_a_bad_cloud_leaves_the_others_exact(mode, bad, rng):
    points = separated(rng, 3, 6)
    broken = points.clone()
    broken[1, 2, 0] = bad

    def run(points):
        generator = torch.Generator().manual_seed(0)
        return FrameAverage(mlp(), "SE(3)", mode, generator=generator)(points)

    expected, found = run(points), run(broken)
    torch.testing.assert_close(found[[0, 2]], expected[[0, 2]], rtol=0, atol=1e-15)
    assert found[1].isnan().all()


@pytest.mark.parametrize("nodes", [0, 1, 2])
@pytest.mark.parametrize("mode", ["full", "stochastic", *MODES])
def test_clouds_of_few_points_have_averages(mode, nodes, rng):
    layer = FrameAverage(mlp(), "SE(3)", mode, generator=rng)
    points = torch.randn(3, nodes, 3, dtype=torch.float64, generator=rng)
    outputs = layer(points)
    assert outputs.shape == points.shape
    assert outputs.isfinite().all()
    assert layer(points[:0]).shape == (0, nodes, 3)


@pytest.mark.unchecked
def test_rows_whose_level_is_not_known_are_refused(rng):
    layer = FrameAverage(MessagePassing(), mode="minimal", signature=GRAPHS, levels=LEVELS)
    inputs = graphs(rng, [3])  # of 3 nodes and 6 edges
    inputs["edge_index"] = inputs["edge_index"][:, :3]
    with pytest.raises(ValueError, match=r"charges: its 3 rows may be those of a node or a edge"):
        layer(**inputs)
    layer = FrameAverage(MessagePassing(), mode="minimal", signature=GRAPHS)
    with pytest.raises(ValueError, match=r"dipole: expected .*levels={'dipole': 'graph'}"):
        layer(**graphs(rng, [5, 4]))
    layer = FrameAverage(lambda points: points[:1], "SE(3)", "weighted")
    with pytest.raises(ValueError, match=r"output: expected \d+ clouds, one per frame, first"):
        layer(separated(rng, 2, 6))


KINDS = {
    "irreps": (Irreps("2x0e+2x2e+1x3o"), (19,)),
    "irreps, components first": (Irreps("2x0e+2x2e", layout="ir_mul"), (12,)),
    "spherical tensor": (SphericalTensor(3, complete=True), (2, 16, 3)),
}


def turned_about(axis, kind, values):
    """Mean of values over 16 rotations about an axis: exact up to degree 15."""
    x, y, z = axis.tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    turns = torch.matrix_exp(torch.arange(16)[:, None, None] * torch.pi / 8 * cross)
    return kind.act(Element(matrix=turns), values.expand(16, *values.shape)).mean(0)


def one_frame(axis, spread):
    """A frame function: the axes of space, with a rotation about an axis left open."""

    def frames(points, group, mask=None, batch=None, num_graphs=None):
        one, first = torch.eye(3, dtype=torch.float64)[None], torch.tensor([0])
        weights = torch.ones(1, dtype=torch.float64)
        return RaggedFrames(one, first, weights, points.mean(0), spread, axis=axis, spread=spread)

    return frames


@pytest.mark.parametrize("name", list(KINDS))
@pytest.mark.parametrize("spread", [0.0, 0.25, 1.0])
def test_an_undetermined_rotation_is_averaged_over(spread, name, rng):
    axis = torch.nn.functional.normalize(torch.randn(3, dtype=torch.float64, generator=rng), dim=0)
    kind, shape = KINDS[name]
    values = torch.randn(5, *shape, dtype=torch.float64, generator=rng)
    layer = FrameAverage(
        lambda points: values[None],
        mode=one_frame(axis, torch.tensor(spread, dtype=torch.float64)),
        signature=Signature(E(3), {"points": Point()}, kind),
    )
    turned = turned_about(axis, kind, values)
    expected = turned + spread * (values - turned)
    if name == "spherical tensor":  # whose vectors the signs of frames take care of
        expected[..., 1:4, :] = values[..., 1:4, :]
    torch.testing.assert_close(layer(separated(rng, 5)), expected)


@pytest.mark.parametrize(
    "kind",
    [Vector(), Point(), Pseudovector(), Pseudoscalar(), Scalar(), Irreps("1x0e+1x1o+1x2e")],
    ids=str,
)
def test_without_an_axis_only_tensors_of_degree_two_vanish(kind, rng):
    zero = torch.zeros(3, dtype=torch.float64)
    values = torch.randn(
        5, 9 if isinstance(kind, Irreps) else 3, dtype=torch.float64, generator=rng
    )
    layer = FrameAverage(
        lambda points: values[None],
        mode=one_frame(zero, zero[0]),
        signature=Signature(E(3), {"points": Point()}, kind),
    )
    points = separated(rng, 5)
    output = layer(points) - (points.mean(0) if isinstance(kind, Point) else 0)
    torch.testing.assert_close(output[..., :3], values[..., :3])
    assert (output[..., 4:] == 0).all()


@pytest.mark.parametrize("kind", [Vector(), Irreps("1x0e+1x1o+1x2e"), SphericalTensor(2)], ids=str)
def test_weighted_averages_are_equivariant_at_lines(kind, rng):
    network = mlp(3, 3 if isinstance(kind, Vector) else 9)
    signature = Signature(E(3), {"points": Point()}, kind)

    def backbone(points):
        features = network(points)
        return features[..., None] if isinstance(kind, SphericalTensor) else features

    line = torch.tensor([-1.0, -0.5, 0.0, 2.0], dtype=torch.float64)[:, None]
    inputs = {"points": line * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64) + 0.5}
    layer = FrameAverage(backbone, mode="weighted", signature=signature)
    assert_equivariant(layer, inputs, samples=16, generator=rng)
    if not isinstance(kind, Vector):  # control: the projection is what does it
        bare = FrameAverage(
            backbone,
            mode=lambda *args, **layout: weighted_frames(*args, **layout)._replace(axis=None),
            signature=signature,
        )
        assert equivariance_error(bare, inputs, samples=16, generator=rng).max > 1e-3


def test_edges_shared_by_dense_clouds_are_passed_on(rng):
    edges = complete_graph(torch.zeros(6, dtype=torch.int64))

    def backbone(points, edge_index):
        source, target = edge_index
        return (points[:, source] - points[:, target] ** 2).unflatten(1, (6, 5)).sum(2)

    order = NodeOrder(-2)
    signature = Signature(
        E(3), {"points": Point() * order, "edge_index": EdgeIndex()}, Vector() * order
    )
    layer = FrameAverage(backbone, mode="weighted", signature=signature)
    assert_equivariant(layer, {"points": separated(rng, 2, 6), "edge_index": edges}, generator=rng)


def test_frames_of_another_type_are_used_as_they_are(rng):
    points = separated(rng, 2, 6)

    def weighted(points, group, mask=None, batch=None, num_graphs=None):
        found = pca_frames(points, group)
        weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).expand(2, 4)
        return Frames(found.frames, found.centroid, found.gap, weights)

    layer = FrameAverage(mlp(), mode=weighted)
    frames = layer.frames(points)
    inside = torch.einsum("bnd,bfdc->bfnc", points - frames.centroid[:, None], frames.frames)
    each = torch.einsum("bfnc,bfdc->bfnd", layer.backbone(inside), frames.frames)
    expected = torch.einsum("f,bfnd->bnd", frames.weights[0], each) + frames.centroid[:, None]
    torch.testing.assert_close(layer(points), expected)
    chunked = FrameAverage(layer.backbone, mode=weighted, chunk=3)
    torch.testing.assert_close(chunked(points), expected)


def test_scalars_of_edges_need_no_level_while_rows_tell(rng):
    signature = Signature(
        E(3),
        {"points": Point(), "lengths": Scalar(), "edge_index": EdgeIndex()},
        {"edges": Scalar(), "graphs": Scalar()},
    )

    def backbone(points, lengths, edge_index, batch, num_graphs):
        graphs = torch.zeros(num_graphs, dtype=points.dtype)
        graphs = graphs.index_add(0, batch, points[:, 0].exp())
        return {"edges": lengths * points[edge_index[0], 0], "graphs": graphs}

    inputs = graphs(rng, [5, 4, 6])
    del inputs["charges"]
    inputs["lengths"] = torch.rand(62, dtype=torch.float64, generator=rng)
    full = FrameAverage(backbone, signature=signature)(**inputs)
    found = FrameAverage(backbone, mode=listed, signature=signature)(**inputs)
    torch.testing.assert_close(found, full)
