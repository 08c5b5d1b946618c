"""Degenerate spectra: what each kind of frames does at clouds with symmetry, and near them."""

import pytest
import torch
from torch.autograd import grad

from eqlib.frames import FrameAverage, minimal_frames, pca_frames, weighted_frames
from eqlib.symmetry import Irreps, Point, Signature, as_group, assert_equivariant
from tests.frames.clouds import mlp
from tests.frames.constructions.definition import (
    FUNCTIONS,
    PLANAR,
    SYMMETRIC,
    Network,
    average,
    averaged,
    equivariance,
    errors,
    isotropic,
)

SPATIAL = ["SO(3)", "O(3)", "SE(3)", "E(3)", "Similarity(3)"]
FLAT = ["SO(2)", "O(2)", "SE(2)", "E(2)", "Similarity(2)"]
CLOUDS = [(group, name) for group in SPATIAL for name in SYMMETRIC]
CLOUDS += [(group, name) for group in FLAT for name in PLANAR]
# Scalars that do not depend on the scale of a cloud cannot be continuous where it has none.
CONTINUOUS = [
    (group, name)
    for group, name in CLOUDS
    if not (group.startswith("Similarity") and name in ("coincident", "at the origin"))
]
STEPS = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8]


def cloud(group, name, dtype=torch.float64):
    return (SYMMETRIC if "3" in group else PLANAR)[name].to(dtype)


def rises(mode, group, points, rng, **options):
    """Largest change of any output for steps of each size."""
    network = Network(points.shape[-1], points.dtype)
    noise = torch.randn(len(STEPS), 3, *points.shape, dtype=torch.float64, generator=rng)
    noise = noise / noise.flatten(2).norm(dim=-1)[..., None, None].clamp(min=1.0)
    near = points + (torch.tensor(STEPS)[:, None, None, None] * noise).to(points.dtype)
    here = averaged(mode, group, network, points[None], **options)
    there = averaged(mode, group, network, near.flatten(0, 1), **options)
    return errors(there, here).unflatten(0, (len(STEPS), 3)).amax(1).tolist()


def slope(changes):
    """Least slope of the logarithm of the changes against that of the steps."""
    x = torch.tensor(STEPS).log()
    y = torch.tensor(changes).log()
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / x.square().sum())


@pytest.mark.parametrize(("group", "name"), CLOUDS)
def test_weighted_averages_are_equivariant_at_every_cloud(group, name, rng):
    assert equivariance("weighted", group, cloud(group, name), rng, reach=1e3) < 1e-12


@pytest.mark.parametrize("name", ["square", "cube", "octahedron", "tetrahedron"])
def test_control_principal_frames_are_not_equivariant_at_symmetric_clouds(name, rng):
    assert equivariance("pca", "SE(3)", cloud("3", name), rng) > 1e-2


@pytest.mark.parametrize(("group", "name"), CONTINUOUS)
def test_weighted_averages_are_continuous_at_every_cloud(group, name, rng):
    points = cloud(group, name)
    changes = rises("weighted", group, points, rng)
    assert changes[STEPS.index(1e-5)] <= 1e-4  # outputs are of order one
    assert not len(points) or slope(changes) >= 0.9


@pytest.mark.parametrize("name", ["square", "cube", "tetrahedron"])
def test_control_principal_frames_jump_at_symmetric_clouds(name, rng):
    assert rises("pca", "SE(3)", cloud("3", name), rng)[-1] > 1e-2


@pytest.mark.parametrize(
    ("group", "name"), [pair for pair in CLOUDS if pair[0] in ("SE(3)", "O(2)")]
)
def test_soft_signs_are_equivariant_and_continuous_at_clouds_with_extent(group, name, rng):
    points = cloud(group, name)
    assert equivariance("weighted", group, points, rng, signs="soft") < 1e-12
    if name in ("coincident", "at the origin"):
        return
    assert rises("weighted", group, points, rng, signs="soft")[-1] < 1e-6


@pytest.mark.parametrize("name", list(SYMMETRIC))
def test_float32_clouds_are_equivariant_and_continuous_as_far_as_rounding_allows(name, rng):
    points = cloud("3", name, torch.float32)
    assert equivariance("weighted", "SE(3)", points, rng, reach=1.0) < 1e-5
    changes = dict(zip(STEPS, rises("weighted", "SE(3)", points, rng), strict=True))
    assert changes[1e-2] < 0.2
    assert changes[1e-4] < 4e-4
    assert changes[1e-6] < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("distance", [1e-3, 1e-6, 1e-9, 1e-12, 1e-15])
