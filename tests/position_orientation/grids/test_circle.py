"""Uniform grids of the circle."""

import numpy as np
import pytest

from eqlib.position_orientation.grids.circle import uniform

sizes = pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 16, 24, 100])


@sizes
def test_directions_are_even(size):
    angle = 2 * np.pi * np.arange(size) / size
    expected = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    assert np.abs(uniform(size) - expected).max() < 1e-15 * 4


@sizes
def test_opposites_and_mirror_images_are_so_exactly(size):
    points = {tuple(point) for point in (uniform(size) + 0.0).tolist()}
    assert len(points) == size
    assert {(x, -y + 0.0) for x, y in points} == points
    antipodal = {(-x + 0.0, -y + 0.0) for x, y in points} == points
    assert antipodal == (size % 2 == 0)  # odd ones are the control
