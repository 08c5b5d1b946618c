"""Frames of clouds in spacetime: Lorentz matrices that move with the cloud, boosts included."""

from math import exp

import pytest
import scipy.linalg
import torch
from torch.autograd import grad, gradcheck, gradgradcheck

from eqlib.frames import FrameAverage, lorentz_frames, pca_frames
from eqlib.symmetry import (
    Lorentz,
    NodeOrder,
    Permutations,
    Scalar,
    Signature,
    Vector,
    as_group,
    equivariance_error,
)
from eqlib.symmetry.lorentz import boosts
from tests.frames.clouds import mlp
from tests.frames.constructions.test_pca import distance

EXACT = 1e-10  # relative, in float64
DIMENSIONS = [2, 3, 4, 5]


def metric(dimension):
    signs = -torch.ones(dimension, dtype=torch.float64)
    signs[0] = 1
    return torch.diag(signs)


def momenta(rng, *shape, dimension=4, gap=1e-2):
    """Random clouds of d-vectors with a gap."""
    while True:
        points = torch.randn(*shape, dimension, dtype=torch.float64, generator=rng)
        points = points * torch.linspace(1, 2, dimension, dtype=torch.float64)
        if lorentz_frames(points).gap.min() > gap:
            return points


def lorentz_matrix(rng, dimension, rapidity=1.0, kinds=("reflection",)):
    """A reflection, a boost and a rotation."""
    turns = Lorentz(dimension).sample(rng, 2, kinds=[*kinds, "rotation"]).matrix
    direction = torch.randn(dimension - 1, dtype=torch.float64, generator=rng)
    return turns[0] @ boosts(rapidity * direction / direction.norm()) @ turns[1]


def invariant(points, frames):
    """An average that is far from linear, of coordinates in all frames."""
    coordinates = torch.einsum("...fij,...nj->...fni", frames.inverse, points)
    features = mlp(points.shape[-1], 4)(coordinates.to(torch.float64) / 2)
    return features.sum((-2, -3)) / frames.frames.shape[-3]


@pytest.mark.parametrize("dimension", DIMENSIONS, ids="{}-D".format)
@pytest.mark.parametrize("rapidity", [0.0, 1.0, 3.0], ids="rapidity {}".format)
def test_averages_are_invariant_under_boosts_and_turns(rapidity, dimension, rng):
    for _ in range(20):
        points = momenta(rng, 9, dimension=dimension)
        moved = points @ lorentz_matrix(rng, dimension, rapidity).mT
        expected = invariant(points, lorentz_frames(points))
        found = invariant(moved, lorentz_frames(moved))
        # Rounding errors times the condition number of a boost, and below EXACT.
        bound = 1e-13 * exp(2 * rapidity)
        assert (found - expected).abs().max() < bound * expected.abs().max()


@pytest.mark.parametrize("dimension", DIMENSIONS, ids="{}-D".format)
def test_frames_move_with_the_cloud(dimension, rng):
    points = momenta(rng, 2, 9, dimension=dimension)
    matrix = lorentz_matrix(rng, dimension)
    frames, moved = lorentz_frames(points), lorentz_frames(points @ matrix.mT)
    assert distance(moved.frames, matrix @ frames.frames) < EXACT
    torch.testing.assert_close(moved.gap, frames.gap, atol=1e-12, rtol=0)
    shuffled = lorentz_frames(points[:, torch.randperm(9, generator=rng)])
    assert distance(shuffled.frames, frames.frames) < EXACT
    assert not frames.centroid.any()


@pytest.mark.parametrize("dimension", DIMENSIONS, ids="{}-D".format)
def test_principal_frames_of_a_boosted_cloud_are_wrong(dimension, rng):  # the control
    points = momenta(rng, 9, dimension=dimension)
    moved = points @ boosts(torch.ones(dimension - 1, dtype=torch.float64)).mT

    def principal(cloud):
        frames = pca_frames(cloud, f"O({dimension})")
        return invariant(cloud, frames._replace(inverse=frames.frames.mT))

    assert (principal(moved) - principal(points)).abs().max() > 1e-2


