"""Principal frames: equivariant as a set, the same in every layout, defined for every cloud."""

import numpy as np
import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck

from eqlib.frames import pca_frames, scaling_frames
from eqlib.symmetry import Point, as_group
from tests.frames.averages import clouds_of_gap
from tests.frames.clouds import DEGENERATE, GROUPS, separated
from tests.tolerances import EQUIVARIANCE


def distance(first, second):
    """Largest distance of a frame in one set from the nearest frame in the other."""
    pairs = (first.unsqueeze(-3) - second.unsqueeze(-4)).abs().amax((-2, -1))
    return float(torch.maximum(pairs.amin(-1), pairs.amin(-2)).max())


def squares(points, group, **layout):
    """The frames without their signs, and the gap: smooth where the gap is not zero."""
    frames = pca_frames(points, group, **layout)
    return frames.axes.unsqueeze(-2) * frames.axes.unsqueeze(-3), frames.centroid, frames.gap


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
def test_frames_move_with_the_cloud(batch, group, dtype, rng):
    points = separated(rng, *batch, 9, dimension=as_group(group).dimension)
    frames = pca_frames(points.to(dtype), group)
    assert frames.gap.min() > 1e-2
    kinds = as_group(group).kinds
    motions = as_group(group).sample(rng, len(kinds), kinds=kinds, reach=10.0)
    for motion in (motions[i] for i in range(len(kinds))):
        moved = pca_frames(Point().act(motion, points).to(dtype), group)
        expected = motion.matrix @ frames.frames.double()
        assert distance(moved.frames, expected) < EQUIVARIANCE[dtype]
        torch.testing.assert_close(
            moved.centroid, Point().act(motion, frames.centroid), atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(moved.gap, frames.gap, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "group", ["SO(4)", "O(4)", "SE(5)", "E(6)", "Similarity(2)", "Similarity(3)"]
)
def test_frames_of_more_dimensions_and_similarities_move_with_the_cloud(group, rng):
    group = as_group(group)
    points = clouds_of_gap(rng, 3, 12, gap=0.02, dimension=group.dimension)
    points = points if group.translations else points - 0.5
    frames = pca_frames(points, group)
    count = 2**group.dimension if group.reflections else 2 ** (group.dimension - 1)
    assert frames.frames.shape == (3, count, group.dimension, group.dimension)
    if not group.reflections:
        determinants = torch.linalg.det(frames.frames)
        torch.testing.assert_close(determinants, torch.ones_like(determinants))
    motions = group.sample(rng, 6, kinds=group.kinds, reach=3.0)
    for motion in (motions[i] for i in range(6)):
        moved = pca_frames(Point().act(motion, points), group)
        assert distance(moved.frames, motion.matrix @ frames.frames) < 1e-11
        torch.testing.assert_close(moved.centroid, Point().act(motion, frames.centroid))
        if moved.inverse is not None:
            eye = torch.eye(group.dimension, dtype=torch.float64).expand_as(moved.frames)
            torch.testing.assert_close(moved.inverse @ moved.frames, eye)
    # control: frames of points that did not move
    assert distance(frames.frames, motions[5].matrix @ frames.frames) > 1e-2


@pytest.mark.parametrize("group", ["SE(4)", "Similarity(2)", "Similarity(3)"])
def test_derivatives_in_more_dimensions_and_of_scales_are_right(group, rng):
    points = clouds_of_gap(rng, 6, gap=0.05, dimension=as_group(group).dimension).requires_grad_()

    def outputs(points):
        frames = pca_frames(points, group)
        return frames.axes.unsqueeze(-2) * frames.axes.unsqueeze(-3), frames.scale

    assert gradcheck(outputs, points)
    assert gradgradcheck(outputs, points)


@pytest.mark.parametrize("layout", ["dense", "ragged"])
def test_scalings_have_one_frame(layout, rng):
    points = separated(rng, 6)
    ragged = {"batch": torch.zeros(6, dtype=torch.int64), "num_graphs": 2}
    frames = scaling_frames(points, **(ragged if layout == "ragged" else {}))
    radius = points.square().sum(-1).mean().sqrt()
    torch.testing.assert_close(frames.scale.flatten()[0], radius)
    assert frames.gap.flatten()[0] == 1
    if layout == "ragged":  # a graph without points
        assert frames.gap[1] == frames.scale[1] == 0
    with pytest.raises(ValueError, match=r"expected Scaling\(n\), got SE\(3\)"):
        scaling_frames(points, "SE(3)")


def test_control_signs_by_a_sum_do_not_move_with_the_cloud(rng):
    def summed_positive(points):
        frames = pca_frames(points, "O(3)").frames
        return frames * frames.sum(-2, keepdim=True).sign()

    points = separated(rng, 8, 9)
    motion = as_group("SO(3)").sample(rng)[0]
    moved, expected = summed_positive(points @ motion.matrix.mT), summed_positive(points)
    assert distance(moved, motion.matrix @ expected) > 1e-2


@pytest.mark.parametrize("group", GROUPS)
def test_frames_are_orthonormal_with_the_signs_of_the_group(group, rng):
    dimension = as_group(group).dimension
    frames = pca_frames(separated(rng, 4, 6, dimension=dimension), group).frames
    count = 2**dimension if as_group(group).reflections else 2 ** (dimension - 1)
    assert frames.shape == (4, count, dimension, dimension)
    eye = torch.eye(dimension, dtype=torch.float64).expand_as(frames)
    torch.testing.assert_close(frames.mT @ frames, eye)
    handedness = torch.linalg.det(frames).round()
    expected = [-1.0, 1.0] if as_group(group).reflections else [1.0]
    assert handedness.unique().tolist() == expected
    signs = frames[:, :1].mT @ frames
    assert len({tuple(sign.diagonal().round().tolist()) for sign in signs[0]}) == count


@pytest.mark.parametrize("group", ["SO(3)", "SE(3)", "O(2)", "E(2)"])
def test_axes_and_gap_are_those_of_a_singular_value_decomposition(group, rng):
    dimension = as_group(group).dimension
    points = separated(rng, 8, dimension=dimension)
    frames = pca_frames(points, group)
    centroid = points.mean(0).numpy() if as_group(group).translations else np.zeros(dimension)
    _, widths, rows = np.linalg.svd(points.numpy() - centroid)
    cosines = np.abs(np.einsum("ji,ij->j", rows, frames.axes.numpy()))
    np.testing.assert_allclose(cosines, np.ones(dimension), rtol=1e-12)
    np.testing.assert_allclose(frames.centroid.numpy(), centroid, rtol=1e-12)
    gap = np.min(-np.diff(widths**2)) / np.sum(widths**2)
    np.testing.assert_allclose(float(frames.gap), gap, rtol=1e-12)


@pytest.mark.parametrize("group", GROUPS)
def test_order_of_the_points_does_not_matter(group, rng):
    points = separated(rng, 9, dimension=as_group(group).dimension)
    order = torch.randperm(9, generator=rng)
    frames, shuffled = pca_frames(points, group), pca_frames(points[order], group)
    assert distance(frames.frames, shuffled.frames) < 1e-12


@pytest.mark.parametrize("group", GROUPS)
def test_ragged_masked_and_single_clouds_agree(group, rng):
    dimension = as_group(group).dimension
    sizes = [0, 5, 0, 8, 1, 0]
    points = separated(rng, sum(sizes), dimension=dimension)
    clouds = points.split(sizes)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    ragged = pca_frames(points, group, batch=batch, num_graphs=len(sizes))
    padded = torch.full((len(sizes), 8, dimension), torch.nan, dtype=torch.float64)
    mask = torch.arange(8) < torch.tensor(sizes)[:, None]
    padded[mask] = points
    masked = pca_frames(padded, group, mask=mask)
    for i, cloud in enumerate(clouds):
        alone = pca_frames(cloud, group)
        for frames in (ragged, masked):
            torch.testing.assert_close(frames.centroid[i], alone.centroid)
            torch.testing.assert_close(frames.gap[i], alone.gap)
            if alone.gap > 1e-3:
                assert distance(frames.frames[i], alone.frames) < 1e-12
    one_is_enough = group in ("SO(2)", "O(2)")
    assert (ragged.gap > 1e-3).tolist() == [False, True, False, True, one_is_enough, False]


def test_channels_of_a_node_are_points_of_its_graph(rng):
    points = separated(rng, 6, 4, 5)
    batch = torch.tensor([0, 0, 2, 2, 2, 2])
    frames = pca_frames(points, batch=batch, num_graphs=3)
    listed = pca_frames(points.flatten(0, 2), batch=batch.repeat_interleave(20), num_graphs=3)
    torch.testing.assert_close(frames, listed)


def test_number_of_graphs_is_read_from_the_batch(rng):
    points, batch = separated(rng, 6), torch.tensor([0, 0, 0, 2, 2, 2])
    assert len(pca_frames(points, batch=batch).gap) == 3
    assert len(pca_frames(points[:0], batch=batch[:0]).gap) == 0


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (torch.float32, 1e-30),
        (torch.float32, 1e30),
        (torch.float64, 1e-200),
        (torch.float64, 1e200),
    ],
    ids=str,
)
@pytest.mark.parametrize("layout", ["dense", "ragged"])
def test_scale_does_not_matter(layout, scale, dtype, rng):
    points = separated(rng, 6, dtype=dtype)
    ragged = {"batch": torch.zeros(6, dtype=torch.int64), "num_graphs": 1}
    options = ragged if layout == "ragged" else {}
    frames, scaled = pca_frames(points, **options), pca_frames(points * scale, **options)
    assert distance(frames.frames, scaled.frames) < EQUIVARIANCE[dtype]
    torch.testing.assert_close(frames.gap, scaled.gap)
    torch.testing.assert_close(frames.centroid * scale, scaled.centroid)


