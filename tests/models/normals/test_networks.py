"""The networks for normals: symmetry, frames, neighbours, degenerate and wrong input."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eqlib.models.normals import Normals
from eqlib.models.normals.networks.base import SIGNATURE
from eqlib.models.normals.networks.dgcnn import (
    DGCNNFeatures,
    nearest_neighbours,
    neighbour_max,
)
from eqlib.models.normals.networks.local import largest_products
from eqlib.symmetry import equivariance_error
from tests.tolerances import EQUIVARIANCE

NETWORKS = Normals.models
SMALL = {"width": 16}
PLAIN = ["pointnet", "dgcnn"]
EQUIVARIANT = ["plane", "fa_pointnet", "local_fa_pointnet", "fa_dgcnn", "local_fa_dgcnn"]
# Estimates are unit vectors: where the averaged vector is short, its rounding errors are not.
SHORT = 30


def build(name: str, dtype: torch.dtype = torch.float64, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NETWORKS[name](**({} if name == "plane" else SMALL), **options)
    return network.to(dtype).eval()


def cloud(rng, *batch: int, nodes: int = 40, dtype=torch.float64):
    """Return points of ellipsoids with well-separated axes."""
    points = torch.randn(*batch, nodes, 3, generator=rng, dtype=torch.float64)
    points = points / points.norm(dim=-1, keepdim=True)
    return (points * torch.tensor([1.6, 1.0, 0.5], dtype=torch.float64)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", EQUIVARIANT)
def test_networks_commute_with_motions_and_relabellings(name, dtype, rng):
    inputs = {"points": cloud(rng, 2, dtype=dtype)}
    with torch.no_grad():
        error = equivariance_error(build(name, dtype), inputs, generator=rng).max
    assert error < SHORT * EQUIVARIANCE[dtype]


@pytest.mark.parametrize("name", PLAIN)
def test_the_same_check_rejects_networks_without_frames(name, rng):
    inputs = {"points": cloud(rng, 2)}
    with torch.no_grad():
        assert equivariance_error(build(name), inputs, SIGNATURE, generator=rng).max > 1e-2


@pytest.mark.parametrize("name", list(NETWORKS))
def test_estimates_are_unit_vectors_whatever_the_batch(name, rng):
    points = cloud(rng, 2, 3)
    network = build(name)
    together = network(points)
    assert together.shape == points.shape
    assert torch.allclose(together.norm(dim=-1), torch.ones(()).double(), atol=1e-12)
    assert torch.allclose(network(points[1, 2]), together[1, 2], atol=1e-10)


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize(
    "shape", ["no clouds", "no points", "one point", "two points", "coincident", "collinear"]
)
def test_degenerate_clouds_have_finite_values_and_gradients(name, shape, rng):
    points = cloud(rng, 2)
    if shape == "no clouds":
        points = points[:0]
    elif shape in ("no points", "one point", "two points"):
        points = points[:, : ("no points", "one point", "two points").index(shape)]
    elif shape == "coincident":
        points = points[:, :1].expand(-1, 40, -1)
    else:
        points = points[..., :1] * torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    points = points.clone().requires_grad_()
    network = build(name)
    normals = network(points)
    assert normals.shape == points.shape
    assert normals.isfinite().all()
    (normals * torch.randn(normals.shape, generator=rng, dtype=torch.float64)).sum().backward()
    assert points.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", list(NETWORKS))
def test_nan_in_one_cloud_leaves_the_others_exact(name, rng):
    points = cloud(rng, 3)
    network = build(name)
    clean = network(points)
    points[1, 7, 1] = torch.nan
    spoilt = network(points)
    assert torch.equal(spoilt[[0, 2]], clean[[0, 2]])
    assert spoilt[1].isnan().any()


@pytest.mark.parametrize("name", list(NETWORKS))
def test_layout_of_the_points_does_not_matter(name, rng):
    points = cloud(rng, 2)
    network = build(name)
    strided = points.mT.contiguous().mT
    assert not strided.is_contiguous()
    assert torch.allclose(network(strided), network(points), atol=1e-12)
    assert torch.allclose(network(points[:1].expand(3, -1, -1))[2], network(points)[0], atol=1e-10)


COMPILED = """
import torch
from eqlib.models.normals import Normals

generator = torch.Generator().manual_seed(0)
points = torch.randn(2, 9, 3, dtype=torch.float64, generator=generator)
for name in ("fa_dgcnn", "local_fa_pointnet"):
    network = Normals.models[name](width=8).double().eval()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(points), network(points))
