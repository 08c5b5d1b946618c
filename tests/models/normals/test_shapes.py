"""Composed solids: exact normals, uniform samples, symmetric ones, and the same from a seed."""

import math

import pytest
import torch

from eqlib.models.normals.primitives import PRIMITIVES, SIZES
from eqlib.models.normals.shapes import (
    AXIAL,
    DIFFERENCE,
    GENERIC,
    INTERSECTION,
    ISOTROPIC,
    OPERATIONS,
    PARTS,
    SINGLE,
    UNION,
    Solids,
    draw_clouds,
    draw_solids,
    implicit,
    sample_surfaces,
)

BOX = [kind.name for kind in PRIMITIVES].index("box")


def signed(solids: Solids, points: torch.Tensor) -> torch.Tensor:
    """Return the implicit function of whole solids, by the rules of signed distances."""
    parts, missing = implicit(solids, points), (solids.kinds < 0)[..., None]
    least = torch.where(missing, math.inf, parts).amin(1)
    most = torch.where(missing, -math.inf, parts).amax(1)
    tools = torch.where(missing, math.inf, parts)[:, 1:].amin(1)
    difference = torch.maximum(parts[:, 0], -tools)
    operation = solids.operation[:, None]
    joined = torch.where(operation == INTERSECTION, most, least)
    return torch.where(operation == DIFFERENCE, difference, joined)


def boxes(operation: int, halves: list[float], offsets: list[float]) -> Solids:
    """Return one solid of two cubes, of these half edges and heights."""
    sizes = torch.zeros(1, PARTS, SIZES, dtype=torch.float64)
    sizes[0, :2, :3] = torch.tensor(halves).double()[:, None]
    place = torch.zeros(1, PARTS, 3, dtype=torch.float64)
    place[0, :2, 2] = torch.tensor(offsets).double()
    return Solids(
        operation=torch.tensor([operation]),
        kinds=torch.tensor([[BOX, BOX, -1]]),
        sizes=sizes,
        turns=torch.zeros(1, PARTS, dtype=torch.float64),
        offsets=place,
        symmetry=torch.tensor([AXIAL]),
    )


