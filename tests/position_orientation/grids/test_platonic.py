"""The corners of the Platonic solids."""

import numpy as np
import pytest

from eqlib.position_orientation.grids.platonic import SIZES, platonic
from eqlib.position_orientation.grids.quadrature import strength
from eqlib.position_orientation.spaces.space import as_space

NEIGHBOURS = {4: (3, -1 / 3), 6: (4, 0.0), 8: (3, 1 / 3), 12: (5, 5**-0.5), 20: (3, 5**0.5 / 3)}
STRENGTHS = {4: 2, 6: 3, 8: 3, 12: 5, 20: 5, 32: 5}


@pytest.mark.parametrize("size", [4, 6, 8, 12, 20])
def test_corners_have_as_many_neighbours_as_faces_meet(size):
    points = platonic(size)
    cosines = points @ points.T
    assert np.abs(np.diag(cosines) - 1).max() < 1e-15
    count, cosine = NEIGHBOURS[size]
    nearest = np.sort(cosines, axis=1)[:, ::-1][:, 1 : count + 2]
    assert np.abs(nearest[:, :count] - cosine).max() < 1e-15
    if size > 4:  # and no more than these
        assert nearest[:, count].max() < cosine - 0.3


@pytest.mark.parametrize("size", [4, 6, 8, 12, 20, 32])
def test_strengths(size):
    points = platonic(size)
    assert strength(points, np.full(size, 1 / size), as_space("R3xS2")) == STRENGTHS[size]


def test_the_union_has_corners_above_faces():
    """The icosahedron is dual to the dodecahedron, not one with corners next to corners."""
    points = platonic(32)
    nearest = np.sort(points[:12] @ points[12:].T, axis=1)[:, ::-1]
    in_radius = np.sqrt((5 + 2 * 5**0.5) / 15)
    assert np.abs(nearest[:, :5] - in_radius).max() < 1e-15
    assert nearest[:, 5].max() < 0.2


def test_the_union_with_other_weights_has_degree_9():
    weights = np.repeat([5 / 14 / 12, 9 / 14 / 20], [12, 20])
    assert strength(platonic(32), weights, as_space("R3xS2")) == 9


def test_sizes():
    assert [len(platonic(size)) for size in SIZES] == list(SIZES)
