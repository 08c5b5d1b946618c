"""Local frames: one for the patch of every point, in every layout."""

import subprocess
import sys
from copy import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad, gradcheck

from eqlib.frames import LocalFrameAverage, local_frames, nearest_patches
from eqlib.symmetry import (
    NodeOrder,
    Permutations,
    Point,
    Pseudovector,
    Scalar,
    Signature,
    Vector,
    as_group,
    equivariance_error,
)
from tests.frames.clouds import DEGENERATE, mlp
from tests.tolerances import EQUIVARIANCE

ORIGINS = ["point", "centroid"]
MODES = ["full", "weighted"]
GROUPS = ["SO(2)", "E(2)", "SO(3)", "SE(3)", "O(3)", "E(3)", "SE(3) about z", "E(3) about y"]


class PatchNetwork(nn.Module):
    """A network on patches without symmetry, but for the order of their points."""

    def __init__(self, dimension: int = 3) -> None:
        super().__init__()
        self.network = mlp(dimension, dimension)

    def forward(self, points: Tensor) -> Tensor:
        return self.network(points).square().mean(-2)


class Outputs(NamedTuple):
    """One output of each kind at the points."""

    flow: Tensor
    spin: Tensor
    density: Tensor
    moved: Tensor


class Fields(nn.Module):
    """A network on patches of points with velocities and charges."""

    def __init__(self) -> None:
        super().__init__()
        self.network = mlp(7, 10)

    def forward(self, points: Tensor, velocities: Tensor, charges: Tensor) -> Outputs:
        features = torch.cat([points, velocities, charges[..., None]], -1)
        return Outputs(*self.network(features).mean(-2).split([3, 3, 1, 3], -1))


def fields_signature(group: str) -> Signature:
    order = NodeOrder(-2)
    return Signature(
        as_group(group) * Permutations(),
        inputs={
            "points": Point() * order,
            "velocities": Vector() * order,
            "charges": Scalar() * NodeOrder(-1),
        },
        outputs={
            "flow": Vector() * order,
            "spin": Pseudovector() * order,
            "density": Scalar() * order,
            "moved": Point() * order,
        },
    )


def without_frames(layer: LocalFrameAverage) -> LocalFrameAverage:
    """The same network on patches that are shifted to their origin but not turned."""
    bare = copy(layer)
    bare._modules = {"average": Unturned(layer.average)}
    return bare


class Unturned(nn.Module):
    """In place of an average: the network in the axes of the world."""

    def __init__(self, average: nn.Module) -> None:
        super().__init__()
        self.backbone = average.backbone
        self.signature, self.cloud = average.signature, average.cloud

    def forward(self, **inputs: Tensor) -> Tensor:
        return self.backbone(**inputs)


def determined(rng: torch.Generator, count: int, k: int, group: str = "SE(3)") -> Tensor:
    """Clouds (count, 10, d) in which the axes of all patches are well determined."""
    dimension = as_group(group).dimension
    scales = torch.tensor([3.0, 3.0**0.5, 1.0], dtype=torch.float64)[:dimension]
    points = torch.randn(500, 10, dimension, dtype=torch.float64, generator=rng) * scales
    gaps = [local_frames(points, k, group, origin).gap.amin(-1) for origin in ORIGINS]
    best = torch.minimum(*gaps).topk(count)
    assert best.values.min() > 2e-2
    return points[best.indices]