def test_frames_of_clouds_next_to_a_line_are_orthonormal(distance, dtype, rng):
    points = cloud("3", "collinear")
    points = points + distance * torch.randn(16, 4, 3, dtype=torch.float64, generator=rng)
    frames = weighted_frames(points.to(dtype), "E(3)").frames
    eye = torch.eye(3, dtype=dtype).expand_as(frames)
    tolerance = 10 * torch.finfo(dtype).eps
    torch.testing.assert_close(frames.mT @ frames, eye, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("mode", "group", "name", "dtype"),
    [
        (mode, group, name, dtype)
        for mode in FUNCTIONS
        for group, name in CLOUDS
        for dtype in (torch.float32, torch.float64)
        if group in (("E(3)",) if dtype == torch.float32 else ("SE(3)", "O(3)", "SE(2)"))
    ],
)
def test_outputs_and_two_derivatives_are_finite(mode, group, name, dtype):
    points = cloud(group, name, dtype)[None].clone().requires_grad_()
    fields = averaged(mode, group, Network(points.shape[-1], dtype), points)
    total = sum((field - 0.1).square().sum() for field in fields)
    (first,) = grad(total, points, create_graph=True)
    (second,) = grad(first.square().sum(), points)
    for result in (total, first, second):
        assert result.isfinite().all()


@pytest.mark.parametrize("name", list(SYMMETRIC))
def test_derivatives_of_the_frames_themselves_are_finite(name, rng):
    for group in ("SE(3)", "O(3)", "Similarity(3)"):
        points = cloud(group, name)[None].clone().requires_grad_()
        frames = weighted_frames(points, group)
        parts = [part for part in frames if part is not None and part.is_floating_point()]
        total = sum((part * torch.rand(part.shape, generator=rng)).sum() for part in parts)
        (first,) = grad(total, points, create_graph=True)
        (second,) = grad(first.square().sum(), points)
        assert first.isfinite().all()
        assert second.isfinite().all()


def derivative(mode, points):
    points = points[None].clone().requires_grad_()
    fields = averaged(mode, "SE(3)", Network(), points)
    total = fields.scalar.sum() + fields.vector.square().sum()
    return float(grad(total, points)[0].norm())


@pytest.mark.parametrize("widths", [(1.0, 1.0, 0.3), (1.0, 1.0, 3.0), (1.0, 1.0, 1.0)], ids=str)
def test_gradients_stay_bounded_where_a_gap_closes(widths):
    gaps = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7]
    clouds = [isotropic(9, 5) * torch.tensor([1 + gap, *widths[1:]]).double() for gap in gaps]
    gradients = [derivative("weighted", points) for points in clouds]
    assert max(gradients) < 10
    # control: those of principal frames grow like one over the gap, up to their guard
    plain = [derivative("pca", points) for points in clouds]
    assert plain[4] > 1e3 * plain[0]


@pytest.mark.parametrize("mode", list(FUNCTIONS))
def test_mirror_images_differ_under_rotations_only(mode):
    generic, degenerate = isotropic(6, 6) * torch.tensor([1.0, 1.2, 1.5]), isotropic(6, 7)
    for points in (generic, degenerate) if mode == "weighted" else (generic,):
        both = torch.stack([points, points * torch.tensor([1, 1, -1])])
        mirrored = averaged(mode, "O(3)", Network(), both)
        assert (mirrored.scalar[0] - mirrored.scalar[1]).abs().max() < 1e-12
        assert (mirrored.pseudoscalar[0] + mirrored.pseudoscalar[1]).abs().max() < 1e-12
        turned = averaged(mode, "SO(3)", Network(), both)
        assert (turned.scalar[0] - turned.scalar[1]).abs().max() > 1e-4


