"""Frames under linear and affine maps: whitening, and the fourth moments that do the rest."""

import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck

from eqlib.frames import FrameAverage, affine_frames, pca_frames
from eqlib.symmetry import (
    GL,
    Affine,
    Element,
    NodeOrder,
    Permutations,
    Point,
    Scalar,
    Signature,
    Vector,
    as_group,
    equivariance_error,
)
from tests.frames.clouds import DEGENERATE, mlp
from tests.frames.constructions.test_pca import distance

EXACT = 1e-10  # relative, in float64
GROUPS = ["GL(2)", "GL(3)", "GL(4)", "Affine(2)", "Affine(3)", "Affine(4)"]


def cloud(rng, *shape, dimension=3, gap=1e-2):
    """Random clouds with a gap of their fourth moments."""
    while True:
        points = torch.randn(*shape, dimension, dtype=torch.float64, generator=rng)
        points = points**3 + points + 0.3
        gaps = [
            affine_frames(points, f"{name}({dimension})").gap.min() for name in ("Affine", "GL")
        ]
        if min(gaps) > gap:
            return points


def moved_by(rng, group, condition, points):
    """The points after a map of a condition number, with a translation if the group has them."""
    dimension = points.shape[-1]
    turns = [as_group(f"O({dimension})").sample(rng)[0].matrix for _ in range(2)]
    widths = torch.logspace(0, 1, dimension, base=condition, dtype=torch.float64)
    matrix = turns[0] * widths @ turns[1]
    translation = torch.randn(dimension, dtype=torch.float64, generator=rng)
    element = Element(matrix, 5 * translation * as_group(group).translations)
    return Point().act(element, points), element


def coordinates(points, frames):
    offsets = points - frames.centroid[..., None, :]
    return torch.einsum("...fij,...nj->...fni", frames.inverse, offsets)


def invariant(points, frames):
    """An average that is far from linear, of coordinates in all frames."""
    features = mlp(points.shape[-1], 4)(coordinates(points, frames) / 2)
    return features.sum((-2, -3)).detach() / frames.frames.shape[-3]


@pytest.mark.parametrize("condition", [1.0, 10.0, 180.0], ids="condition {:g}".format)
@pytest.mark.parametrize("group", GROUPS)
def test_averages_are_invariant(group, condition, rng):
    for _ in range(10):
        points = cloud(rng, 12, dimension=as_group(group).dimension)
        moved, _ = moved_by(rng, group, condition, points)
        expected = invariant(points, affine_frames(points, group))
        found = invariant(moved, affine_frames(moved, group))
        bound = 1e-13 * condition  # below EXACT
        assert (found - expected).abs().max() < bound * expected.abs().max()


@pytest.mark.parametrize("group", GROUPS)
def test_frames_move_with_the_cloud(group, rng):
    points = cloud(rng, 2, 12, dimension=as_group(group).dimension)
    moved_points, element = moved_by(rng, group, 10.0, points)
    frames, moved = affine_frames(points, group), affine_frames(moved_points, group)
    assert distance(moved.frames, element.matrix @ frames.frames) < EXACT
    torch.testing.assert_close(moved.gap, frames.gap, atol=1e-12, rtol=0)
    torch.testing.assert_close(moved.centroid, Point().act(element, frames.centroid))
    shuffled = affine_frames(points[:, torch.randperm(12, generator=rng)], group)
    assert distance(shuffled.frames, frames.frames) < EXACT


@pytest.mark.parametrize("group", GROUPS)
def test_control_principal_axes_after_whitening_are_arbitrary(group, rng):
    def principal(points):
        offsets = points - points.mean(0) * as_group(group).translations
        values, vectors = torch.linalg.eigh(offsets.mT @ offsets / len(offsets))
        white = offsets @ vectors * values.rsqrt() @ vectors.mT
        frames = pca_frames(white, f"O({points.shape[-1]})")
        assert frames.gap < 1e-12  # always: their covariance is the identity
        return invariant(white, frames._replace(inverse=frames.frames.mT))

    points = cloud(rng, 12, dimension=as_group(group).dimension)
    moved, _ = moved_by(rng, group, 10.0, points)
    assert (principal(moved) - principal(points)).abs().max() > 1e-2