@pytest.mark.parametrize("origin", ["point", "centroid"])
@pytest.mark.parametrize("group", ["SO(3)", "E(3)"])
def test_frames_are_those_of_the_patches(group, origin, rng):
    from scipy.spatial import cKDTree

    points = torch.randn(30, 3, dtype=torch.float64, generator=rng)
    frames = local_frames(points, 8, group, origin)
    assert frames.frames.shape == (30, 4 if group == "SO(3)" else 8, 3, 3)
    positions = points.numpy()
    _, nearest = cKDTree(positions).query(positions, 8)
    for i, patch in enumerate(positions[nearest]):
        middle = patch[0] if origin == "point" else patch.mean(0)
        values, axes = np.linalg.eigh((patch - middle).T @ (patch - middle))
        np.testing.assert_allclose(frames.centroid[i], middle, atol=1e-14)
        np.testing.assert_allclose(frames.gap[i], np.diff(values).min() / values.sum(), atol=1e-12)
        for frame in frames.frames[i].numpy():
            np.testing.assert_allclose(abs(axes[:, ::-1].T @ frame), np.eye(3), atol=1e-10)
    if group == "SO(3)":
        assert (torch.linalg.det(frames.frames) > 0).all()


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("group", GROUPS)
def test_averages_commute_with_the_group(group, origin, rng):
    dimension, order = as_group(group).dimension, NodeOrder(-2)
    signature = Signature(
        as_group(group) * Permutations(), {"points": Point() * order}, Vector() * order
    )
    layer = LocalFrameAverage(PatchNetwork(dimension), k=6, signature=signature, origin=origin)
    points = determined(rng, 2, 6, group)
    for dtype in (torch.float32, torch.float64):
        inputs = {"points": points.to(dtype)}
        report = equivariance_error(layer.to(dtype), inputs, samples=16, generator=rng)
        assert report.max < EQUIVARIANCE[dtype], report
    # controls: frames of the world in place of those of the patches, and tilted axes
    fixed = equivariance_error(without_frames(layer), inputs, signature, generator=rng)
    assert fixed.max > 1e-2
    if "about" in group:
        tilted = Signature(as_group("SE(3)"), {"points": Point()}, Vector())
        assert equivariance_error(layer, inputs, tilted, generator=rng).max > 1e-2


@pytest.mark.parametrize("group", ["SE(3)", "E(3)", "SE(3) about z"])
def test_fields_of_every_kind_commute_with_the_group(group, rng):
    signature = fields_signature(group)
    layer = LocalFrameAverage(Fields(), k=6, signature=signature)
    inputs = {
        "points": determined(rng, 2, 6, group),
        "velocities": torch.randn(2, 10, 3, dtype=torch.float64, generator=rng),
        "charges": torch.randn(2, 10, dtype=torch.float64, generator=rng),
    }
    assert isinstance(layer(**inputs), Outputs)
    report = equivariance_error(layer, inputs, samples=16, generator=rng)
    assert report.max < EQUIVARIANCE[torch.float64], report
    # control: the same check must reject each output of the network without frames
    bare = equivariance_error(without_frames(layer), inputs, signature, 16, generator=rng)
    assert min(bare.outputs.values()) > 1e-2, bare


def test_outputs_at_a_point_depend_on_its_patch_only(rng):
    layer = LocalFrameAverage(PatchNetwork(), k=5)
    points = torch.randn(40, 3, dtype=torch.float64, generator=rng)
    patch = nearest_patches(points, 5).nodes[0]
    far = torch.tensor([i for i in range(40) if i not in patch.tolist()])
    moved = points.clone()
    moved[far] += 50 * torch.nn.functional.normalize(moved[far] - moved[0], dim=-1)
    assert torch.equal(layer(moved)[0], layer(points)[0])
    # control: those of its neighbours do matter
    moved = points.clone()
    moved[patch[1]] *= 1.01
    assert not torch.equal(layer(moved)[0], layer(points)[0])


