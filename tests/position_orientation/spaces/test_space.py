"""Spaces: names, groups, attributes, axes, and the invariants of orientations at one point."""

import pytest
import torch
from torch.testing import assert_close

from eqlib.position_orientation.spaces.space import SPACES, Space, as_space, quarter_turn
from eqlib.symmetry import SE, SO, E

NAMES = ["R2", "R3", "R2xS1", "R3xS2", "SE2", "SE3"]
names = pytest.mark.parametrize("name", NAMES)
ACTIONS = [
    ("R2", "SE(2)", "distance", 0, 0),
    ("R2", "E(2)", "distance", 0, 0),
    ("R3", "SE(3)", "distance", 0, 0),
    ("R3", "E(3)", "distance", 0, 0),
    ("R2xS1", "SE(2)", "axes", 2, 2),
    ("R2xS1", "E(2)", "perpendicular", 1, 1),
    ("SE2", "SE(2)", "axes", 2, 2),
    ("SE2", "E(2)", "perpendicular", 1, 1),
    ("R3xS2", "SE(3)", "perpendicular", 1, 1),
    ("R3xS2", "E(3)", "perpendicular", 1, 1),
    ("SE3", "SE(3)", "axes", 3, 9),
]
actions = pytest.mark.parametrize(("name", "group"), [case[:2] for case in ACTIONS])


def draw(space, rng, *shape):
    """Orientations at random: nothing, unit vectors or rotations."""
    if space.kind == "frames":
        q, _ = torch.linalg.qr(torch.randn(*shape, 3, 3, dtype=torch.float64, generator=rng))
        return q * torch.linalg.det(q)[..., None, None]
    values = torch.randn(*shape, *space.orientation_shape, dtype=torch.float64, generator=rng)
    return torch.nn.functional.normalize(values, dim=-1) if values.numel() else values


def motion(group, rng):
    """The matrices of two rotations, or of a rotation and a reflection."""
    kinds = ["rotation", "reflection" if group.reflections else "rotation"]
    return group.sample(rng, 2, kinds=kinds).matrix


@names
def test_names_are_read(name):
    assert as_space(name) is SPACES[name]
    assert as_space(SPACES[name]) is SPACES[name]
    assert as_space(name).dimension == int(name[-1] if name[0] == "S" else name[1])


@pytest.mark.parametrize(("name", "group", "attributes", "rows", "invariants"), ACTIONS)
def test_attributes_and_numbers_of_axes(name, group, attributes, rows, invariants, rng):
    space = as_space(name)
    assert space.attributes(group) == attributes
    orientations = draw(space, rng, 5, 1 if space.kind == "positions" else 4)
    axes = space.axes(orientations, group)
    assert axes.shape == (*orientations.shape[:2], rows, space.dimension)
    fibre = space.fibre_invariants(orientations, orientations[:, :3], group)
    assert fibre.shape == (5, orientations.shape[1], min(3, orientations.shape[1]), invariants)


@names
def test_groups_are_read_and_rotations_are_the_default(name):
    space = as_space(name)
    assert space.group() == space.group(f"SE({space.dimension})") == SE(space.dimension)
    if name != "SE3":
        assert space.group(f"E({space.dimension})") == E(space.dimension)
        assert space.group(E(space.dimension)).reflections


@actions
def test_axes_turn_with_the_space(name, group, rng):
    """The coordinates of an offset along the axes do not change when both are turned."""
    space = as_space(name)
    orientations = draw(space, rng, 4 if space.kind != "positions" else 1)
    offset = torch.randn(space.dimension, dtype=torch.float64, generator=rng)
    for matrix in motion(space.group(group), rng):
        coordinates = space.axes(orientations, group) @ offset
        moved = turn(space, matrix, orientations)
        assert_close(space.axes(moved, group) @ (matrix @ offset), coordinates)
        if coordinates.numel():  # control: turned offsets look different from the old axes
            assert (space.axes(orientations, group) @ (matrix @ offset) - coordinates).norm() > 1e-2


def turn(space, matrix, orientations):
    if space.kind == "positions":
        return orientations
    return matrix @ orientations if space.kind == "frames" else orientations @ matrix.mT