@pytest.mark.parametrize("rapidity", [0.0, 3.0], ids="rapidity {}".format)
@pytest.mark.parametrize("dimension", DIMENSIONS, ids="{}-D".format)
def test_frames_are_lorentz_matrices_with_all_signs(dimension, rapidity, rng):
    points = momenta(rng, 3, 9, dimension=dimension)
    points = points @ lorentz_matrix(rng, dimension, rapidity).mT
    eta = metric(dimension)
    for orthochronous, count in ((False, 2**dimension), (True, 2 ** (dimension - 1))):
        found = lorentz_frames(points, orthochronous=orthochronous)
        assert found.frames.shape == (3, count, dimension, dimension)
        products = found.frames.mT @ eta @ found.frames
        torch.testing.assert_close(products, eta.expand_as(products), atol=1e-12, rtol=0)
        eye = torch.eye(dimension, dtype=torch.float64).expand_as(products)
        torch.testing.assert_close(found.inverse @ found.frames, eye, atol=1e-12, rtol=0)
        torch.testing.assert_close(found.frames, found.axes[:, None] * found.signs[:, None])
        reversed_time = (found.frames[..., 0, 0] < 0).flatten().unique().tolist()
        assert reversed_time == ([False] if orthochronous else [False, True])
        assert len({tuple(row.tolist()) for row in found.signs}) == count


@pytest.mark.parametrize("dimension", DIMENSIONS, ids="{}-D".format)
def test_axes_are_eigenvectors_of_the_mixed_moments(dimension, rng):
    points = momenta(rng, 9, dimension=dimension)
    eta = metric(dimension).numpy()
    moments = (points.mT @ points).numpy()
    values, vectors = scipy.linalg.eig(moments @ eta)
    order = values.real.argsort()[::-1]
    vectors = vectors.real[:, order]
    vectors /= abs(((vectors.T @ eta) * vectors.T).sum(-1)) ** 0.5
    frames = lorentz_frames(points)
    cosines = (vectors.T @ eta) @ frames.axes.numpy()
    torch.testing.assert_close(
        torch.from_numpy(abs(cosines)), torch.eye(dimension, dtype=torch.float64)
    )
    values = values.real[order]
    gap = min(abs(values[1:] - values[:-1])) / abs(values).sum()
    torch.testing.assert_close(float(frames.gap), float(gap))


@pytest.mark.parametrize(
    "name",
    ["Lorentz(2)", "Lorentz(3)", "Lorentz(4)", "O(1, 3)", "Lorentz(4, orthochronous=True)"],
)
def test_networks_become_equivariant(name, rng):
    group = as_group(name) * Permutations()
    dimension = group.dimension
    signature = Signature(
        group,
        {"momenta": Vector() * NodeOrder(-2), "charges": Scalar() * NodeOrder(-1)},
        {"forces": Vector() * NodeOrder(-2), "mass": Scalar()},
    )
    network = mlp(dimension + 1, dimension + 1)

    def backbone(momenta, charges):
        found = network(torch.cat([momenta / 3, charges[..., None]], -1))
        return {"forces": found[..., :-1], "mass": found[..., -1].sum(-1)}

    inputs = {
        "momenta": momenta(rng, 2, 8, dimension=dimension),
        "charges": torch.rand(2, 8, dtype=torch.float64, generator=rng),
    }
    layer = FrameAverage(backbone, signature=signature)
    assert equivariance_error(layer, inputs, samples=12).max < EXACT
    # control: the network alone, and with frames of rotations
    kinds = equivariance_error(backbone, inputs, signature, samples=12).kinds
    assert min(kinds[kind] for kind in group.pure_kinds if kind != "permutation") > 1e-2
    wrong = FrameAverage(backbone, signature=signature, mode=euclidean)
    assert equivariance_error(wrong, inputs, samples=12).kinds["boost"] > 1e-2


def euclidean(points, group, mask=None, batch=None, num_graphs=None, detach=False):
    """Frames of the orthogonal group: wrong in spacetime."""
    dimension = points.shape[-1]
    return pca_frames(points, f"O({dimension})", mask, batch, num_graphs, detach)


def test_orthochronous_frames_tell_future_from_past(rng):
    points = momenta(rng, 8)
    points[:, 0] = points[:, 0].abs()
    network = mlp(4, 1)

    def difference(group):
        signature = Signature(as_group(group), {"momenta": Vector()}, Scalar())
        layer = FrameAverage(lambda momenta: network(momenta).sum((-1, -2)), signature=signature)
        reversed_time = points * torch.tensor([-1.0, 1, 1, 1])
        return float((layer(points) - layer(reversed_time)).detach().abs())

    assert difference("Lorentz(4)") < 1e-12
    assert difference("Lorentz(4, orthochronous=True)") > 1e-2