"""


def test_networks_compile_to_one_graph():
    # In a process of its own: the checks of annotations in the tests do not compile.
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", COMPILED], check=True, cwd=root)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (TypeError, "points: got torch.float32.*float64", lambda x: x.float()),
        (ValueError, r"points: got shape \(2, 40, 2\)", lambda x: x[..., :2]),
        (ValueError, r"points: got shape \(3,\)", lambda x: x[0, 0]),
        (ValueError, "points: on meta", lambda x: x.to("meta")),
    ],
    ids=["float32", "2-D", "one vector", "device"],
)
@pytest.mark.parametrize("name", ["dgcnn", "fa_pointnet"])
def test_wrong_input_is_named(name, error, message, change, rng):
    with pytest.raises(error, match=message):
        build(name)(change(cloud(rng, 2)))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("dgcnn", "graph", "distances"),
        ("dgcnn", "neighbours", 0),
        ("fa_dgcnn", "neighbours", -1),
        ("fa_pointnet", "train_mode", "some"),
        ("local_fa_pointnet", "patch", 0),
        ("local_fa_dgcnn", "train_frames", 5),
    ],
    ids=lambda value: str(value),
)
def test_wrong_options_are_named(name, option, value):
    wanted = "mode" if option == "train_mode" else option
    with pytest.raises(ValueError, match=wanted):
        build(name, **{option: value})


@pytest.mark.parametrize("name", ["fa_pointnet", "fa_dgcnn"])
def test_training_draws_frames_and_evaluation_takes_all(name, rng):
    points = cloud(rng, 2)
    network, full = build(name), build(name, train_mode="full")
    full.load_state_dict(network.state_dict())
    assert torch.equal(network(points), full(points))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [network.train()(points) for _ in range(8)]
        torch.manual_seed(0)
        assert torch.equal(network(points), drawn[0])
    assert len({tuple(normals.flatten().tolist()) for normals in drawn}) > 1
    assert torch.equal(full.train()(points), full.eval()(points))


def test_drawn_frames_average_to_all_of_them(rng):
    points = cloud(rng, 1, nodes=8)
    vectors = build("fa_pointnet").vectors
    full = vectors(points)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = torch.stack([vectors.train()(points) for _ in range(200)])
    error = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - full).abs() < 5 * error + 1e-12).all()


def test_local_frames_average_over_those_drawn(rng):
    points = cloud(rng, 2)
    network, full = build("local_fa_pointnet"), build("local_fa_pointnet", train_frames=4)
    full.load_state_dict(network.state_dict())
    assert torch.equal(network(points), full.train()(points))
    assert not torch.allclose(network.train()(points), full(points), atol=1e-6)


def test_frames_of_e3_make_reflections_exact(rng):
    points, mirror = cloud(rng, 2), torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    network = build("fa_pointnet", group="E(3)")
    assert torch.allclose(network(points * mirror), network(points) * mirror, atol=1e-11)
    chiral = build("fa_pointnet")
    assert not torch.allclose(chiral(points * mirror), chiral(points) * mirror, atol=1e-3)


def test_minimal_frames_are_fewer_and_equivariant(rng):
    # skewed clouds: one half of an ellipsoid is denser than the other
    points = cloud(rng, 2)
    points[..., :3, :] = points[..., :3, :].abs() * 3
    network = build("fa_pointnet", eval_mode="minimal")
    calls = []
    network.vectors.backbone.register_forward_pre_hook(lambda _, inputs: calls.append(inputs[0]))
    with torch.no_grad():
        error = equivariance_error(network, {"points": points}, generator=rng).max
    assert error < SHORT * EQUIVARIANCE[torch.float64]
    assert all(len(frames) < 2 * 4 for frames in calls)


@pytest.mark.parametrize("dimension", [3, 8])
def test_neighbours_are_those_of_a_search_tree(dimension, rng):
    from scipy.spatial import cKDTree

    points = torch.randn(2, 50, dimension, generator=rng, dtype=torch.float64)
    found = nearest_neighbours(points, 7)
    for some, index in zip(points, found, strict=True):
        expected = cKDTree(some.numpy()).query(some.numpy(), k=8)[1][:, 1:]
        assert torch.equal(index, torch.from_numpy(expected))


@pytest.mark.parametrize(("nodes", "shape"), [(0, (2, 0, 0)), (1, (2, 1, 1)), (3, (2, 3, 2))])
def test_small_clouds_have_the_neighbours_there_are(nodes, shape, rng):
    points = torch.randn(2, nodes, 3, generator=rng)
    found = nearest_neighbours(points, 7)
    assert tuple(found.shape) == shape
    if nodes > 1:
        assert (found != torch.arange(nodes)[:, None]).all()


def test_largest_among_neighbours_and_its_gradient(rng):
    features = torch.randn(2, 30, 5, generator=rng, dtype=torch.float64, requires_grad=True)
    nearest = nearest_neighbours(torch.randn(2, 30, 3, generator=rng), 6)
    weights = torch.randn(2, 30, 5, generator=rng, dtype=torch.float64)
    plain = features[torch.arange(2)[:, None, None], nearest].amax(2)
    found = neighbour_max(features, nearest)
    assert torch.equal(found, plain)
    gradients = [torch.autograd.grad((y * weights).sum(), features)[0] for y in (found, plain)]
    assert torch.allclose(*gradients, atol=1e-14)
    nearest = nearest[:1, :4] % 4
    small = features.detach()[:1, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: neighbour_max(x, nearest), small)


def test_largest_products_and_their_gradient(rng):
    vectors = torch.randn(2, 4, 6, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(5, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(
        largest_products(vectors, weights), (vectors @ weights.mT).amax(-2), atol=1e-14
    )
    assert torch.autograd.gradcheck(largest_products, (vectors, weights))
    assert torch.autograd.gradgradcheck(largest_products, (vectors, weights))


def test_graphs_of_features_change_from_layer_to_layer(rng):
    points = cloud(rng, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fixed = DGCNNFeatures(3, 8, 2, 5).double()
    dynamic = DGCNNFeatures(3, 8, 2, 5, graph="features").double()
    dynamic.load_state_dict(fixed.state_dict())
    assert not torch.allclose(fixed(points, points), dynamic(points, points), atol=1e-6)