def test_small_gaps_keep_float32_frames_precise(rng):
    """Covariances in float32 would be 1e-5 off here: this is why they are in float64."""
    points = torch.linalg.qr(torch.randn(200, 3, dtype=torch.float64, generator=rng)).Q
    points = points - points.mean(0)
    points = torch.linalg.qr(points).Q * torch.tensor([1.0, 0.97, 0.5], dtype=torch.float64).sqrt()
    motion = as_group("SO(3)").sample(rng, 16)
    moved = points @ motion.matrix.mT
    frames = pca_frames(points.float())
    assert 5e-3 < frames.gap < 2e-2
    expected = motion.matrix[:, None] @ frames.frames.double()
    assert distance(pca_frames(moved.float()).frames, expected) < 2e-6


@pytest.mark.parametrize("length", [1e3, 1e6])
def test_far_clouds_lose_no_more_than_the_rounding_of_their_points(length, rng):
    points = separated(rng, 7)
    moved = points + length * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    frames, far = pca_frames(points), pca_frames(moved)
    assert distance(frames.frames, far.frames) < 100 * length * torch.finfo(torch.float64).eps


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_half_precision_points_get_float32_frames(dtype, rng):
    points = separated(rng, 6, dtype=dtype)
    frames = pca_frames(points)
    assert all(part.dtype == torch.float32 for part in frames if part is not None)
    torch.testing.assert_close(frames, pca_frames(points.float()))


