"""Weighted frames: values, layouts, draws, derivatives and options."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck

from eqlib.frames import FrameAverage, pca_frames, weighted_frames
from eqlib.symmetry import Point, Signature, as_group, assert_equivariant, equivariance_error
from tests.frames.clouds import GROUPS, mlp, separated
from tests.frames.constructions.definition import Network, average, averaged, isotropic

SIMILAR = [*GROUPS, "Similarity(2)", "Similarity(3)"]


def partly_open(dimension=3):
    """A cloud of which all kinds of frames have a share."""
    widths = torch.tensor([1.02, 1.04, 1.0], dtype=torch.float64)
    return (isotropic(6, 11) * widths)[:, :dimension] + 0.5


def ramp(gap, threshold):
    u = min(gap / threshold, 1.0)
    return u * u * (3 - 2 * u)


def reference(points, threshold, reflections):
    """Frames and weights in 3-D, one by one: the definition."""
    x = points - points.mean(0)
    values, vectors = np.linalg.eigh(x.T @ x)
    lower, upper = (ramp(gap, threshold) for gap in np.diff(values) / values.sum())

    def complete(first, second):
        second = second - (second @ first) * first
        second = second / np.linalg.norm(second)
        return np.stack([first, second, np.cross(first, second)], -1)

    entries = [(lower * upper, complete(vectors[:, 2], vectors[:, 1]), False)]
    for mass, axis in (
        ((1 - lower) * upper, vectors[:, 2]),
        (lower * (1 - upper), vectors[:, 0]),
    ):
        normal = x - np.outer(x @ axis, axis)
        total = (normal**2).sum()
        entries += [(mass * (p @ p) / total, complete(axis, p), False) for p in normal]
    crosses = {
        (i, j): (np.cross(x[i], x[j]) ** 2).sum()
        for i, j in itertools.permutations(range(len(x)), 2)
    }
    for (i, j), cross in crosses.items():
        weight = (1 - lower) * (1 - upper) * cross / sum(crosses.values())
        entries.append((weight, complete(x[i] / np.linalg.norm(x[i]), x[j]), True))
    for weight, frame, is_pair in entries:
        signs = [
            sign
            for sign in itertools.product([1, -1], repeat=3)
            if (reflections or np.prod(sign) == 1) and (not is_pair or sign[0] == sign[1])
        ]
        yield from ((frame * np.array(sign), weight / len(signs)) for sign in signs)


@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
def test_averages_are_those_of_the_definition(group):
    points, threshold = partly_open(), 0.08

    def function(y):
        return np.tanh(y @ np.array([1.0, 2.0, 3.0])).sum() + np.sin(y[0, 0] * y[1, 1] + y[2, 2])

    frames = weighted_frames(points, group, threshold=threshold)
    centred = points.numpy() - points.numpy().mean(0)
    pairs = zip(frames.frames.numpy(), frames.weights.numpy(), strict=True)
    found = sum(weight * function(centred @ frame) for frame, weight in pairs)
    listed = list(reference(points.numpy(), threshold, group == "E(3)"))
    expected = sum(weight * function(centred @ frame) for frame, weight in listed)
    np.testing.assert_allclose(sum(weight for _, weight in listed), 1, rtol=1e-12)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert len(frames.weights) == len(listed)
    # control: the order of the frames is not what makes them agree
    wrong = sum(function(centred @ frame) for frame, _ in listed) / len(listed)
    assert abs(wrong - expected) > 1e-6


@pytest.mark.parametrize("group", SIMILAR)
def test_frames_are_group_elements_and_weights_sum_to_one(group, rng):
    dimension = as_group(group).dimension
    points = torch.cat([separated(rng, 2, 6, dimension=dimension), partly_open(dimension)[None]])
    frames = weighted_frames(points, group)
    assert (frames.cloud.diff() >= 0).all()
    total = torch.zeros(3, dtype=torch.float64).index_add(0, frames.cloud, frames.weights)
    torch.testing.assert_close(total, torch.ones_like(total))
    inverse = frames.frames.mT if frames.inverse is None else frames.inverse
    eye = torch.eye(dimension, dtype=torch.float64).expand_as(frames.frames)
    torch.testing.assert_close(inverse @ frames.frames, eye)
    scale = 1.0
    if group.startswith("Similarity"):
        radius = (points - points.mean(1, keepdim=True)).square().sum((1, 2)).div(6).sqrt()
        scale = radius[frames.cloud, None, None]
    torch.testing.assert_close(frames.frames.mT @ frames.frames, eye * scale**2)
    handedness = torch.linalg.det(frames.frames).sign().unique().tolist()
    assert handedness == ([-1.0, 1.0] if as_group(group).reflections else [1.0])


@pytest.mark.parametrize("group", SIMILAR)
def test_clouds_with_open_gaps_have_their_principal_frames(group, rng):
    points = separated(rng, 3, 8, dimension=as_group(group).dimension)
    expected = pca_frames(points, group)
    assert expected.gap.min() > 0.02
    frames = weighted_frames(points, group, threshold=0.02)
    count = expected.frames.shape[1]
    torch.testing.assert_close(frames.frames, expected.frames.flatten(0, 1))
    assert frames.cloud.tolist() == [cloud for cloud in range(3) for _ in range(count)]
    torch.testing.assert_close(frames.weights, torch.full_like(frames.weights, 1 / count))
    torch.testing.assert_close(frames.gap, expected.gap)
    torch.testing.assert_close(frames.centroid, expected.centroid)


@pytest.mark.parametrize("group", ["SE(3)", "O(3)", "SE(2)", "Similarity(3)"])
def test_ragged_masked_and_single_clouds_agree(group, rng):
    dimension = as_group(group).dimension
    clouds = [
        points[:, :dimension]
        for points in (
            torch.zeros(0, 3).double(),
            partly_open(),
            isotropic(8, 12),
            torch.ones(1, 3).double(),
            separated(rng, 5),
            torch.arange(4.0)[:, None].double() * torch.tensor([1.0, 2.0, 3.0]),
        )
    ]
    sizes = torch.tensor([len(points) for points in clouds])
    batch = torch.arange(6).repeat_interleave(sizes)
    ragged = weighted_frames(torch.cat(clouds), group, batch=batch, num_graphs=6)
    padded = torch.full((2, 3, 8, dimension), torch.nan, dtype=torch.float64)
    mask = (torch.arange(8) < sizes[:, None]).reshape(2, 3, 8)
    padded[mask] = torch.cat(clouds)
    masked = weighted_frames(padded, group, mask)
    assert masked.gap.shape == (2, 3)
    assert masked.centroid.shape == (2, 3, dimension)
    for index, points in enumerate(clouds):
        alone = weighted_frames(points, group)
        for frames in (ragged, masked):
            rows = frames.cloud == index
            assert torch.equal(frames.cloud[rows], alone.cloud + index)
            squares = torch.einsum(
                "kij,kil,k->jl", *2 * [frames.frames[rows]], frames.weights[rows]
            )
            expected = torch.einsum("kij,kil,k->jl", *2 * [alone.frames], alone.weights)
            torch.testing.assert_close(squares, expected)
            for name in ("centroid", "gap", "spread"):
                part = getattr(frames, name).reshape(6, *getattr(alone, name).shape)
                torch.testing.assert_close(part[index], getattr(alone, name))


def test_batches_of_clouds_have_the_averages_of_their_clouds(rng):
    network = Network()
    clouds = torch.stack([partly_open(), isotropic(6, 3), separated(rng, 6)])
    together = averaged("weighted", "E(3)", network, clouds)
    for index in range(3):
        alone = averaged("weighted", "E(3)", network, clouds[index : index + 1])
        for whole, part in zip(together, alone, strict=True):
            torch.testing.assert_close(whole[index], part[0], rtol=1e-12, atol=1e-12)


def test_nodes_in_any_order_and_with_channels_belong_to_their_graph():
    points, network = torch.stack([isotropic(6, 3), partly_open()]), Network()
    expected = average(network, points, weighted_frames(points))
    channels = points.reshape(6, 2, 3)
    frames = weighted_frames(channels, batch=torch.tensor([0, 0, 0, 1, 1, 1]))
    torch.testing.assert_close(average(network, points, frames), expected)
    mixed = points.transpose(0, 1).reshape(12, 3)
    frames = weighted_frames(mixed, batch=torch.tensor([0, 1] * 6), num_graphs=2)
    torch.testing.assert_close(average(network, points, frames), expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf], ids=str)
@pytest.mark.parametrize("samples", [None, 3], ids=str)
def test_a_bad_coordinate_spoils_its_own_cloud_only(samples, bad):
    points = torch.stack([partly_open(), isotropic(6, 3), isotropic(6, 4)])
    broken = points.clone()
    broken[1, 2, 0] = bad

    def outputs(clouds):
        generator = torch.Generator().manual_seed(1)
        clouds = clouds.clone().requires_grad_()
        frames = weighted_frames(clouds, samples=samples, generator=generator)
        kept = frames.cloud != 1
        total = (frames.frames[kept].sum(-1) * frames.weights[kept, None]).square().sum()
        return frames, (frames.frames[kept], frames.weights[kept], grad(total, clouds)[0][[0, 2]])

    (_, expected), (frames, found) = outputs(points), outputs(broken)
    for whole, part in zip(expected, found, strict=True):
        assert torch.equal(whole, part)
    assert frames.frames[frames.cloud == 1].isnan().all()
    assert frames.gap.isnan().tolist() == [False, True, False]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # of forward mode
@pytest.mark.parametrize("group", ["SE(3)", "E(2)"])
@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_are_right_where_all_kinds_of_frames_mix(order, group):
    dimension = as_group(group).dimension
    network = Network(dimension)

    def outputs(points):
        fields = average(network, points, weighted_frames(points, group, threshold=0.1))
        return fields.scalar[:, -1], fields.point[:, -1]

    points = partly_open(dimension)[None, :4].requires_grad_()
    check = gradcheck if order == 1 else gradgradcheck
    forward = "check_forward_ad" if order == 1 else "check_fwd_over_rev"
    assert check(outputs, points, atol=1e-5, rtol=1e-3, **{forward: True})


def test_detached_frames_are_constants():
    points = partly_open().requires_grad_()
    attached, detached = (weighted_frames(points, detach=choice) for choice in (False, True))
    torch.testing.assert_close(attached, detached)
    for name in ("frames", "weights", "gap", "axis", "spread"):
        assert getattr(attached, name).requires_grad
        assert not getattr(detached, name).requires_grad
    assert detached.centroid.requires_grad
    similar = weighted_frames(points, "Similarity(3)", detach=True)
    assert not similar.inverse.requires_grad


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("opened", ["pairs", "points"])
def test_draws_have_the_full_average_and_gradient_in_expectation(opened, dimension):
    widths = torch.tensor([1.0, 1.0, 1.01 if opened == "pairs" else 1.6], dtype=torch.float64)
    group, network = f"SE({dimension})", Network(dimension)
    points = (isotropic(7, 5) * widths)[:, :dimension].clone().requires_grad_()
    copies, generator = 1500, torch.Generator().manual_seed(3)

    def outputs(clouds, **options):
        fields = average(network, clouds, weighted_frames(clouds, group, **options))
        means = torch.cat([fields.scalar[:, -1], fields.vector[:, -1]], -1)
        slopes = grad((means * torch.arange(1.0, dimension + 2)).sum(), clouds)[0]
        return torch.cat([means, slopes.flatten(1)], -1).detach()

    expected = outputs(points[None])[0]
    clouds = points.detach().expand(copies, *points.shape).clone().requires_grad_()
    drawn = outputs(clouds, samples=3, generator=generator)
    deviation = (drawn.mean(0) - expected) / (drawn.std(0) / copies**0.5 + 1e-12)
    assert deviation.abs().max() < 4.5
    # control: single draws differ
    assert (drawn - expected).abs().max() > 1e-3


def test_draws_bound_the_number_of_frames_and_follow_the_generator():
    clouds = torch.stack([isotropic(40, seed) for seed in range(3)])
    frames = [
        weighted_frames(clouds, samples=5, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.bincount(frames[0].cloud).tolist() == 3 * [2 * 5]
    assert all(torch.equal(a, b) for a, b in zip(frames[0][:3], frames[1][:3], strict=True))
    assert not torch.equal(frames[0].frames, frames[2].frames)
    total = torch.zeros(3, dtype=torch.float64).index_add(0, frames[0].cloud, frames[0].weights)
    torch.testing.assert_close(total, torch.ones_like(total))
    few = weighted_frames(clouds[:, :4], samples=12)
    torch.testing.assert_close(few, weighted_frames(clouds[:, :4]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_low_precision_clouds_have_float32_frames(dtype):
    points = partly_open().to(dtype)
    frames = weighted_frames(points)
    exact = weighted_frames(points.double())
    for part, expected in zip(frames, exact, strict=True):
        if part is not None and part.is_floating_point():
            assert part.dtype == torch.float32
            torch.testing.assert_close(part, expected.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(weighted_frames(points), frames, rtol=0, atol=0)


@pytest.mark.parametrize("scale", [1e-200, 1e200], ids=str)
def test_scale_does_not_matter(scale):
    clouds = torch.stack([partly_open(), isotropic(6, 3)])
    frames, scaled = weighted_frames(clouds), weighted_frames(clouds * scale)
    torch.testing.assert_close(scaled.frames, frames.frames)
    torch.testing.assert_close(scaled.weights, frames.weights)


def test_strides_do_not_matter():
    clouds, network = torch.stack([partly_open(), isotropic(6, 3)]), Network()
    expected = average(network, clouds, weighted_frames(clouds))
    strided = average(network, clouds, weighted_frames(clouds.mT.contiguous().mT))
    torch.testing.assert_close(strided, expected)
    repeated = averaged("weighted", "SE(3)", network, clouds[:1].expand(3, -1, -1))
    torch.testing.assert_close(repeated.point[1], expected.point[0])


@pytest.mark.parametrize("group", ["SE(3)", "E(2)", "Similarity(3)"])
@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (0, 0)], ids=str)
def test_empty_batches_and_clouds_have_frames(shape, group):
    frames = weighted_frames(torch.zeros(*shape, as_group(group).dimension), group)
    assert frames.gap.shape == shape[:1]
    assert frames.cloud.unique().tolist() == list(range(shape[0]))


def test_soft_signs_list_fewer_principal_frames(rng):
    points = separated(rng, 200, 20)
    every, soft = (
        weighted_frames(points, threshold=0.02, signs=signs) for signs in ("all", "soft")
    )
    assert len(soft.cloud) < 0.6 * len(every.cloud)
    centred = torch.cat([points, -points], dim=1)  # symmetric about the origin: no sign leads
    every, soft = (weighted_frames(centred, signs=signs) for signs in ("all", "soft"))
    torch.testing.assert_close(soft, every)


@pytest.mark.parametrize("group", ["SE(3)", "E(3)", "SE(2)", "Similarity(3)"])
def test_any_network_becomes_equivariant_at_symmetric_clouds(group, rng):
    dimension = as_group(group).dimension
    signature = Signature(as_group(group), {"points": Point()}, Point())
    layer = FrameAverage(mlp(dimension, dimension), mode="weighted", signature=signature)
    points = torch.stack([isotropic(6, 3), partly_open(), separated(rng, 6)])[..., :dimension]
    assert_equivariant(layer, {"points": points}, generator=rng)
    # control: principal frames are none for these clouds
    plain = FrameAverage(mlp(dimension, dimension), mode="full", signature=signature)
    if dimension == 3:
        assert equivariance_error(plain, {"points": points}, generator=rng).max > 1e-2


def test_a_network_that_changes_nothing_returns_clouds_of_every_shape(rng):
    rod = separated(rng, 6) * torch.tensor([1.0, 0.01, 0.01])
    clouds = torch.stack([isotropic(6, 3), partly_open(), rod])
    layer = FrameAverage(lambda points: points, "SE(3)", mode="weighted")
    torch.testing.assert_close(layer(clouds), clouds)


COMPILED = """
import torch
from eqlib.frames import minimal_frames, weighted_frames

