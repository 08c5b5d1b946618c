"""Points that repel each other."""

import numpy as np
import pytest

from eqlib.position_orientation.grids.fibonacci import fibonacci
from eqlib.position_orientation.grids.platonic import platonic
from eqlib.position_orientation.grids.repulsion import repelled, repelled_points


def energy(points):
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    return (1 / distances[np.triu_indices(len(points), 1)]).sum()


@pytest.mark.parametrize(
    ("size", "lowest"),
    [
        (2, 0.5),
        (3, 1.732050808),
        (4, 3.674234614),
        (5, 6.474691495),
        (6, 9.985281374),
        (7, 14.452977414),
        (8, 19.675287861),
        (12, 49.165253058),
        (16, 92.911655303),
        (20, 150.881568334),
        (32, 412.261274651),
    ],
)
def test_energies_are_the_lowest_known(size, lowest):
    """Wales and Ulker, Phys. Rev. B 74, 2006 (the Thomson problem)."""
    points = repelled_points(size)
    assert np.abs(np.linalg.norm(points, axis=1) - 1).max() < 1e-15
    assert energy(points) == pytest.approx(lowest, abs=2e-9)
    if size > 4:  # control: where the descent started
        assert energy(fibonacci(size)) > lowest + 1e-3


@pytest.mark.parametrize("size", [4, 6, 12, 32])
def test_some_are_platonic_solids(size):
    cosines = [np.sort((p @ p.T).ravel()) for p in (repelled_points(size), platonic(size))]
    assert np.abs(cosines[0] - cosines[1]).max() < 1e-14
    cube = repelled_points(8)  # control: the cube is not the minimum, but a twisted one
    assert np.abs(np.sort((cube @ cube.T).ravel()) - platonic_cosines(8)).max() > 0.1


def platonic_cosines(size):
    return np.sort((platonic(size) @ platonic(size).T).ravel())


@pytest.mark.parametrize("size", [5, 13, 40])
def test_no_force_is_left(size):
    points = repelled_points(size)
    differences = points[:, None] - points
    distances = np.linalg.norm(differences, axis=-1)
    np.fill_diagonal(distances, np.inf)
    forces = (differences / distances[..., None] ** 3).sum(1)
    tangential = forces - (forces * points).sum(1, keepdims=True) * points
    assert np.abs(tangential).max() < 1e-13 * size


def test_results_are_the_same_each_time():
    assert np.array_equal(repelled_points(17), repelled_points(17))


def test_seeds_in_mirror_planes_stay_there():
    group = np.stack([np.diag([x, y, z]) for x in (1, -1) for y in (1, -1) for z in (1.0, -1)])
    seeds = np.array([[0, 0.8, 0.6], [0.0, 0.0, 1.0], [0.6, 0.0, 0.8]])
    moved = repelled(seeds, group)
    assert (moved[seeds == 0] == 0).all()
    assert np.abs(moved - seeds).max() > 0.05
    # without mirror planes, zeros are nothing special
    free = repelled(fibonacci(5), np.eye(3)[None])
    assert fibonacci(5)[2, 2] == 0
    assert energy(free) == pytest.approx(6.474691495, abs=1e-8)