@pytest.mark.parametrize("group", GROUPS)
def test_frames_make_clouds_white_with_diagonal_fourth_moments(group, rng):
    dimension = as_group(group).dimension
    points = cloud(rng, 3, 12, dimension=dimension)
    frames = affine_frames(points, group)
    assert frames.frames.shape == (3, 2**dimension, dimension, dimension)
    eye = torch.eye(dimension, dtype=torch.float64)
    white = coordinates(points, frames)
    second = white.mT @ white / 12
    torch.testing.assert_close(second, eye.expand_as(second), atol=1e-12, rtol=0)
    fourth = (white.square().sum(-1, keepdim=True) * white).mT @ white / 12
    values = fourth.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(fourth, torch.diag_embed(values), atol=1e-11, rtol=0)
    assert (values.diff(dim=-1) < 0).all()
    gap = -values[:, 0].diff(dim=-1).amax(-1) / values[:, 0].sum(-1)
    torch.testing.assert_close(frames.gap, gap)
    product = frames.inverse @ frames.frames
    torch.testing.assert_close(product, eye.expand_as(product), atol=1e-12, rtol=0)
    torch.testing.assert_close(frames.frames, frames.axes[:, None] * frames.signs[:, None])
    assert len({tuple(row.tolist()) for row in frames.signs}) == 2**dimension
    centroid = points.mean(1) if as_group(group).translations else torch.zeros(3, dimension)
    torch.testing.assert_close(frames.centroid, centroid.double())


@pytest.mark.parametrize("name", ["GL(2)", "GL(3)", "Affine(2)", "Affine(3)"])
def test_networks_become_equivariant(name, rng):
    group = as_group(name) * Permutations()
    dimension = group.dimension
    kind = (Point() if group.translations else Vector()) * NodeOrder(-2)
    signature = Signature(
        group,
        {"points": kind, "charges": Scalar() * NodeOrder(-1)},
        {"points": kind, "forces": Vector() * NodeOrder(-2), "energy": Scalar()},
    )
    network = mlp(dimension + 1, 2 * dimension + 1)

    def backbone(points, charges):
        found = network(torch.cat([points / 3, charges[..., None]], -1))
        moved, forces, energy = found.split([dimension, dimension, 1], dim=-1)
        return {"points": moved, "forces": forces, "energy": energy.sum((-1, -2))}

    inputs = {
        "points": cloud(rng, 2, 10, dimension=dimension),
        "charges": torch.rand(2, 10, dtype=torch.float64, generator=rng),
    }
    layer = FrameAverage(backbone, signature=signature)
    assert equivariance_error(layer, inputs, samples=12).max < EXACT
    # control: the network alone, and with frames of isometries
    kinds = equivariance_error(backbone, inputs, signature, samples=12).kinds
    assert min(kinds[kind] for kind in group.pure_kinds if kind != "permutation") > 1e-2
    wrong = FrameAverage(backbone, signature=signature, mode=isometric)
    assert equivariance_error(wrong, inputs, samples=12).kinds["stretch"] > 1e-2


def isometric(points, group, mask=None, batch=None, num_graphs=None, detach=False):
    """Frames of isometries: wrong for maps that change lengths."""
    name = f"{'E' if group.translations else 'O'}({group.dimension})"
    return pca_frames(points, name, mask, batch, num_graphs, detach)