def test_autocast_changes_nothing(rng):
    points = separated(rng, 2, 6, dtype=torch.float32)
    expected = pca_frames(points)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(pca_frames(points), expected, rtol=0, atol=0)


def test_strides_do_not_matter(rng):
    points = separated(rng, 2, 6)
    strided = points.mT.contiguous().mT
    assert not strided.is_contiguous()
    torch.testing.assert_close(pca_frames(strided), pca_frames(points))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("group", ["SO(3)", "O(3)", "SE(3)", "E(3)"])
@pytest.mark.parametrize("name", list(DEGENERATE))
def test_symmetric_clouds_have_frames_and_two_finite_derivatives(name, group, dtype, rng):
    points = DEGENERATE[name].to(dtype, copy=True).requires_grad_()
    frames = pca_frames(points, group)
    eye = torch.eye(3, dtype=dtype).expand_as(frames.frames)
    torch.testing.assert_close(frames.frames.mT @ frames.frames, eye)
    centred = "E" in group
    assert frames.gap < 1e-6 or name == "planar" or not centred
    weights = torch.randn(frames.frames.shape, generator=rng).to(dtype)
    total = (frames.frames * weights).sum() + frames.centroid.prod() + frames.gap
    (first,) = grad(total, points, create_graph=True)
    (second,) = grad(first.square().sum(), points)
    assert first.isfinite().all()
    assert second.isfinite().all()


@pytest.mark.parametrize("name", ["no point", "one point", "coincident", "at the origin"])
def test_clouds_without_extent_have_no_gap_and_coordinate_axes(name):
    frames = pca_frames(DEGENERATE[name])
    assert frames.gap == 0
    assert frames.frames.abs().unique().tolist() == [0, 1]
    expected = DEGENERATE[name].sum(0) / max(1, len(DEGENERATE[name]))
    torch.testing.assert_close(frames.centroid, expected)


@pytest.mark.parametrize("nodes", [2, 3, 1000, 100_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_rounding_of_the_centroid_gives_coincident_points_no_extent(dtype, nodes):
    points = torch.tensor([1 / 3, 1e6 / 7], dtype=dtype).expand(nodes, 2)
    batch = torch.zeros(nodes, dtype=torch.int64)
    assert pca_frames(points, "SE(2)").gap == 0
    assert pca_frames(points, "SE(2)", batch=batch, num_graphs=1).gap == 0
    # control: a small extent is seen
    apart = points.double() + torch.arange(2 * nodes).reshape(nodes, 2).cos() * 1e-3
    assert pca_frames(apart, "SE(2)").gap > 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf], ids=str)
