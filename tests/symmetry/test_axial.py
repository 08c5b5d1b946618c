"""Groups with a fixed axis: what is up stays up."""

import pickle

import pytest
import torch
from torch import Tensor

from eqlib.symmetry import (
    Axial,
    NodeOrder,
    Permutations,
    Point,
    Scalar,
    Signature,
    Vector,
    as_group,
    equivariance_error,
)
from tests.symmetry.test_group import distance
from tests.tolerances import EQUIVARIANCE

NAMES = [
    "SO(3) about z",
    "O(3) about x",
    "SE(3) about y",
    "E(3) about z",
    "SE(2) about z",
    "E(2) about (0.0, 0.6, 0.8)",
    "SE(3) about (0.6, 0.0, -0.8)",
]


@pytest.mark.parametrize("name", NAMES)
def test_elements_obey_the_laws_of_a_group(name, rng):
    group = as_group(name)
    a, b, c = (group.sample(rng, 5, reach=3.0) for _ in range(3))
    left = group.compose(group.compose(a, b), c)
    right = group.compose(a, group.compose(b, c))
    assert distance(left, right) < 1e-13
    assert distance(group.compose(a, group.inverse(a))[0], group.identity()) < 1e-13
    assert distance(group.compose(group.identity(), a[0]), a[0]) == 0


@pytest.mark.parametrize("name", NAMES)
def test_elements_keep_the_axis_and_heights_where_these_have_a_meaning(name, rng):
    group = as_group(name)
    element = group.sample(rng, 64)
    axis = torch.tensor(group.axis, dtype=torch.float64)
    torch.testing.assert_close(element.matrix @ axis, axis.expand(64, 3))
    eye = torch.eye(3, dtype=torch.float64).expand(64, 3, 3)
    torch.testing.assert_close(element.matrix @ element.matrix.mT, eye)
    assert set(element.determinant.tolist()) == ({-1.0, 1.0} if group.reflections else {1.0})
    assert (element.translation is not None) == group.translations
    if group.translations:
        assert bool(((element.translation @ axis).abs() < 1e-15).all()) == group.horizontal
    # control: other rotations do not keep it
    assert (as_group("SO(3)").sample(rng, 1).matrix[0] @ axis - axis).norm() > 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_kinds_asked_for(name, rng):
    group = as_group(name)
    kinds = group.kinds
    assert group.sample(rng, 2 * len(kinds), kinds=kinds).kinds == kinds * 2


def test_angles_are_uniform(rng):
    matrix = as_group("SO(3) about z").sample(rng, 20_000).matrix
    angle = torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0])
    for order in (1, 2, 3):
        assert abs(torch.cos(order * angle).mean()) < 0.02
        assert abs(torch.sin(order * angle).mean()) < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_groups_compare_pickle_and_read_their_names(name):
    group = as_group(name)
    assert as_group(str(group)) == group == pickle.loads(pickle.dumps(group))
    assert hash(as_group(str(group))) == hash(group)
    assert str(group * Permutations()) == f"{group} * Permutations()"
    assert as_group(f"{name} * Permutations()") == group * Permutations()


def test_the_sign_and_length_of_the_axis_and_the_name_of_rotations_do_not_matter():
    assert Axial("z") == Axial((0.0, 0.0, -3.0)) == as_group("SE(3) about z")
    assert as_group("SO(2) about y") == as_group("SO(3) about y")
    others = [Axial("x", reflections=True), Axial("x", horizontal=True)]
    assert len({Axial("x"), Axial("y"), *others}) == 4


@pytest.mark.parametrize("name", NAMES)
def test_the_basis_is_right_handed_with_the_axis_last(name):
    group = as_group(name)
    basis = group.basis()
    torch.testing.assert_close(basis.mT @ basis, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(basis) > 0
    assert basis[:, 2].tolist() == list(group.axis)
    if group.axis.count(0.0) == 2:
        assert set(basis.flatten().tolist()) == {0.0, 1.0}


def heights_and_fall(points: Tensor, velocities: Tensor) -> dict[str, Tensor]:
    """What gravity does, and what no tilt leaves as it is."""
    down = torch.tensor([0.0, 0.0, -1.0], dtype=points.dtype)
    centred = points - points.mean(-2, keepdim=True)
    return {
        "height": centred[..., 2],
        "falling": velocities + down,
        "landing": points + velocities + down / 2,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["SE(3) about z", "E(3) about z", "SE(2) about z"])
def test_the_check_accepts_gravity_and_rejects_tilts(name, dtype, rng):
    def signature(group: str) -> Signature:
        order = NodeOrder(-2)
        outputs = {
            "height": Scalar() * NodeOrder(-1),
            "falling": Vector() * order,
            "landing": Point() * order,
        }
        inputs = {"points": Point() * order, "velocities": Vector() * order}
        return Signature(as_group(group) * Permutations(), inputs, outputs)

    inputs = {
        "points": torch.randn(7, 3, generator=rng).to(dtype),
        "velocities": torch.randn(7, 3, generator=rng).to(dtype),
    }
    report = equivariance_error(heights_and_fall, inputs, signature(name), generator=rng)
    assert report.max < EQUIVARIANCE[dtype], report
    # control: the same check must reject a tilt, and another axis
    for other in ("SE(3)", "SE(3) about x"):
        tilted = equivariance_error(heights_and_fall, inputs, signature(other), generator=rng)
        assert min(tilted.outputs.values()) > 1e-2, tilted


def test_heights_have_a_meaning_under_horizontal_translations_only(rng):
    def signature(group: str) -> Signature:
        return Signature(as_group(group), {"points": Point()}, Scalar())

    points = {"points": torch.randn(5, 3, generator=rng, dtype=torch.float64)}
    horizontal = signature("SE(2) about z")
    assert equivariance_error(lambda points: points[:, 2], points, horizontal).max < 1e-12
    everywhere = signature("SE(3) about z")
    assert equivariance_error(lambda points: points[:, 2], points, everywhere).max > 1e-2


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Axial("w"), r"axis: expected x, y, z or a vector such as .*, got 'w'"),
        (lambda: Axial((0.0, 0.0, 0.0)), r"axis: expected .*, got \(0\.0, 0\.0, 0\.0\)"),
        (lambda: Axial((1.0, float("inf"), 0.0)), r"axis: expected"),
        (lambda: Axial((1.0, 2.0)), r"axis: expected .* got \(1\.0, 2\.0\)"),
        (lambda: as_group("SE(3) about up"), r"axis: expected .*'up'"),
        (lambda: as_group("SE(3) about (1, up, 0)"), r"axis: 'up' is no number"),
        (lambda: as_group("SE(4) about z"), r"'SE\(4\) about z' has no meaning; .* SE\(3\)"),
        (lambda: as_group("U(3) about z"), r"there is no 'U\(3\) about z'"),
    ],
    ids=["letter", "zero", "infinite", "short", "name", "number", "dimension", "group"],
)
def test_what_is_no_axis_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