torch._dynamo.config.capture_dynamic_output_shape_ops = True  # the number of frames
cube = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0])]).double()
line = torch.arange(8.0)[:, None].double() * torch.tensor([1.0, 2.0, 3.0])
noise = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
clouds = torch.stack([cube, noise, line, 0 * cube])

def total(points, function):
    frames = function(points, "SE(3)")
    return (frames.frames.sum((1, 2)).tanh() * frames.weights).square().sum() + frames.gap.sum()

for function in (minimal_frames, weighted_frames):
    compiled = torch.compile(total, fullgraph=True, backend="aot_eager", dynamic=True)
    for points in (clouds, clouds[:2]):
        points = points.clone().requires_grad_()
        expected, found = total(points, function), compiled(points, function)
        torch.testing.assert_close(found, expected)
        first, second = (torch.autograd.grad(x, points)[0] for x in (expected, found))
        torch.testing.assert_close(second, first)
"""


@pytest.mark.slow
def test_frames_compile_to_one_graph():
    # In a process of its own: the checks of annotations in the tests do not compile.
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", COMPILED], check=True, cwd=root)


CLOUD = torch.zeros(4, 3)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("points", "group", "options", "error", "message"),
    [
        (torch.zeros(4, 4), "SE(4)", {}, ValueError, "exist in 2 and 3 dimensions, got SE"),
        (CLOUD, "GL(3)", {}, ValueError, r"group: expected SO.*got GL\(3\)"),
        (CLOUD, "Permutations()", {}, ValueError, "group: expected SO"),
        (CLOUD, "SE(2)", {}, ValueError, r"\(..., nodes, 2\) for SE\(2\), got \(4, 3\)"),
        (CLOUD.long(), "SE(3)", {}, TypeError, "floating-point coordinates, got torch.int64"),
        (CLOUD, "SE(3)", {"mask": torch.ones(4)}, TypeError, r"convert with .bool\(\)"),
        (CLOUD, "SE(3)", {"threshold": 0.0}, ValueError, "above 0, at most 0.333333, got 0.0"),
        (CLOUD, "SE(3)", {"threshold": 0.5}, ValueError, "above 0, at most 0.333333, got 0.5"),
        (CLOUD, "SE(3)", {"signs": "none"}, ValueError, "expected 'all' or 'soft', got 'none'"),
        (CLOUD, "SE(3)", {"samples": 0}, ValueError, "at least one point or pair, or None, got 0"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_wrong_arguments_are_refused(points, group, options, error, message):
    with pytest.raises(error, match=message):
        weighted_frames(points, group, **options)
