"""Grids that changes of signs map to themselves."""

import numpy as np
import pytest

from eqlib.position_orientation.grids.orbit_table import SEEDS
from eqlib.position_orientation.grids.platonic import platonic
from eqlib.position_orientation.grids.repulsion import repelled
from eqlib.position_orientation.grids.sign_orbits import proper_sign_orbits, sign_orbits
from eqlib.position_orientation.grids.tables import sign_changes, sign_orbit

EVEN = list(range(6, 65, 2))


def energy(points):
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    return (1 / distances[np.triu_indices(len(points), 1)]).sum()


def as_set(points):
    return {tuple(point) for point in (np.round(points, 12) + 0.0).tolist()}


@pytest.mark.parametrize("size", EVEN)
def test_tabulated_grids_are_symmetric_and_of_strength_3(size):
    points = sign_orbits(size)
    assert points.shape == (size, 3)
    assert np.abs(np.linalg.norm(points, axis=1) - 1).max() < 1e-15
    for signs in sign_changes(3, proper=False):
        assert as_set(points * signs) == as_set(points)
    # Odd degrees vanish by symmetry, and with this the second does.
    assert np.abs(points.T @ points / size - np.eye(3) / 3).max() < 1e-15


@pytest.mark.parametrize(
    ("size", "lowest"),
    [(16, 92.911655303), (20, 150.881568334), (24, 223.347074052), (48, 968.713455344)],
)
def test_points_are_nearly_as_well_spread_as_without_symmetry(size, lowest):
    """Lowest energies: Wales and Ulker, Phys. Rev. B 74, 2006 (the Thomson problem)."""
    assert lowest - 1e-6 < energy(sign_orbits(size)) < 1.01 * lowest
    if size == 20:  # more so than the dodecahedron
        assert energy(platonic(20)) > 1.005 * energy(sign_orbits(20))


@pytest.mark.parametrize("size", sorted(SEEDS))
def test_tabulated_seeds_have_one_orbit_each(size):
    seeds = np.array(SEEDS[size])
    assert (seeds >= 0).all()
    orbits = [len(sign_orbit(seed[None])) for seed in seeds]
    assert orbits == [2 ** int((seed > 0).sum()) for seed in seeds]
    assert sum(orbits) == size


@pytest.mark.parametrize("size", sorted(SEEDS))
def test_tabulated_seeds_are_lowest_under_their_condition(size):
    """Without the condition on second moments the energy falls no further than it allows."""
    seeds = np.array(SEEDS[size])
    group = np.stack([np.diag(signs) for signs in sign_changes(3, proper=False)])
    start = energy(sign_orbit(seeds))
    end = energy(sign_orbit(repelled(seeds, group)))
    assert end <= start * (1 + 1e-12)
    assert start - end < 5e-3 * start


@pytest.mark.parametrize("size", [72, 80, 128])
def test_larger_grids_are_symmetric(size):
    points = sign_orbits(size)
    assert points.shape == (size, 3)
    for signs in sign_changes(3, proper=False):
        assert as_set(points * signs) == as_set(points)
    assert np.sort(points @ points.T, axis=1)[:, -2].max() < np.cos(2.8 / np.sqrt(size))


@pytest.mark.parametrize("size", [4, 8, 16, 24, 64])
def test_orbits_of_half_turns(size):
    points = proper_sign_orbits(size)
    assert points.shape == (size, 3)
    for signs in sign_changes(3, proper=True):
        assert as_set(points * signs) == as_set(points)
    # control: reflections make other points of them
    if size in (4, 16, 24):
        assert as_set(-points) != as_set(points)


def test_half_turns_spread_points_as_well_as_no_symmetry():
    assert energy(proper_sign_orbits(16)) == pytest.approx(92.911655303, abs=1e-8)
    assert energy(proper_sign_orbits(24)) == pytest.approx(223.347074052, abs=1e-8)


def test_sign_changes():
    assert len(sign_changes(2, proper=False)) == 4
    assert len(sign_changes(3, proper=False)) == 8
    assert (sign_changes(3, proper=True).prod(axis=1) == 1).all()
    assert len(sign_changes(3, proper=True)) == 4
