"""Minimal frames: few, equivariant, continuous, and blind to the order of the points."""

import numpy as np
import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck

from eqlib.frames import FrameAverage, RaggedFrames, minimal_frames, pca_frames
from eqlib.symmetry import (
    NodeOrder,
    Permutations,
    Point,
    Signature,
    as_group,
    assert_equivariant,
    equivariance_error,
)
from tests.frames.clouds import GROUPS, mlp
from tests.frames.constructions.definition import (
    Network,
    average,
    averaged,
    equivariance,
    isotropic,
)
from tests.tolerances import EQUIVARIANCE

EVERY = [*GROUPS, "SE(4)", "E(5)", "Similarity(2)", "Similarity(3)", "Similarity(4)"]


def skewed(rng, *shape, dimension=3):
    """Clouds without any symmetry, with well separated variances."""
    points = torch.rand(*shape, dimension, dtype=torch.float64, generator=rng).pow(3)
    return points * torch.arange(dimension, 0, -1.0, dtype=torch.float64)


def counts(frames):
    return torch.bincount(frames.cloud)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("group", EVERY)
def test_averages_commute_with_the_group_and_with_permutations(group, dtype, rng):
    width = as_group(group).dimension
    for points in skewed(rng, 2, 60, dimension=width):
        assert pca_frames(points, group).gap > 2e-2
        error = equivariance("minimal", group, points.to(dtype), rng, reach=3.0)
        assert error < 10 * EQUIVARIANCE[dtype]  # absolute, of coordinates up to 10


@pytest.mark.parametrize("group", ["SE(3)", "O(3)", "E(2)", "SE(4)"])
def test_weights_are_those_of_the_definition(group, rng):
    kind, threshold = as_group(group), 0.3
    width = kind.dimension
    points = torch.randn(9, width, dtype=torch.float64, generator=rng)
    points = points * torch.arange(1.0, width + 1)
    frames = minimal_frames(points, group, threshold=threshold)
    x = points.numpy() - (points.numpy().mean(0) if kind.translations else 0)
    free = width if kind.reflections else width - 1
    for frame, weight in zip(frames.frames.numpy(), frames.weights.numpy(), strict=True):
        y = x @ frame  # the skewness along an axis of a frame has the sign of the axis
        spread = (y**2).mean(0) + threshold**2 * (y**2).mean(0).sum()
        # The mean square of all coordinates together is one.
        ratio = np.clip((y**3).mean(0) / spread**1.5 / threshold, -1, 1)
        lean = ratio * (3 - ratio**2) / 2
        np.testing.assert_allclose(weight, np.prod((1 + lean[:free]) / 2), rtol=1e-10)
    assert len(frames.weights) > 1
    np.testing.assert_allclose(frames.weights.sum(), 1, rtol=1e-12)


@pytest.mark.parametrize("group", EVERY)
def test_frames_are_some_of_the_principal_ones(group, rng):
    width = as_group(group).dimension
    points = torch.randn(20, 9, width, dtype=torch.float64, generator=rng)
    frames, full = minimal_frames(points, group), pca_frames(points, group)
    largest = full.frames.shape[-3]
    assert counts(frames).min() >= 1
    assert counts(frames).max() <= largest
    assert len(frames.cloud) < 0.7 * 20 * largest
    distances = (frames.frames[:, None] - full.frames[frames.cloud]).abs().amax((-2, -1))
    assert (distances.amin(-1) < 1e-12).all()
    torch.testing.assert_close(frames.gap, full.gap)
    torch.testing.assert_close(frames.centroid, full.centroid)
    total = torch.zeros(20, dtype=torch.float64).index_add(0, frames.cloud, frames.weights)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_random_clouds_have_few_frames():
    rng = torch.Generator().manual_seed(0)
    points = torch.randn(500, 20, 3, dtype=torch.float64, generator=rng)
    assert counts(minimal_frames(points, "SE(3)")).bincount().tolist() == [0, 324, 154, 0, 22]
    sizes = counts(minimal_frames(points, "E(3)")).bincount().tolist()
    assert sizes == [0, 253, 199, 0, 42, 0, 0, 0, 6]


@pytest.mark.parametrize("group", EVERY)
def test_centrally_symmetric_clouds_keep_all_signs(group, rng):
    half = torch.randn(5, 7, as_group(group).dimension, dtype=torch.float64, generator=rng)
    frames = minimal_frames(torch.cat([half, -half], dim=1), group)
    full = pca_frames(torch.cat([half, -half], dim=1), group)
    assert (counts(frames) == full.frames.shape[-3]).all()
    torch.testing.assert_close(frames.frames, full.frames.flatten(0, 1))


