"""Grids of rotations."""

import numpy as np
import pytest

from eqlib.position_orientation.grids import rotations
from eqlib.position_orientation.grids.platonic import platonic
from eqlib.position_orientation.grids.quadrature import strength
from eqlib.position_orientation.grids.tables import sign_changes
from eqlib.position_orientation.spaces.space import as_space

FAMILIES = {
    "group-12": lambda: rotations.rotation_group(12),
    "group-24": lambda: rotations.rotation_group(24),
    "group-60": lambda: rotations.rotation_group(60),
    "orbits-8": lambda: rotations.half_turn_orbits(8),
    "orbits-36": lambda: rotations.half_turn_orbits(36),
    "repulsion-10": lambda: rotations.repelled_rotations(10),
    "spiral-50": lambda: rotations.spiral_rotations(50),
}


def contains(grid, rotation):
    return (np.abs(grid - rotation).max((1, 2)) < 1e-12).any()


@pytest.mark.parametrize("name", list(FAMILIES))
def test_they_are_rotations_all_different(name):
    grid = FAMILIES[name]()
    assert grid.shape == (int(name.split("-")[1]), 3, 3)
    assert np.abs(grid @ grid.swapaxes(1, 2) - np.eye(3)).max() < 1e-15 * 4
    assert np.abs(np.linalg.det(grid) - 1).max() < 1e-15 * 4
    traces = np.einsum("aij,bij->ab", grid, grid)
    assert (traces > 3 - 1e-9).sum() == len(grid)


@pytest.mark.parametrize(("size", "solid", "exact"), [(12, 4, 2), (24, 6, 3), (60, 12, 5)])
def test_groups_are_those_of_the_solids(size, solid, exact):
    group = rotations.rotation_group(size)
    for element in group:
        assert all(contains(group, element @ other) for other in group)
        moved = platonic(solid) @ element.T
        nearest = (moved @ platonic(solid).T).max(axis=1)
        assert np.abs(nearest - 1).max() < 1e-12
    assert strength(group, np.full(size, 1 / size), as_space("SE3")) == exact


@pytest.mark.parametrize("name", ["group-12", "group-24", "group-60", "orbits-8", "orbits-36"])
def test_half_turns_map_them_to_themselves(name):
    grid = FAMILIES[name]()
    for signs in sign_changes(3, proper=True):
        assert all(contains(grid, np.diag(signs) @ rotation) for rotation in grid)
    # control: a grid without symmetry
    spiral = rotations.spiral_rotations(24)
    assert not all(contains(spiral, np.diag([1, -1, -1]) @ rotation) for rotation in spiral)


def test_repelled_rotations_find_the_groups():
    """60 of them are the icosahedral group, up to a rotation: the same turns between all pairs."""
    traces = [
        np.sort(np.einsum("aij,bij->ab", grid, grid).ravel())
        for grid in (rotations.repelled_rotations(60), rotations.rotation_group(60))
    ]
    assert np.abs(traces[0] - traces[1]).max() < 1e-8


def test_matrices_of_quaternions():
    angle = 0.7
    half = np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)])
    expected = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    assert np.abs(rotations.rotation_matrices(half) - expected).max() < 1e-15
    assert np.array_equal(rotations.rotation_matrices(-half), rotations.rotation_matrices(half))