@pytest.mark.parametrize("group", ["GL(3)", "Affine(3)"])
def test_layouts_agree(group, rng):
    sizes = [6, 0, 9, 7, 0]
    clouds = [cloud(rng, size) if size else torch.zeros(0, 3).double() for size in sizes]
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    ragged = affine_frames(torch.cat(clouds), group, batch=batch, num_graphs=len(sizes))
    padded = torch.full((len(sizes), 9, 3), torch.nan, dtype=torch.float64)
    mask = torch.arange(9) < torch.tensor(sizes)[:, None]
    padded[mask] = torch.cat(clouds)
    masked = affine_frames(padded, group, mask=mask)
    for i, points in enumerate(clouds):
        alone = affine_frames(points, group)
        for frames in (ragged, masked):
            torch.testing.assert_close(frames.gap[i], alone.gap)
            torch.testing.assert_close(frames.centroid[i], alone.centroid)
            if len(points):
                assert distance(frames.frames[i], alone.frames) < EXACT
                assert distance(frames.inverse[i], alone.inverse) < EXACT
    assert ragged.gap[[1, 4]].tolist() == [0, 0]
    axes = ragged.frames[[1, 4]].abs()
    assert torch.equal(axes.sum(-1), torch.ones(2, 8, 3, dtype=torch.float64))
    # two points per node are points of its cloud
    channels = cloud(rng, 2, 8)
    index = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    frames = affine_frames(channels.reshape(8, 2, 3), group, batch=index, num_graphs=2)
    assert distance(frames.frames, affine_frames(channels, group).frames) < EXACT


RANKS = {
    "one point": 0,
    "two points": 1,
    "coincident": 0,
    "collinear": 1,
    "planar": 2,
    "ring": 2,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", list(RANKS))
def test_flat_clouds_are_refused_by_rank_and_index(name, dtype, rng):
    turn = as_group("SO(3)").sample(rng)[0].matrix
    points = (DEGENERATE[name].double() @ turn + 3.0).to(dtype)
    message = f"has rank {RANKS[name]}, but frames of Affine.3. need points of rank 3"
    with pytest.raises(ValueError, match=f"points: cloud {message}"):
        affine_frames(points)
    clouds = [cloud(rng, 9).to(dtype), points]
    batch = torch.tensor([0] * 9 + [1] * len(points))
    with pytest.raises(ValueError, match=rf"cloud 1 {message} \(1 of 2 clouds have less\)"):
        affine_frames(torch.cat(clouds), batch=batch)


@pytest.mark.parametrize("name", ["prism", "cube", "octahedron", "tetrahedron"])
def test_symmetric_clouds_have_no_gap_but_finite_gradients(name, rng):
    points, _ = moved_by(rng, "Affine(3)", 10.0, DEGENERATE[name].double())
    points.requires_grad_()
    frames = affine_frames(points)
    assert frames.gap < 1e-7  # the corners of the prism are in float32
    first = grad(frames.frames[0].sum() + frames.inverse[1].sum(), points, create_graph=True)[0]
    assert first.isfinite().all()
    assert grad(first.square().sum(), points)[0].isfinite().all()


@pytest.mark.parametrize(("group", "nodes"), [("GL(3)", 3), ("Affine(3)", 4)])
def test_the_fewest_points_are_an_image_of_a_regular_simplex(group, nodes, rng):
    points = torch.randn(5, nodes, 3, dtype=torch.float64, generator=rng)
    assert affine_frames(points, group).gap.max() < 1e-10
    more = torch.randn(5, nodes + 1, 3, dtype=torch.float64, generator=rng)
    assert affine_frames(more, group).gap.min() > 1e-4


def test_what_is_not_finite_stays_in_its_cloud(rng):
    points = cloud(rng, 4, 9).requires_grad_()
    alone = affine_frames(points.detach()[[0, 2]])
    broken = points.clone()
    broken[1, 3, 0], broken[3, 0, 2] = torch.nan, torch.inf
    frames = affine_frames(broken)
    assert distance(frames.frames[[0, 2]].detach(), alone.frames) < EXACT
    assert frames.frames[[1, 3]].isnan().all()
    assert frames.gap.isnan().tolist() == [False, True, False, True]
    gradient = grad(frames.frames[[0, 2]].square().sum(), points)[0]
    assert gradient[[0, 2]].isfinite().all()


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150], ids=str)
def test_unit_does_not_matter(scale, rng):
    points = cloud(rng, 9)
    frames, scaled = affine_frames(points), affine_frames(scale * points)
    assert distance(frames.frames, scaled.frames / scale) < EXACT
    assert distance(frames.inverse, scaled.inverse * scale) < EXACT
    torch.testing.assert_close(scaled.gap, frames.gap)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_lower_precisions_are_computed_in_float64(dtype, rng):
    points = cloud(rng, 12).to(dtype)
    frames, exact = affine_frames(points), affine_frames(points.double())
    assert frames.frames.dtype == frames.inverse.dtype == torch.float32
    assert distance(frames.frames, exact.frames) < 1e-6 * exact.frames.abs().max()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(affine_frames(points).frames, frames.frames)