@pytest.mark.parametrize("origin", ORIGINS)
def test_dense_masked_and_ragged_batches_give_the_same(origin, rng):
    layer = LocalFrameAverage(PatchNetwork(), k=6, origin=origin)
    sizes = [9, 4, 12, 0, 1]
    clouds = [torch.randn(size, 3, dtype=torch.float64, generator=rng) for size in sizes]
    batch = torch.arange(5).repeat_interleave(torch.tensor(sizes))
    ragged = layer(torch.cat(clouds), batch=batch, num_graphs=5).split(sizes)
    padded = torch.full((5, 12, 3), torch.nan, dtype=torch.float64)
    mask = torch.arange(12) < torch.tensor(sizes)[:, None]
    padded[mask] = torch.cat(clouds)
    dense = layer(padded, mask=mask)
    for size, alone, row, part in zip(sizes, map(layer, clouds), dense, ragged, strict=True):
        torch.testing.assert_close(part, alone, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(row[:size], alone, rtol=1e-12, atol=1e-13)
        assert (row[size:] == 0).all()


@pytest.mark.parametrize("origin", ORIGINS)
def test_edges_stand_for_patches_and_their_order_does_not_matter(origin, rng):
    layer = LocalFrameAverage(PatchNetwork(), k=6, origin=origin)
    points = torch.randn(9, 3, dtype=torch.float64, generator=rng)
    patches = nearest_patches(points, 6)
    target = torch.arange(9).repeat_interleave(6)
    edges = torch.stack([patches.nodes.flatten(), target])
    expected = layer(points)
    torch.testing.assert_close(layer(points, neighbours=patches), expected)
    torch.testing.assert_close(layer(points, neighbours=edges), expected)
    shuffled = edges[:, torch.randperm(54, generator=rng)]
    torch.testing.assert_close(layer(points, neighbours=shuffled), expected)
    frames = local_frames(points, neighbours=shuffled, origin=origin)
    torch.testing.assert_close(frames.gap, local_frames(points, 6, origin=origin).gap)
    # clouds of a dense batch share them
    both = layer(torch.stack([points, 2 * points]), neighbours=shuffled)
    torch.testing.assert_close(both[0], expected)


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate_clouds_have_finite_outputs_and_gradients(kind, origin):
    layer = LocalFrameAverage(PatchNetwork(), k=5, origin=origin)
    points = DEGENERATE[kind].double().requires_grad_()
    outputs = layer(points)
    assert outputs.shape == points.shape
    assert outputs.isfinite().all()
    (first,) = grad(outputs.square().sum(), points, create_graph=True)
    assert first.isfinite().all()
    (second,) = grad(first.square().sum(), points)
    assert second.isfinite().all()


def test_weighted_frames_serve_patches_without_gap(rng):
    cloud = torch.cat([torch.zeros(1, 3), DEGENERATE["octahedron"]]).double()
    layers = {mode: LocalFrameAverage(PatchNetwork(), k=7, mode=mode) for mode in MODES}
    assert layers["full"].frames(cloud).gap[0] < 1e-12
    errors = {
        mode: equivariance_error(layer, {"points": cloud}, generator=rng).max
        for mode, layer in layers.items()
    }
    assert errors["weighted"] < EQUIVARIANCE[torch.float64]
    assert errors["full"] > 1e-3
    noise = 1e-5 * torch.randn(2, 7, 3, dtype=torch.float64, generator=rng)
    jumps = {
        mode: (layer(cloud + noise[0]) - layer(cloud + noise[1])).abs().max() / layer(cloud).norm()
        for mode, layer in layers.items()
    }
    assert jumps["weighted"] < 1e-3
    assert jumps["full"] > 1e-2


def test_stochastic_frames_are_drawn_for_each_point_and_evaluated_in_full(rng):
    points = determined(rng, 1, 6)
    full = LocalFrameAverage(PatchNetwork(), k=6)
    drawn = LocalFrameAverage(full.backbone, k=6, mode="stochastic", generator=rng)
    assert drawn.frames(points).frames.shape == (1, 10, 1, 3, 3)
    draws = drawn(points.expand(400, *points.shape[1:]))[:, None]
    error = (draws.mean(0) - full(points)).abs() / (draws.std(0) / 20 + 1e-12)
    assert error.max() < 5
    assert draws.std(0).max() > 1e-2
    torch.testing.assert_close(drawn.eval()(points), full(points))


def test_a_point_that_is_not_finite_harms_no_other(rng):
    points = torch.randn(20, 3, dtype=torch.float64, generator=rng)
    harmed = points.clone()
    harmed[7, 1] = torch.nan
    frames = local_frames(harmed, 5)
    assert frames.frames[7].isnan().any()
    others = torch.arange(20) != 7
    assert frames.frames[others].isfinite().all()
    expected = local_frames(points[others], 5)
    torch.testing.assert_close(frames.frames[others], expected.frames)


@pytest.mark.parametrize("origin", ORIGINS)
def test_gradients_are_those_of_the_function(origin, rng):
    layer = LocalFrameAverage(PatchNetwork(), k=4, origin=origin)
    points = determined(rng, 1, 4)[0, :7].requires_grad_()
    assert gradcheck(layer, points)
    # control: frames as constants give another gradient
    detached = LocalFrameAverage(layer.backbone, k=4, origin=origin, detach=True)
    torch.testing.assert_close(detached(points), layer(points))
    exact, wrong = (grad(map(points).square().sum(), points)[0] for map in (layer, detached))
    assert (exact - wrong).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_dtypes_follow_the_points(dtype, rng):
    points = torch.randn(2, 9, 3, generator=rng)
    frames = local_frames(points.to(dtype), 5)
    assert frames.frames.dtype == frames.centroid.dtype == frames.gap.dtype == torch.float32
    layer = LocalFrameAverage(PatchNetwork(), k=5).to(dtype)
    assert layer(points.to(dtype)).dtype == dtype


def test_odd_layouts_are_read_as_others(rng):
    layer = LocalFrameAverage(PatchNetwork(), k=4)
    strided = torch.randn(3, 3, 9, dtype=torch.float64, generator=rng).mT
    torch.testing.assert_close(layer(strided), layer(strided.contiguous()))
    expanded = strided[0].expand(2, 9, 3)
    torch.testing.assert_close(layer(expanded), layer(expanded.contiguous()))


COMPILED = """
import torch
from torch import nn
from eqlib.frames import LocalFrameAverage, Patches, nearest_patches

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3).double()

    def forward(self, points):
        return self.linear(points).tanh().mean(-2)

class Local(nn.Module):
    def __init__(self, group):
        super().__init__()
        self.average = LocalFrameAverage(Network(), group, k=5)

    def forward(self, points, nodes, exists):
        return self.average(points, neighbours=Patches(nodes, exists))

points = torch.randn(4, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
patches = nearest_patches(points, 5)
function, inputs = Local("E(3) about z"), (points, *patches)
compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
for size in (4, 3):
    part = [tensor[:size].detach() for tensor in inputs]
    part[0].requires_grad_()
    torch.testing.assert_close(compiled(*part), function(*part))
    first, second = (
        torch.autograd.grad(f(*part).square().sum(), part[0])[0] for f in (compiled, function)
    )
    torch.testing.assert_close(first, second)
exported = torch.export.export(function, inputs)
torch.testing.assert_close(exported.module()(*inputs), function(*inputs))
"""


@pytest.mark.slow
def test_frames_of_given_patches_and_with_a_fixed_axis_compile_to_one_graph():
    # In a process of its own: the checks of annotations in the tests do not compile.
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", COMPILED], check=True, cwd=root)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: local_frames(p, 0), ValueError, "k: expected at least one point.*, got 0"),
        (lambda p: local_frames(p, origin="mean"), ValueError, "origin: expected .*'mean'"),
        (lambda p: local_frames(p.long()), TypeError, "points: expected floating-point"),
        (lambda p: local_frames(p[0, 0]), ValueError, r"points: expected shape"),
        (lambda p: local_frames(p, group="Permutations()"), ValueError, "group: expected"),
        (
            lambda p: local_frames(p, neighbours=torch.tensor([[9], [0]])),
            ValueError,
            r"edge_index: expected nodes 0 \.\.\. 4, got 0 \.\.\. 9",
        ),
        (lambda p: local_frames(p, mask=torch.ones(4, 5)), TypeError, "mask: expected booleans"),
        (lambda p: LocalFrameAverage(mlp(), k=0), ValueError, "k: expected at least one"),
        (lambda p: LocalFrameAverage(mlp(), origin="x"), ValueError, "origin: expected"),
        (lambda p: LocalFrameAverage(mlp())(p, points=p), TypeError, "1 by position and points"),
        (lambda p: LocalFrameAverage(mlp())(), TypeError, "points: expected a tensor"),
        (
            lambda p: LocalFrameAverage(mlp(), "E(3)", signature=fields_signature("SE(3)")),
            ValueError,
            r"group: E\(3\) is not that of the signature",
        ),
    ],
    ids=lambda value: "" if callable(value) else str(value)[:12],
)
def test_what_cannot_be_is_refused(call, error, message, rng):
    with pytest.raises(error, match=message):
        call(torch.randn(4, 5, 3, dtype=torch.float64, generator=rng))
