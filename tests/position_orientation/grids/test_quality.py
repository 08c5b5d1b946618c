"""Figures of grids: covering radius and separation, against known angles and dense samples."""

import math

import numpy as np
import pytest
import torch

from eqlib.position_orientation.grids import OrientationGrid, grid_quality

KNOWN = [
    ("R3xS2", 4, "platonic", math.acos(1 / 3), math.acos(-1 / 3)),
    ("R3xS2", 6, "platonic", math.acos(3**-0.5), math.pi / 2),
    ("R3xS2", 8, "platonic", math.acos(3**-0.5), math.acos(1 / 3)),
    ("R3xS2", 2, "repulsion", math.pi / 2, math.pi),
    ("R3xS2", 1, "fibonacci", math.pi, math.pi),
    ("R3xS2", 3, "repulsion", math.pi / 2, 2 * math.pi / 3),
    ("R2xS1", 1, "uniform", math.pi, math.pi),
    ("R2xS1", 2, "uniform", math.pi / 2, math.pi),
    ("R2xS1", 12, "uniform", math.pi / 12, math.pi / 6),
    ("SE3", 12, "platonic", math.pi / 2, 2 * math.pi / 3),
    ("SE3", 60, "platonic", 2 * math.acos((2**0.5 * (3 + 5**0.5)) / 8), 2 * math.pi / 5),
    ("SE3", 1, "fibonacci", math.pi, math.pi),
]


@pytest.mark.parametrize(("space", "size", "kind", "covering", "separation"), KNOWN)
def test_known_angles(space, size, kind, covering, separation):
    quality = grid_quality(OrientationGrid(space, size, kind))
    assert quality.covering_radius == pytest.approx(math.degrees(covering), abs=1e-6)
    assert quality.separation == pytest.approx(math.degrees(separation), abs=1e-6)


@pytest.mark.parametrize("kind", ["platonic", "sign_orbit", "fibonacci"])
def test_no_direction_is_farther_than_the_covering_radius(kind, rng):
    grid = OrientationGrid("R3xS2", 20, kind)
    radius = math.radians(grid_quality(grid).covering_radius)
    draws = torch.randn(100_000, 3, dtype=torch.float64, generator=rng)
    cosines = torch.nn.functional.normalize(draws, dim=-1) @ grid.orientations.mT
    farthest = math.acos(cosines.amax(1).min())
    assert 0.98 * radius < farthest < radius + 1e-12


def test_no_rotation_is_farther_than_the_covering_radius(rng):
    grid = OrientationGrid("SE3", 24)
    radius = math.radians(grid_quality(grid).covering_radius)
    q, _ = torch.linalg.qr(torch.randn(50_000, 3, 3, dtype=torch.float64, generator=rng))
    q = q * torch.linalg.det(q)[:, None, None]
    traces = torch.einsum("aij,bij->ab", q, grid.orientations)
    farthest = math.acos((traces.amax(1).min() - 1) / 2)
    assert 0.9 * radius < farthest < radius + 1e-12


@pytest.mark.parametrize(
    ("space", "size", "kind", "signs", "antipodal"),
    [
        ("R3xS2", 4, "platonic", "proper", False),
        ("R3xS2", 20, "platonic", "all", True),
        ("R3xS2", 16, "sign_orbit", "all", True),
        ("R3xS2", 16, "proper_orbit", "proper", False),
        ("R3xS2", 16, "fibonacci", "none", False),
        ("R2xS1", 5, "uniform", "none", False),
        ("R2xS1", 6, "uniform", "all", True),
        ("SE3", 24, "platonic", "proper", False),
        ("SE3", 24, "fibonacci", "none", False),
    ],
)
def test_symmetries(space, size, kind, signs, antipodal):
    quality = grid_quality(OrientationGrid(space, size, kind))
    assert (quality.signs, quality.antipodal) == (signs, antipodal)
    assert quality[:3] == (space, kind, size)


def test_even_grids_cover_better():
    """At the same size: the lower the better, as the errors of plain grids rank."""
    radii = [
        grid_quality(OrientationGrid("R3xS2", 20, kind)).covering_radius
        for kind in ("sign_orbit", "fibonacci", "platonic")
    ]
    assert np.all(np.diff(radii) > 0)


@pytest.mark.unchecked
def test_positions_have_no_figures():
    with pytest.raises(ValueError, match="grid: R3 has no orientations to compare; expected a gri"):
        grid_quality(OrientationGrid("R3", 1))