@pytest.mark.parametrize("group", ["SE(3)", "E(3)", "SO(3)", "E(2)"])
@pytest.mark.parametrize("kind", ["symmetric", "planar", "skewed"])
def test_averages_are_continuous_where_the_gap_is_open(kind, group, rng):
    width = as_group(group).dimension
    points = skewed(rng, 8, dimension=width)
    if kind == "symmetric":
        points = torch.cat([points, -points])
    elif kind == "planar":
        points = points * torch.tensor([1.0, 1.0, 0.0])[-width:] ** (width == 3)
    assert pca_frames(points, group).gap > 1e-2
    network = Network(width)
    noise = torch.randn(3, *points.shape, dtype=torch.float64, generator=rng)
    here = averaged("minimal", group, network, points[None])
    for step in (1e-3, 1e-5, 1e-7):
        there = averaged("minimal", group, network, points + step * noise)
        for before, after in zip(here, there, strict=True):
            assert (after - before).abs().max() < 100 * step


def one_frame(rule):
    """A function that keeps one principal frame, with signs by a rule."""

    def frames(points, group, mask=None, batch=None, num_graphs=None):
        full = pca_frames(points, group, mask, batch, num_graphs)
        centred = points - full.centroid[..., None, :]
        chosen = (full.axes * rule(full.axes, centred))[..., None, :, :]
        return full._replace(frames=chosen, signs=None, inverse=None)

    return frames


def by_entries(axes, centred):
    return axes.sum(-2, keepdim=True).sign()


def by_first_point(axes, centred):
    return (centred[..., :1, :] @ axes).sign()


@pytest.mark.parametrize(
    ("rule", "accepted"),
    [("minimal", True), (by_entries, False), (by_first_point, False)],
    ids=["minimal", "by entries", "by first point"],
)
def test_control_signs_by_entries_or_by_one_point_are_rejected(rule, accepted, rng):
    # Signs by entries depend on the coordinates of space, signs by a point on the order of points.
    group = as_group("O(3)") * Permutations()
    signature = Signature(
        group, {"points": Point() * NodeOrder(-2)}, {"output": Point() * NodeOrder(-2)}
    )
    network = mlp()
    mode = "minimal" if accepted else one_frame(rule)
    layer = FrameAverage(lambda points: {"output": network(points)}, mode=mode, signature=signature)
    inputs = {"points": skewed(rng, 8, 6)}
    error = equivariance_error(layer, inputs, samples=16, generator=rng).max
    assert error < 1e-12 if accepted else error > 1e-2


@pytest.mark.parametrize("group", ["SE(3)", "E(3)", "SE(2)", "Similarity(3)", "SE(4)"])
def test_any_network_becomes_equivariant(group, rng):
    width = as_group(group).dimension
    signature = Signature(as_group(group), {"points": Point()}, Point())
    layer = FrameAverage(mlp(width, width), mode="minimal", signature=signature)
    inputs = {"points": skewed(rng, 4, 7, dimension=width)}
    assert_equivariant(layer, inputs, generator=rng)
    bare = equivariance_error(lambda points: layer.backbone(points), inputs, signature)
    assert bare.max > 1e-2


@pytest.mark.parametrize("group", ["SE(3)", "O(2)", "Similarity(3)"])
def test_ragged_masked_and_single_clouds_agree(group, rng):
    width = as_group(group).dimension
    sizes = [0, 5, 0, 8, 1, 6]
    points = skewed(rng, sum(sizes), dimension=width)
    batch = torch.arange(6).repeat_interleave(torch.tensor(sizes))
    ragged = minimal_frames(points, group, batch=batch, num_graphs=6)
    padded = torch.full((6, 8, width), torch.nan, dtype=torch.float64)
    mask = torch.arange(8) < torch.tensor(sizes)[:, None]
    padded[mask] = points
    masked = minimal_frames(padded, group, mask)
    for index, cloud in enumerate(points.split(sizes)):
        alone = minimal_frames(cloud, group)
        for frames in (ragged, masked):
            rows = frames.cloud == index
            assert rows.sum() == len(alone.cloud)
            if alone.gap > 1e-3:
                outer = torch.einsum(
                    "kij,kil,k->jl", *2 * [frames.frames[rows]], frames.weights[rows]
                )
                expected = torch.einsum("kij,kil,k->jl", *2 * [alone.frames], alone.weights)
                torch.testing.assert_close(outer, expected)
                mean = (frames.weights[rows, None, None] * frames.frames[rows]).sum(0)
                expected = (alone.weights[:, None, None] * alone.frames).sum(0)
                torch.testing.assert_close(mean, expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf], ids=str)
def test_a_bad_coordinate_spoils_its_own_cloud_only(bad, rng):
    points = skewed(rng, 3, 6)
    broken = points.clone()
    broken[1, 2, 0] = bad

    def outputs(clouds):
        clouds = clouds.clone().requires_grad_()
        frames = minimal_frames(clouds)
        kept = frames.cloud != 1
        total = (frames.frames[kept].sum(-1) * frames.weights[kept, None]).square().sum()
        slopes = grad(total, clouds)[0][[0, 2]]
        return frames, (frames.frames[kept], frames.weights[kept], slopes)

    (_, expected), (frames, found) = outputs(points), outputs(broken)
    assert all(torch.equal(whole, part) for whole, part in zip(expected, found, strict=True))
    assert frames.frames[frames.cloud == 1].isnan().all()
    assert frames.gap.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("group", ["SE(3)", "E(2)", "SE(4)"])