def outer(points, group="Affine(3)"):
    """The axes without their signs, the centroid and the gap."""
    frames = affine_frames(points, group)
    products = frames.axes.unsqueeze(-2) * frames.axes.unsqueeze(-3)
    inverse = frames.inverse[..., 0, :, :].mT
    return products, inverse.unsqueeze(-2) * inverse.unsqueeze(-3), frames.centroid, frames.gap


@pytest.mark.parametrize("group", ["GL(2)", "GL(3)", "Affine(3)"])
def test_gradients_are_those_of_finite_differences(group, rng):
    points = cloud(rng, 7, dimension=as_group(group).dimension, gap=5e-2).requires_grad_()
    assert gradcheck(lambda x: outer(x, group), points, rtol=1e-4)
    assert gradgradcheck(lambda x: outer(x, group)[0][..., :2, 0], points, rtol=1e-3, atol=1e-4)


def test_gradients_of_averages_are_right_and_detached_ones_are_not(rng):
    network = mlp(3, 1)
    points = cloud(rng, 7).requires_grad_()

    def energy(points, detach=False):
        signature = Signature(Affine(3), {"points": Point()}, Scalar())
        layer = FrameAverage(
            lambda points: network(points).tanh().sum((-1, -2)),
            signature=signature,
            detach=detach,
        )
        return layer(points)

    assert gradcheck(energy, points, rtol=1e-4)
    right, wrong = (grad(energy(points, detach), points)[0] for detach in (False, True))
    assert (right - wrong).abs().max() > 1e-2 * right.abs().max()
    frames = affine_frames(points, detach=True)
    assert not any(part.requires_grad for part in (frames.frames, frames.inverse, frames.gap))


@pytest.mark.parametrize("shape", [(9,), (2, 9)], ids=str)
def test_odd_memory_layouts(shape, rng):
    points = cloud(rng, *shape)
    frames = affine_frames(points)
    strided = torch.stack([points, points], dim=-1)[..., 0]
    assert distance(affine_frames(strided).frames, frames.frames) == 0
    expanded = affine_frames(points.expand(3, *points.shape))
    assert distance(expanded.frames, frames.frames.expand_as(expanded.frames)) < EXACT
    assert affine_frames(points.new_zeros(0, 9, 3)).frames.shape == (0, 8, 3, 3)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"points": torch.ones(5, 3).long()}, TypeError, "floating-point coordinates, got torch"),
        ({"group": "Affine(2)"}, ValueError, r"expected shape \(..., nodes, 2\) for Affine\(2\)"),
        ({"group": "E(3)"}, ValueError, r"group: expected GL\(n\) or Affine\(n\), got E\(3\)"),
        ({"group": "Linear(3)"}, ValueError, r"group: there is no 'Linear\(3\)'"),
        ({"mask": torch.ones(5)}, TypeError, "mask: expected booleans"),
        ({"num_graphs": 2}, ValueError, "num_graphs: only a ragged batch"),
    ],
    ids=["integers", "dimension", "group", "name", "mask", "num_graphs"],
)
def test_bad_arguments_are_refused(arguments, error, message, rng):
    with pytest.raises(error, match=message):
        affine_frames(**{"points": cloud(rng, 9)[:5], **arguments})


def test_products_with_permutations_are_read(rng):
    points = cloud(rng, 9)
    expected = affine_frames(points, "GL(3)")
    assert torch.equal(affine_frames(points, Permutations() * GL(3)).frames, expected.frames)