@actions
def test_fibre_invariants_do_not_change_under_motions(name, group, rng):
    space = as_space(name)
    first, second = (draw(space, rng, 1 if space.kind == "positions" else 4) for _ in range(2))
    invariants = space.fibre_invariants(first, second, group)
    for matrix in motion(space.group(group), rng):
        moved = [turn(space, matrix, orientations) for orientations in (first, second)]
        assert_close(space.fibre_invariants(*moved, group), invariants)
        if invariants.numel():  # control: one of the two alone changes them
            control = space.fibre_invariants(moved[0], second, group)
            assert (control - invariants).abs().max() > 1e-2


def test_fibre_invariants_of_the_plane_are_cosine_and_sine(rng):
    angles = torch.rand(2, 5, dtype=torch.float64, generator=rng) * 6
    first, second = torch.stack([angles.cos(), angles.sin()], dim=-1)
    difference = angles[1][None] - angles[0][:, None]
    invariants = as_space("R2xS1").fibre_invariants(first, second)
    assert_close(invariants, torch.stack([difference.cos(), difference.sin()], dim=-1))
    # control: reflections leave the cosine alone, which does not tell the two senses apart
    assert_close(
        as_space("R2xS1").fibre_invariants(first, second, "E(2)"), difference.cos()[..., None]
    )


def test_axes_of_the_plane_are_signed(rng):
    r = torch.tensor([0.3, -1.1], dtype=torch.float64)
    o = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    along, across = (as_space("SE2").axes(o) @ r)[0]
    assert_close(along, 0.6 * r[0] + 0.8 * r[1])
    assert_close(across, 0.6 * r[1] - 0.8 * r[0])
    assert_close(quarter_turn(o) @ r, across[None])


def test_fibre_invariants_of_rotations_are_the_turn_from_one_to_the_other(rng):
    space = as_space("SE3")
    first, second = draw(space, rng, 3), draw(space, rng, 2)
    invariants = space.fibre_invariants(first, second)
    for i in range(3):
        for j in range(2):
            assert_close(first[i] @ invariants[i, j].reshape(3, 3), second[j])


@names
def test_grids_of_many_graphs_and_empty_ones(name, rng):
    space = as_space(name)
    for shape in ((0, 1), (2, 1), (2, 3, 1)):
        orientations = draw(space, rng, *shape)
        assert space.axes(orientations).shape[: len(shape)] == shape
        assert space.fibre_invariants(orientations, orientations).shape[:-1] == (*shape, 1)


@names
def test_orientations_that_are_not_contiguous_or_expanded(name, rng):
    space = as_space(name)
    orientations = draw(space, rng, 3, 4)
    swapped = orientations.transpose(0, 1)
    assert_close(space.axes(swapped), space.axes(swapped.contiguous()))
    expanded = orientations[:1].expand(5, *orientations.shape[1:])
    invariants = space.fibre_invariants(expanded, orientations[:1])
    assert_close(invariants[3], space.fibre_invariants(orientations[0], orientations[0]))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: as_space("R4"), ValueError, "space: there is no 'R4'; the spaces are R2, R3, R2x"),
        (lambda: as_space(3), TypeError, "space: expected a name such as 'R3xS2', got 3"),
        (lambda: as_space("SE3").attributes("E(3)"), ValueError, "reflections take the rotations"),
        (lambda: as_space("R3").group("SE(2)"), ValueError, r"group: R3 has SE\(3\) and E\(3\), g"),
        (lambda: as_space("R3").group(SO(3)), ValueError, r"group: R3 has .*, got SO\(3\)"),
        (lambda: as_space("R3").group(3), TypeError, "group: expected a name"),
        (
            lambda: as_space("R3xS2").axes(torch.zeros(4, 2)),
            ValueError,
            r"orientations: R3xS2 expects shape \(..., grid, 3\), unit vectors; got \(4, 2\)",
        ),
        (
            lambda: as_space("SE3").axes(torch.zeros(3, 3)),
            ValueError,
            r"orientations: SE3 expects shape \(..., grid, 3, 3\), rotation matrices; got \(3, 3\)",
        ),
        (
            lambda: as_space("R2").fibre_invariants(torch.zeros(1, 0), torch.zeros(1, 2)),
            ValueError,
            r"second: R2 expects shape \(..., grid, 0\), orientations without components; got",
        ),
    ],
    ids=range(9),
)
def test_wrong_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_spaces_are_values():
    assert Space("R3", 3, "positions") == as_space("R3")
    assert len({as_space(name) for name in NAMES}) == len(NAMES)