@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_are_right_where_the_gap_is_open(order, group):
    width = as_group(group).dimension
    network, rng = Network(width), torch.Generator().manual_seed(5)

    def outputs(points):
        fields = average(network, points, minimal_frames(points, group, threshold=0.9))
        return fields.scalar[:, -1], fields.point[:, -1]

    points = skewed(rng, 1, 5, dimension=width).requires_grad_()
    assert len(minimal_frames(points, group, threshold=0.9).cloud) > 1
    check = gradcheck if order == 1 else gradgradcheck
    assert check(outputs, points, atol=1e-5, rtol=1e-3)


def test_forces_are_the_negative_gradient_of_the_energy(rng):
    def energy(points, **options):
        return averaged("minimal", "E(3)", network, points, **options).scalar.sum()

    network, points = Network(), skewed(rng, 1, 5).requires_grad_()
    step = 1e-6 * torch.randn(points.shape, dtype=torch.float64, generator=rng)
    with torch.no_grad():
        expected = energy(points + step) - energy(points - step)
    found = 2 * (grad(energy(points), points)[0] * step).sum()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    # control: with detached frames the energy is the same, and its slope is wrong
    torch.testing.assert_close(energy(points, detach=True), energy(points))
    wrong = 2 * (grad(energy(points, detach=True), points)[0] * step).sum()
    assert (wrong - expected).abs() > 1e-2 * expected.abs()


def test_detached_frames_are_constants(rng):
    points = skewed(rng, 6).requires_grad_()
    attached = minimal_frames(points, threshold=1.0)
    detached = minimal_frames(points, threshold=1.0, detach=True)
    torch.testing.assert_close(attached, detached)
    for name in ("frames", "weights", "gap"):
        assert getattr(attached, name).requires_grad
        assert not getattr(detached, name).requires_grad
    assert detached.centroid.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_low_precision_clouds_have_float32_frames(dtype, rng):
    points = skewed(rng, 3, 9).to(dtype)
    frames, exact = minimal_frames(points), minimal_frames(points.double())
    assert isinstance(frames, RaggedFrames)
    for part, expected in zip(frames, exact, strict=True):
        if part is not None and part.is_floating_point():
            assert part.dtype == torch.float32
            torch.testing.assert_close(part, expected.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(minimal_frames(points), frames, rtol=0, atol=0)


@pytest.mark.parametrize("group", ["SE(3)", "E(2)", "Similarity(3)"])
@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (0, 0)], ids=str)
def test_empty_batches_and_clouds_have_frames(shape, group):
    frames = minimal_frames(torch.zeros(*shape, as_group(group).dimension), group)
    assert frames.gap.shape == shape[:1]
    assert frames.cloud.unique().tolist() == list(range(shape[0]))


def test_clouds_without_extent_have_all_signs_of_the_coordinate_axes():
    for points in (torch.zeros(0, 3), torch.ones(1, 3), torch.ones(5, 3)):
        frames = minimal_frames(points, "SE(3)")
        assert frames.frames.abs().unique().tolist() == [0, 1]
        torch.testing.assert_close(frames.frames.sum(0), torch.zeros(3, 3))
        assert frames.weights.tolist() == 4 * [0.25]


def test_equal_variances_are_as_for_principal_frames(rng):
    # There the axes are arbitrary, so that the frames are not equivariant; the gap says so.
    cloud = isotropic(9, 1)
    assert minimal_frames(cloud).gap < 1e-12
    assert equivariance("minimal", "SE(3)", cloud, rng) > 1e-2


CLOUD = torch.zeros(4, 3)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("points", "group", "options", "error", "message"),
    [
        (CLOUD, "GL(3)", {}, ValueError, r"group: expected SO.*got GL\(3\)"),
        (CLOUD, "SE(2)", {}, ValueError, r"\(..., nodes, 2\) for SE\(2\), got \(4, 3\)"),
        (CLOUD.long(), "SE(3)", {}, TypeError, "floating-point coordinates, got torch.int64"),
        (CLOUD, "SE(3)", {"batch": torch.zeros(3).long()}, ValueError, "one graph per node"),
        (CLOUD, "SE(3)", {"threshold": 0.0}, ValueError, "above 0, at most 1, got 0.0"),
        (CLOUD, "SE(3)", {"threshold": 1.5}, ValueError, "above 0, at most 1, got 1.5"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_wrong_arguments_are_refused(points, group, options, error, message):
    with pytest.raises(error, match=message):
        minimal_frames(points, group, **options)