@pytest.mark.parametrize("layout", ["dense", "ragged"])
def test_a_bad_coordinate_spoils_its_own_cloud_only(layout, bad, rng):
    points = separated(rng, 3, 5)
    broken = points.clone()
    broken[1, 2, 0] = bad
    options = {}
    if layout == "ragged":
        points, broken = points.flatten(0, 1), broken.flatten(0, 1)
        options = {"batch": torch.arange(3).repeat_interleave(5), "num_graphs": 3}
    expected = pca_frames(points.requires_grad_(), **options)
    found = pca_frames(broken.requires_grad_(), **options)
    for whole, part in zip(expected[:3], found[:3], strict=True):
        assert torch.equal(whole[[0, 2]], part[[0, 2]])
    assert found.frames[1].isnan().all()
    assert found.gap[1].isnan()
    whole, part = (
        grad(frames.frames[..., 0, 0].square().sum() + frames.gap.sum(), cloud)[0].reshape(3, 5, 3)
        for frames, cloud in ((expected, points), (found, broken))
    )
    assert torch.equal(whole[[0, 2]], part[[0, 2]])


@pytest.mark.parametrize("group", GROUPS)
def test_derivatives_are_right_where_the_spectrum_is_separated(group, rng):
    points = separated(rng, 2, 5, dimension=as_group(group).dimension).requires_grad_()
    assert gradcheck(lambda x: squares(x, group), points)
    assert gradgradcheck(lambda x: squares(x, group), points)


def test_derivatives_of_masked_and_ragged_clouds_are_right(rng):
    points = separated(rng, 2, 5)
    mask = torch.tensor([[True] * 5, [True] * 4 + [False]])
    batch = torch.tensor([0, 0, 0, 0, 2, 2, 2, 2, 2, 2])
    assert gradcheck(lambda x: squares(x, "SE(3)", mask=mask), points.requires_grad_())
    rows = points.detach().flatten(0, 1).requires_grad_()
    assert gradcheck(lambda x: squares(x, "SE(3)", batch=batch, num_graphs=4), rows)


def test_detached_frames_are_constants(rng):
    points = separated(rng, 6).requires_grad_()
    attached, detached = pca_frames(points), pca_frames(points, detach=True)
    torch.testing.assert_close(attached, detached)
    assert [part.requires_grad for part in attached[:3]] == [True, True, True]
    assert [part.requires_grad for part in detached[:3]] == [False, True, False]


POINTS = torch.zeros(4, 3)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("points", "group", "options", "error", "message"),
    [
        (POINTS, "SE(4)", {}, ValueError, r"\(..., nodes, 4\) for SE\(4\), got \(4, 3\)"),
        (POINTS, "Permutations()", {}, ValueError, r"expected SO\(n\).*, got Permutations\(\)"),
        (POINTS, "GL(3)", {}, ValueError, r"or Similarity\(n\), got GL\(3\)"),
        (POINTS, "SE(2)", {}, ValueError, r"\(..., nodes, 2\) for SE\(2\), got \(4, 3\)"),
        (POINTS[0], "SE(3)", {}, ValueError, r"\(..., nodes, 3\) for SE\(3\), got \(3,\)"),
        (POINTS.long(), "SE(3)", {}, TypeError, "floating-point coordinates, got torch.int64"),
        (POINTS, "SE(3)", {"mask": torch.ones(4)}, TypeError, r"convert with .bool\(\)"),
        (POINTS, "SE(3)", {"mask": torch.ones(3) > 0}, ValueError, r"shape \(4,\), one entry per"),
        (POINTS, "SE(3)", {"batch": torch.zeros(3).long()}, ValueError, r"\(4,\), one graph per"),
        (POINTS, "SE(3)", {"batch": torch.zeros(4)}, TypeError, "batch: expected torch.int64"),
        (
            POINTS,
            "SE(3)",
            {"batch": torch.ones(4).long(), "num_graphs": 1},
            ValueError,
            "batch has entries from 1 to 1; expected 0 <= batch < num_graphs = 1",
        ),
        (POINTS, "SE(3)", {"batch": torch.arange(4) - 1}, ValueError, "batch has entries from -1"),
        (POINTS, "SE(3)", {"num_graphs": 1}, ValueError, "num_graphs: only a ragged batch"),
        (
            POINTS,
            "SE(3)",
            {"mask": torch.ones(4) > 0, "batch": torch.zeros(4).long()},
            ValueError,
            "give either mask or batch",
        ),
    ],
    ids=lambda value: str(value)[:20],
)
def test_wrong_arguments_are_refused(points, group, options, error, message):
    with pytest.raises(error, match=message):
        pca_frames(points, group, **options)