def test_layouts_agree(rng):
    sizes = [5, 0, 8, 6, 0]
    clouds = [momenta(rng, size) if size else torch.zeros(0, 4).double() for size in sizes]
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    ragged = lorentz_frames(torch.cat(clouds), batch=batch, num_graphs=len(sizes))
    padded = torch.full((len(sizes), 8, 4), torch.nan, dtype=torch.float64)
    mask = torch.arange(8) < torch.tensor(sizes)[:, None]
    padded[mask] = torch.cat(clouds)
    masked = lorentz_frames(padded, mask=mask)
    for i, cloud in enumerate(clouds):
        alone = lorentz_frames(cloud)
        for frames in (ragged, masked):
            torch.testing.assert_close(frames.gap[i], alone.gap)
            if len(cloud):
                assert distance(frames.frames[i], alone.frames) < EXACT
                assert distance(frames.inverse[i], alone.inverse) < EXACT
    assert ragged.gap[[1, 4]].tolist() == [0, 0]
    assert lorentz_frames(torch.zeros(0, 2)).gap == 0
    axes = ragged.frames[[1, 4]].abs()  # coordinate axes, time first
    assert torch.equal(axes.sum(-1), torch.ones(2, 16, 4, dtype=torch.float64))
    assert torch.equal(axes[..., 0, 0], torch.ones(2, 16, dtype=torch.float64))
    # without num_graphs, up to the last cloud that has points
    counted = lorentz_frames(torch.cat(clouds), batch=batch)
    assert torch.equal(counted.frames, ragged.frames[:4])
    # two points per node are points of its cloud
    channels = momenta(rng, 2, 6)
    index = torch.tensor([0, 0, 0, 1, 1, 1])
    frames = lorentz_frames(channels.reshape(6, 2, 4), batch=index, num_graphs=2)
    alone = lorentz_frames(channels)
    assert distance(frames.frames, alone.frames) < EXACT


def flat(rng, rank, dimension, nodes=9):
    basis = torch.randn(rank, dimension, dtype=torch.float64, generator=rng)
    return torch.randn(nodes, rank, dtype=torch.float64, generator=rng) @ basis


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("rank", [0, 1, 2, 3], ids="rank {}".format)
def test_flat_clouds_are_refused_by_rank_and_index(rank, dtype, rng):
    cloud = flat(rng, rank, 4).to(dtype)
    rest = momenta(rng, 5, 9).to(dtype)
    message = f"has rank {rank}, but frames of Lorentz\\(4\\) need points of rank 4"
    with pytest.raises(ValueError, match=rf"points: cloud {message}"):
        lorentz_frames(cloud)
    batch = torch.cat([rest[:2], cloud[None], rest[2:], cloud[None]])
    with pytest.raises(ValueError, match=rf"cloud 2 {message} \(2 of 7 clouds"):
        lorentz_frames(batch)
    nodes = torch.arange(7).repeat_interleave(9)
    with pytest.raises(ValueError, match=rf"cloud 2 {message}"):
        lorentz_frames(batch.flatten(0, 1), batch=nodes)
    with pytest.raises(ValueError, match=rf"cloud \(1, 0\) {message}"):
        lorentz_frames(torch.cat([rest[:2], cloud[None], rest[2:3]]).reshape(2, 2, 9, 4))
    lorentz_frames(rest)


def test_few_points_are_flat(rng):
    with pytest.raises(ValueError, match="cloud has rank 3"):
        lorentz_frames(momenta(rng, 4)[:3])
    lorentz_frames(momenta(rng, 4))


def test_what_is_not_finite_stays_in_its_cloud(rng):
    points = momenta(rng, 4, 9).requires_grad_()
    alone = lorentz_frames(points[[0, 2]])
    broken = points.clone()
    broken[1, 3, 0], broken[3, 0, 2] = torch.nan, torch.inf
    frames = lorentz_frames(broken)
    assert distance(frames.frames[[0, 2]].detach(), alone.frames.detach()) < EXACT
    assert frames.frames[[1, 3]].isnan().all()
    assert frames.gap.isnan().tolist() == [False, True, False, True]
    gradient = grad(frames.frames[[0, 2]].square().sum(), points)[0]
    assert gradient[[0, 2]].isfinite().all()


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150], ids=str)
def test_unit_does_not_matter(scale, rng):
    points = momenta(rng, 9)
    frames, scaled = lorentz_frames(points), lorentz_frames(scale * points)
    assert distance(frames.frames, scaled.frames) < EXACT
    torch.testing.assert_close(scaled.gap, frames.gap)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_lower_precisions_are_computed_in_float64(dtype, rng):
    points = momenta(rng, 9, gap=5e-2).to(dtype)
    frames, exact = lorentz_frames(points), lorentz_frames(points.double())
    assert frames.frames.dtype == frames.inverse.dtype == torch.float32
    assert distance(frames.frames, exact.frames) < 1e-6
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lorentz_frames(points).frames, frames.frames)