@pytest.fixture(scope="module")
def drawn():
    """Solids of all operations, each with its cloud."""
    solids = draw_solids(120, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    found, clouds = [], []
    for index in range(120):
        solid = Solids(*(part[index : index + 1] for part in solids))
        cloud = sample_surfaces(solid, 64, generator)
        if len(cloud.points):
            found.append(solid)
            clouds.append(cloud)
    assert len(found) > 90
    return tuple(
        type(parts[0])(*map(torch.cat, zip(*parts, strict=True))) for parts in (found, clouds)
    )


@pytest.mark.parametrize("operation", range(4), ids=OPERATIONS)
def test_normals_are_gradients_of_the_implicit_function(drawn, operation):
    solids, clouds = drawn
    chosen = clouds.operation == operation
    assert chosen.sum() >= 5
    points = clouds.points[chosen].requires_grad_()
    values = signed(Solids(*(part[chosen] for part in solids)), points)
    assert values.abs().max() < 1e-12
    (gradient,) = torch.autograd.grad(values.sum(), points)
    gradient = gradient / gradient.norm(dim=-1, keepdim=True)
    assert torch.allclose(clouds.normals[chosen], gradient, atol=1e-9)
    # control: the same check rejects normals that all point away from the first part's inside
    if operation == DIFFERENCE:
        assert not torch.allclose(-clouds.normals[chosen], gradient, atol=1e-2)


@pytest.mark.parametrize("operation", [UNION, INTERSECTION, DIFFERENCE], ids=OPERATIONS[1:])
def test_points_are_uniform_over_the_surfaces_of_all_parts(operation, rng):
    # half of the small cube's edge is 0.5, and its top is 0.1 above that of the large one
    solid = boxes(operation, [1.0, 0.5], [0.0, 0.6])
    inner = {UNION: 4 * 0.1 + 1, INTERSECTION: 4 * 0.9 + 1, DIFFERENCE: 4 * 0.9 + 1}[operation]
    total = inner + (1 if operation == INTERSECTION else 24 - 1)
    number = 10_000
    cloud = sample_surfaces(solid, number, rng)
    assert len(cloud.points) == 1
    point, normal = cloud.points[0], cloud.normals[0]
    small = (point[:, :2].abs() <= 0.5 + 1e-12).all(1) & ((point[:, 2] - 1).abs() > 1e-12)
    small &= point[:, 2] > 0
    share = small.double().mean().item()
    assert share == pytest.approx(inner / total, abs=4 * 0.5 / math.sqrt(number))
    sideways = small & (normal[:, 2].abs() < 0.5)
    outwards = (normal[sideways] * point[sideways]).sum(1) > 0
    assert outwards.all() if operation != DIFFERENCE else not outwards.any()


def test_surfaces_of_which_little_is_left_are_given_up(rng):
    assert len(sample_surfaces(boxes(INTERSECTION, [1.0, 0.5], [0.0, 5.0]), 16, rng).points) == 0
    # a cube within the tool that is taken from it leaves nothing
    assert len(sample_surfaces(boxes(DIFFERENCE, [0.5, 1.0], [0.0, 0.0]), 16, rng).points) == 0


def test_clouds_are_centred_scaled_and_the_same_from_a_seed():
    one, other, third = (
        draw_clouds(40, 64, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one.points, third.points)
    assert one.points.shape == (40, 64, 3)
    assert one.points.mean(1).abs().max() < 1e-14
    assert torch.allclose(one.points.square().sum(2).mean(1), torch.ones(40).double())
    assert torch.allclose(one.normals.norm(dim=-1), torch.ones(()).double(), atol=1e-13)


def test_all_kinds_of_solids_are_drawn():
    solids = draw_solids(1_000, torch.Generator().manual_seed(3))
    operations = torch.bincount(solids.operation, minlength=4) / 1_000
    assert torch.allclose(operations, torch.tensor([0.4, 0.25, 0.1, 0.25]), atol=0.05)
    counts = (solids.kinds >= 0).sum(1)
    assert (counts[solids.operation == SINGLE] == 1).all()
    assert set(counts[solids.operation == UNION].tolist()) == {2, 3}
    assert (counts[solids.operation >= INTERSECTION] == 2).all()
    first = torch.bincount(solids.kinds[:, 0], minlength=len(PRIMITIVES))
    assert first.min() > 100
    assert torch.bincount(solids.symmetry, minlength=3).min() > 20


def test_symmetric_solids_have_equal_variances(rng):
    solids = draw_solids(150, torch.Generator().manual_seed(4))
    clouds = sample_surfaces(solids, 3_000, rng)
    centred = clouds.points - clouds.points.mean(1, keepdim=True)
    moments = centred.mT @ centred
    across = moments[:, :2, :2]
    size = across.diagonal(dim1=1, dim2=2).sum(1)
    uneven = torch.linalg.eigvalsh(across).diff(dim=1).squeeze(1) / size
    axial = clouds.symmetry >= AXIAL
    assert uneven[axial].max() < 0.1  # of the order of 1 / sqrt(3000) by chance
    assert uneven[clouds.symmetry == GENERIC].quantile(0.75) > 0.15
    isotropic = clouds.symmetry == ISOTROPIC
    spread = torch.linalg.eigvalsh(moments[isotropic])
    assert (spread[:, 2] / spread[:, 0]).max() < 1.15


def test_solids_stand_upright():
    clouds = draw_clouds(300, 64, torch.Generator().manual_seed(7))
    sideways, upwards = clouds.normals[..., :2].square().mean(), clouds.normals[..., 2].square()
    across = clouds.normals[..., 2].abs()
    # many normals are horizontal or vertical; random rotations would make |n_z| uniform
    assert ((across < 0.05) | (across > 0.95)).double().mean() > 0.3
    assert sideways / upwards.mean() > 1.1
