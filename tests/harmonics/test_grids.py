"""Grids on the sphere: exact up to their degree, and not one degree further."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import lebedev_rule

from eqlib.harmonics import (
    gauss_legendre_grid,
    half_grid,
    lebedev_grid,
    sphere_grid,
    spherical_harmonics,
    tangent_frames,
)
from eqlib.harmonics.grids import LEBEDEV_DEGREES, rings

FULL = [gauss_legendre_grid, lebedev_grid, sphere_grid]
DEGREES = [0, 1, 2, 5, 6, 12, 13, 25, 31, 32, 60]
full = pytest.mark.parametrize("grid", FULL, ids=lambda f: f.__name__)
any_grid = pytest.mark.parametrize("grid", [*FULL, half_grid], ids=lambda f: f.__name__)
degrees = pytest.mark.parametrize("degree", DEGREES)


def errors(points, weights, lmax):
    """Errors of the integrals of the harmonics, the largest of each degree."""
    integrals = weights @ spherical_harmonics(points, lmax)
    integrals[0] -= math.sqrt(4 * math.pi)
    parts = integrals.abs().split([2 * n + 1 for n in range(lmax + 1)])
    return torch.stack([part.max() for part in parts])


def integral_of_monomial(exponents):
    """Of x^a y^b z^c over the sphere, in closed form."""
    if any(exponent % 2 for exponent in exponents):
        return 0.0
    halves = [(exponent + 1) / 2 for exponent in exponents]
    return 2 * math.prod(map(math.gamma, halves)) / math.gamma(sum(halves))


@degrees
@full
def test_grids_are_exact_up_to_their_degree(grid, degree):
    points, weights, exact = grid(degree)
    assert exact >= degree
    assert errors(points, weights, exact).max() < 1e-13
    # control: the next degree is not integrated
    assert errors(points, weights, exact + 1)[-1] > 1e-3


@degrees
def test_half_grids_are_exact_for_even_functions(degree):
    points, weights, exact = half_grid(degree)
    assert exact % 2 == 0
    assert exact >= degree - degree % 2
    even = errors(points, weights, exact + 2)[::2]
    assert even[:-1].max() < 1e-13
    # controls: the next even degree is not integrated, nor odd ones
    assert even[-1] > 1e-3
    assert errors(points, weights, 1)[1] > 1e-3


@pytest.mark.parametrize("degree", [5, 8])
@any_grid
def test_monomials_are_integrated(grid, degree):
    points, weights, _ = grid(degree)
    for exponents in itertools.product(range(degree + 1), repeat=3):
        total = sum(exponents)
        if total <= degree and not (grid is half_grid and total % 2):
            result = (weights * points.pow(torch.tensor(exponents)).prod(-1)).sum()
            assert abs(result - integral_of_monomial(exponents)) < 1e-13


@pytest.mark.parametrize("degree", [4, 5, 12, 13])
def test_gauss_legendre_grids_are_minimal(degree):
    count, angles = degree // 2 + 1, degree + 1
    assert len(gauss_legendre_grid(degree).points) == count * angles
    for fewer in ((count - 1, angles), (count, angles - 1)):
        points, weights = (torch.tensor(array) for array in rings(*fewer))
        assert errors(points, weights, degree).max() > 1e-2


def test_numbers_of_points():
    # those of products of two and three functions of one degree 1 to 10
    expected = {
        gauss_legendre_grid: [8, 28, 50, 91, 128, 190, 242, 325, 392, 496],
        lebedev_grid: [6, 26, 38, 74, 86, 146, 170, 230, 266, 350],
        sphere_grid: [6, 26, 38, 74, 86, 146, 170, 230, 266, 350],
        half_grid: [3, 13, 19, 37, 43, 73, 85, 115, 133, 175],
    }
    found = {grid: [len(grid(3 * n).points) for n in range(1, 11)] for grid in expected}
    assert found == expected


def test_the_smaller_grid_is_chosen():
    for degree in (0, 1, 2, 33, 131, 133):
        counts = [len(gauss_legendre_grid(degree).points)]
        if degree <= 131:
            counts.append(len(lebedev_grid(degree).points))
        assert len(sphere_grid(degree).points) == min(counts)
    # Gauss-Legendre wins where no Lebedev rule is near, and beyond the last one
    assert len(half_grid(0).points) == 1
    assert len(half_grid(140).points) == 71**2


@degrees
@any_grid
def test_points_and_weights(grid, degree):
    points, weights, _ = grid(degree)
    assert points.dtype == weights.dtype == torch.float64
    assert points.shape == (len(weights), 3)
    torch.testing.assert_close(points.norm(dim=1), torch.ones_like(weights))
    assert weights.sum().item() == pytest.approx(4 * math.pi, rel=1e-14)


@degrees
def test_half_grids_hold_no_opposite_points(degree):
    points, weights, _ = half_grid(degree)
    sums = (points[:, None] + points).norm(dim=-1)
    assert sums.min() > 1e-6
    both, halves = torch.cat([points, -points]), torch.cat([weights, weights]) / 2
    assert errors(both, halves, degree).max() < 1e-13


def test_some_lebedev_weights_are_negative():
    negative = [n for n in LEBEDEV_DEGREES if (lebedev_grid(n).weights < 0).any()]
    assert negative == [13, 25, 27]


def test_lebedev_degrees_are_those_of_scipy():
    for degree in range(1, LEBEDEV_DEGREES[-1] + 2):
        if degree in LEBEDEV_DEGREES:
            assert len(lebedev_rule(degree)[1]) == len(lebedev_grid(degree).weights)
        else:
            with pytest.raises(NotImplementedError):
                lebedev_rule(degree)


@any_grid
def test_tables_are_on_the_cpu_whatever_the_default_device(grid):
    with torch.device("meta"):
        points, weights, _ = grid(6)
    assert points.device.type == weights.device.type == "cpu"


@any_grid
def test_result_is_ones_own(grid):
    points, weights, _ = grid(6)
    copies = points.clone(), weights.clone()
    points.zero_(), weights.zero_()
    again = grid(6)
    assert torch.equal(again.points, copies[0])
    assert torch.equal(again.weights, copies[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_tangent_frames(dtype, rng):
    points = torch.randn(2, 20, 3, generator=rng, dtype=torch.float64)
    points[0, :6] = torch.cat([torch.eye(3), -torch.eye(3)])
    points = torch.nn.functional.normalize(points, dim=-1).to(dtype)
    frames = torch.cat([tangent_frames(points), points[..., None, :]], dim=-2)
    atol = 10 * torch.finfo(dtype).eps
    identity = torch.eye(3, dtype=dtype).expand(2, 20, 3, 3)
    torch.testing.assert_close(frames @ frames.mT, identity, rtol=0, atol=atol)
    torch.testing.assert_close(torch.linalg.det(frames), identity[..., 0, 0], rtol=0, atol=atol)
    assert tangent_frames(points[:, :0]).shape == (2, 0, 2, 3)


@pytest.mark.unchecked
@any_grid
def test_bad_degrees_are_refused(grid):
    with pytest.raises(ValueError, match="degree is -1; expected a degree of at least 0"):
        grid(-1)
    with pytest.raises(TypeError, match=r"degree is 2\.5; expected a whole number"):
        grid(2.5)
    with pytest.raises(TypeError, match="degree is array"):
        grid(np.ones(2))


@pytest.mark.unchecked
def test_degrees_above_the_tables_are_refused():
    with pytest.raises(ValueError, match=r"degree is 132; expected at most 131 .*gauss_legendre"):
        lebedev_grid(132)
    with pytest.raises(ValueError, match=r"points has shape \(3, 2\); expected \(\.\.\., 3\)"):
        tangent_frames(torch.ones(3, 2))