def outer(points, **options):
    """The axes without their signs, and the gap."""
    frames = lorentz_frames(points, **options)
    return frames.axes.unsqueeze(-2) * frames.axes.unsqueeze(-3), frames.gap


@pytest.mark.parametrize("dimension", [2, 4], ids="{}-D".format)
def test_gradients_are_those_of_finite_differences(dimension, rng):
    points = momenta(rng, 6, dimension=dimension, gap=5e-2)
    points = (points @ lorentz_matrix(rng, dimension, 0.5).mT).requires_grad_()
    assert gradcheck(outer, points, rtol=1e-4)
    assert gradgradcheck(lambda x: outer(x)[0][..., :2, 0], points, rtol=1e-3, atol=1e-4)


def test_gradients_of_averages_are_right_and_detached_ones_are_not(rng):
    network = mlp(4, 1)
    points = momenta(rng, 7).requires_grad_()
    signature = Signature(Lorentz(4), {"momenta": Vector()}, Scalar())

    def energy(points, detach=False):
        layer = FrameAverage(
            lambda momenta: network(momenta).tanh().sum((-1, -2)),
            signature=signature,
            detach=detach,
        )
        return layer(points)

    assert gradcheck(energy, points, rtol=1e-4)
    right, wrong = (grad(energy(points, detach), points)[0] for detach in (False, True))
    assert (right - wrong).abs().max() > 1e-2 * right.abs().max()
    frames = lorentz_frames(points, detach=True)
    assert not any(part.requires_grad for part in (frames.frames, frames.inverse, frames.gap))


def test_gradients_are_finite_where_axes_are_not_determined():
    # The vectors of a cube in space, with a time: equal eigenvalues.
    corners = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0], dtype=torch.float64)])
    points = torch.cat([2 * corners.new_ones(8, 1), corners], dim=-1).requires_grad_()
    frames = lorentz_frames(points)
    assert frames.gap < 1e-12
    first = grad(
        frames.frames[0, :, 0].sum() + frames.frames[0, 0].sum(), points, create_graph=True
    )
    second = grad(first[0].square().sum(), points)[0]
    assert first[0].isfinite().all()
    assert second.isfinite().all()


@pytest.mark.unchecked
@pytest.mark.parametrize("shape", [(9, 4), (2, 9, 4)], ids=str)
def test_odd_memory_layouts(shape, rng):
    points = momenta(rng, *shape[:-1])
    frames = lorentz_frames(points)
    strided = torch.stack([points, points], dim=-1)[..., 0]
    assert distance(lorentz_frames(strided).frames, frames.frames) == 0
    expanded = lorentz_frames(points.expand(3, *points.shape))
    assert distance(expanded.frames, frames.frames.expand_as(expanded.frames)) < EXACT
    assert lorentz_frames(points.new_zeros(0, 9, 4)).frames.shape == (0, 16, 4, 4)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"points": torch.ones(5, 4).long()},
            TypeError,
            "floating-point coordinates, got torch.int",
        ),
        ({"points": torch.ones(5, 1)}, ValueError, "dimension: expected an integer of at least 2"),
        ({"group": "Lorentz(3)"}, ValueError, r"expected shape \(..., nodes, 3\) for Lorentz\(3\)"),
        ({"group": "E(4)"}, ValueError, r"group: expected Lorentz\(n\), got E\(4\)"),
        ({"group": "Lorentz(4)", "orthochronous": True}, ValueError, "Lorentz.4. reverses time"),
        ({"mask": torch.ones(5)}, TypeError, "mask: expected booleans"),
        ({"mask": torch.ones(4).bool()}, ValueError, r"mask: expected shape \(5,\)"),
        ({"num_graphs": 2}, ValueError, "num_graphs: only a ragged batch"),
    ],
    ids=["integers", "line", "dimension", "group", "time", "mask", "shape", "num_graphs"],
)
def test_bad_arguments_are_refused(arguments, error, message, rng):
    with pytest.raises(error, match=message):
        lorentz_frames(**{"points": momenta(rng, 5), **arguments})


def test_groups_and_products_are_read():
    points = torch.cat([torch.eye(4), torch.ones(1, 4)]).double()
    expected = lorentz_frames(points, orthochronous=True)
    for group in ("Lorentz(4, orthochronous=True)", Lorentz(4, True) * Permutations()):
        assert torch.equal(lorentz_frames(points, group).frames, expected.frames)