@pytest.mark.parametrize("group", ["SE(3)", "O(3)"])
@pytest.mark.parametrize(
    "name",
    ["one point", "two points", "collinear", "ring", "cube", "isotropic, no symmetry"],
)
def test_tensors_of_higher_degree_are_equivariant_and_continuous(name, group, rng):
    irreps = Irreps("1x0e+1x0o+1x1o+1x1e+2x2e+1x2o+1x3o")
    signature = Signature(as_group(group), {"points": Point()}, irreps)
    network = mlp(3, irreps.size(signature.group))
    layer = FrameAverage(network, mode="weighted", signature=signature)
    points = cloud(group, name)
    assert_equivariant(layer, {"points": points}, generator=rng)
    if (points - points[0]).abs().max() > 0:  # they have no limit where a cloud shrinks to a point
        step = 1e-6 * torch.randn(points.shape, dtype=torch.float64, generator=rng)
        assert (layer(points + step) - layer(points)).abs().max() < 3e-5


def largest_step(mode, number):
    """Largest change along a path past both double cases, an isotropic cloud and a ring."""
    corners = torch.tensor(
        [[1.2, 1, 0.8], [1, 1, 0.8], [1, 1, 1], [1.2, 1, 1], [1.2, 1.2, 0.8], [1, 1, 0]]
    ).double()
    place = torch.linspace(0, len(corners) - 1 - 1e-9, number, dtype=torch.float64)
    rest = (place - place.floor())[:, None]
    widths = (1 - rest) * corners[place.long()] + rest * corners[place.long() + 1]
    fields = averaged(mode, "SE(3)", Network(), isotropic(9, 8) * widths[:, None])
    return max(float((field[1:] - field[:-1]).detach().abs().max()) for field in fields)


def test_a_path_across_degenerate_clouds_has_no_jump():
    coarse, fine = largest_step("weighted", 200), largest_step("weighted", 2000)
    assert fine < 0.2 * coarse
    assert fine < 0.05
    # control: principal frames jump, however short the steps
    assert largest_step("pca", 2000) > 0.1


def test_a_cloud_that_shrinks_to_a_point_has_vectors_that_vanish():
    points = isotropic(9, 9)
    sizes = torch.tensor([1e-1, 1e-3, 1e-5, 1e-7, 0.0], dtype=torch.float64)[:, None, None]
    for shape in ([1, 1, 1], [1, 1, 0.5], [2, 1, 1], [1, 0, 0], [3, 2, 1]):
        clouds = sizes * points * torch.tensor(shape, dtype=torch.float64)
        vectors = averaged("weighted", "SE(3)", Network(), clouds).vector.flatten(1).norm(dim=-1)
        assert (vectors <= 20 * sizes.flatten() + 1e-15).all()


@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
def test_means_of_the_frames_vanish(group):
    clouds = torch.stack(
        [isotropic(9, 9) * torch.tensor(w) for w in ([1, 1, 0.5], [1.1, 1.0, 1.0])]
    )
    frames = weighted_frames(clouds, group)
    means = torch.zeros(2, 3, 3).double()
    means = means.index_add(0, frames.cloud, frames.weights[:, None, None] * frames.frames)
    torch.testing.assert_close(means, torch.zeros_like(means), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "function", [pca_frames, minimal_frames, weighted_frames], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("group", ["SE(3)", "E(2)"])
def test_gaps_agree(function, group, rng):
    width = as_group(group).dimension
    points = torch.randn(5, 7, width, dtype=torch.float64, generator=rng)
    torch.testing.assert_close(function(points, group).gap, pca_frames(points, group).gap)


@pytest.mark.gpu
@pytest.mark.parametrize("samples", [None, 4], ids=str)
def test_frames_on_a_gpu_have_the_averages_of_those_on_the_cpu(samples):
    clouds = torch.stack([isotropic(9, 1), isotropic(9, 2) * torch.tensor([1.5, 1.2, 1.0])])
    options = {"samples": samples, "generator": torch.Generator("cuda").manual_seed(0)}
    for function, chosen in ((minimal_frames, {}), (weighted_frames, options)):
        frames = function(clouds.cuda(), "E(3)", **chosen)
        frames = type(frames)(*(part if part is None else part.cpu() for part in frames))
        total = torch.zeros(2, dtype=torch.float64).index_add(0, frames.cloud, frames.weights)
        torch.testing.assert_close(total, torch.ones_like(total))
        if samples is None and function is weighted_frames:
            expected = averaged("weighted", "E(3)", Network(), clouds)
            found = average(Network(), clouds, frames)
            torch.testing.assert_close(found, expected)
