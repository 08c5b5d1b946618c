"""Strength and weights, against Legendre polynomials and characters."""

import numpy as np
import pytest
from numpy.polynomial import legendre

from eqlib.position_orientation.grids.build import build
from eqlib.position_orientation.grids.quadrature import quadrature_weights, strength
from eqlib.position_orientation.spaces.space import as_space

GRIDS = [
    ("R3xS2", "platonic", 4, 2, 2),
    ("R3xS2", "platonic", 6, 3, 3),
    ("R3xS2", "platonic", 8, 3, 3),
    ("R3xS2", "platonic", 12, 5, 5),
    ("R3xS2", "platonic", 20, 5, 5),
    ("R3xS2", "platonic", 32, 5, 9),
    ("R3xS2", "sign_orbit", 24, 3, 3),
    ("R3xS2", "sign_orbit", 48, 3, 5),
    ("R3xS2", "repulsion", 20, 1, 4),
    ("R3xS2", "fibonacci", 20, 0, 3),
    ("R3xS2", "fibonacci", 64, 0, 7),
    ("R2xS1", "uniform", 5, 4, 4),
    ("R2xS1", "uniform", 12, 11, 11),
    ("SE3", "platonic", 24, 3, 3),
    ("SE3", "platonic", 60, 5, 5),
    ("SE3", "proper_orbit", 48, 1, 3),
    ("SE3", "fibonacci", 60, 0, 2),
]
grids = pytest.mark.parametrize(("name", "kind", "size", "equal", "weighted"), GRIDS)


def zonal_means(points, weights, space, degree):
    """The weighted means over all pairs of the zonal functions of degrees 1 to ``degree``."""
    if space.kind == "frames":
        traces = np.einsum("aij,bij->ab", points, points)
        angle = np.arccos(np.clip((traces - 1) / 2, -1, 1))
        total = [1 + 2 * sum(np.cos(k * angle) for k in range(1, n + 1)) for n in range(degree + 1)]
        values = [character / (2 * n + 1) for n, character in enumerate(total)]
    else:
        cosines = np.clip(points @ points.T, -1, 1)
        if space.dimension == 2:
            values = [np.cos(n * np.arccos(cosines)) for n in range(degree + 1)]
        else:
            values = [legendre.legval(cosines, np.eye(degree + 1)[n]) for n in range(degree + 1)]
    return [float(weights @ value @ weights) for value in values[1:]]


@grids
def test_strength_is_that_of_zonal_functions(name, kind, size, equal, weighted):
    space = as_space(name)
    points = build(space, size, kind)
    uniform = np.full(size, 1 / size)
    best = quadrature_weights(points, space)
    for weights, expected in ((uniform, equal), (best, weighted)):
        assert strength(points, weights, space) == expected
        means = zonal_means(points, weights, space, expected + 1)
        assert np.abs(means[:expected]).max(initial=0) < 1e-14
        assert means[expected] > 1e-7  # control: the next degree is not exact


@grids
def test_weights_are_positive_and_sum_to_one(name, kind, size, equal, weighted):
    space = as_space(name)
    weights = quadrature_weights(build(space, size, kind), space)
    assert weights.sum() == pytest.approx(1, abs=1e-15)
    assert (weights >= 0.5 / size).all()
    assert (weights == 1 / size).all() == (equal == weighted)


def test_weights_of_the_union_are_those_known():
    """5/168 and 9/280 make the mean of the icosahedral invariant of degree 6 vanish."""
    space = as_space("R3xS2")
    weights = quadrature_weights(build(space, 32, "platonic"), space)
    assert np.abs(weights - np.repeat([5 / 168, 9 / 280], [12, 20])).max() < 1e-15


def test_weights_integrate_a_polynomial():
    space = as_space("R3xS2")
    points = build(space, 20, "fibonacci")
    weights = quadrature_weights(points, space)
    x, y, z = points.T
    values = 3 * x**2 + x * y * z - 2 * y * z**2 + z + 0.5
    assert weights @ values == pytest.approx(1.5, abs=1e-14)
    assert abs(values.mean() - 1.5) > 1e-4  # control: with equal weights


def test_one_orientation_has_strength_zero():
    for name, point in (("R3xS2", [[0, 0, 1.0]]), ("R2xS1", [[1.0, 0]]), ("SE3", [np.eye(3)])):
        space, points = as_space(name), np.array(point)
        assert strength(points, np.ones(1), space) == 0
        assert quadrature_weights(points, space) == [1]
