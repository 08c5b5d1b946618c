"""Gaunt and Poisson coefficients: constants from exact 3j symbols, symmetry, selection rules."""

import math

import pytest
import torch
from e3nn import o3
from sympy.physics.wigner import wigner_3j

from eqlib.harmonics import (
    gaunt_coefficients,
    poisson_coefficients,
    sphere_grid,
    spherical_harmonics,
    spherical_harmonics_gradient,
)

FUNCTIONS = [gaunt_coefficients, poisson_coefficients]
functions = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)


def block(table, *degrees):
    return table[tuple(slice(n**2, (n + 1) ** 2) for n in degrees)]


def paths(lmax, parity):
    return [
        (one, two, three)
        for one in range(lmax + 1)
        for two in range(lmax + 1)
        for three in range(abs(one - two), min(one + two, lmax) + 1)
        if (one + two + three) % 2 == parity
    ]


def expected_constant(path, parity):
    """Factor of a path's coefficients over those of e3nn, from an exact 3j symbol."""
    one, two, three = path
    symbol = abs(float(wigner_3j(one, two, three, parity, -parity, 0)))
    dimensions = math.prod(2 * degree + 1 for degree in path)
    slopes = one * (one + 1) * two * (two + 1) if parity else 1
    return math.sqrt(slopes * dimensions / (4 * math.pi)) * symbol


@pytest.mark.parametrize(("parity", "count"), [(0, 42), (1, 23)], ids=["gaunt", "poisson"])
def test_every_path_is_a_multiple_of_e3nns(parity, count):
    table = FUNCTIONS[parity](4, 4, 4)
    found = paths(4, parity)
    assert len(found) == count
    for path in found:
        constant = expected_constant(path, parity)
        assert constant > 0.1
        expected = constant * o3.wigner_3j(*path, dtype=torch.float64)
        assert (block(table, *path) - expected).abs().max() < 1e-12


@functions
def test_zeros_are_exact(function):
    table = function(4, 3, 5)
    odd = function is poisson_coefficients
    allowed = torch.zeros_like(table, dtype=torch.bool)
    for path in paths(5, int(odd)):
        if path[0] <= 4 and path[1] <= 3:
            block(allowed, *path)[:] = True
    assert (table[~allowed] == 0).all()
    assert table[allowed].any()
    assert table[table != 0].abs().min() > 1e-3


def test_number_of_nonzero_coefficients():
    counts = [int((gaunt_coefficients(n, n, n) != 0).sum()) for n in range(1, 7)]
    assert counts == [10, 83, 353, 1158, 2907, 6460]


@pytest.mark.parametrize("lmax", [3, 8])
def test_gaunt_coefficients_are_symmetric(lmax):
    table = gaunt_coefficients(lmax, lmax, lmax)
    for axes in ((1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0)):
        assert (table - table.permute(axes)).abs().max() < 1e-14


@pytest.mark.parametrize("lmax", [3, 8])
def test_poisson_coefficients_are_antisymmetric(lmax):
    table = poisson_coefficients(lmax, lmax, lmax)
    scale = table.abs().max()
    for axes in ((1, 0, 2), (0, 2, 1), (2, 1, 0)):
        assert (table + table.permute(axes)).abs().max() < 1e-14 * scale
    assert (table - table.permute(1, 2, 0)).abs().max() < 1e-14 * scale
    # control: the table is not just zeros
    assert scale > 0.1


@functions
def test_lower_degrees_are_leading_parts(function):
    small, large = function(1, 3, 2), function(3, 3, 4)
    torch.testing.assert_close(small, large[:4, :, :9], rtol=0, atol=1e-14)


def test_gaunt_coefficients_multiply_functions(rng):
    x, y = (torch.randn(n, dtype=torch.float64, generator=rng) for n in (16, 9))
    vectors = torch.randn(20, 3, dtype=torch.float64, generator=rng)
    product = torch.einsum("abc,a,b->c", gaunt_coefficients(3, 2, 5), x, y)
    factors = (spherical_harmonics(vectors, 3) @ x) * (spherical_harmonics(vectors, 2) @ y)
    torch.testing.assert_close(spherical_harmonics(vectors, 5) @ product, factors)
    # control: one degree less loses a part
    assert (spherical_harmonics(vectors, 4) @ product[:25] - factors).abs().max() > 1e-2


def test_poisson_coefficients_are_the_bracket(rng):
    x, y = (torch.randn(n, dtype=torch.float64, generator=rng) for n in (16, 9))
    grid = sphere_grid(8)
    slopes = [
        torch.einsum("gck,c->gk", spherical_harmonics_gradient(grid.points, lmax), values)
        for lmax, values in ((3, x), (2, y))
    ]
    bracket = (grid.points * torch.linalg.cross(*slopes)).sum(-1)
    expected = (grid.weights * bracket) @ spherical_harmonics(grid.points, 4)
    result = torch.einsum("abc,a,b->c", poisson_coefficients(3, 2, 4), x, y)
    torch.testing.assert_close(result, expected)
    vectors = poisson_coefficients(1, 1, 1)[1:, 1:, 1:]
    cross = torch.linalg.cross(*torch.eye(3, dtype=torch.float64)[:2])
    torch.testing.assert_close(vectors[0, 1], math.sqrt(3 / (4 * math.pi)) * cross)


@functions
def test_high_degrees(function):
    table = function(1, 30, 30)
    parity = int(function is poisson_coefficients)
    path = (1, 30, 30 - 1 + parity)
    expected = expected_constant(path, parity)
    # 3j coefficients have the sum of squares 1
    norm = block(table, *path).square().sum().sqrt().item()
    assert norm == pytest.approx(expected, rel=1e-12)


@functions
def test_result_is_ones_own(function):
    first = function(2, 2, 2)
    copy = first.clone()
    first.zero_()
    assert torch.equal(function(2, 2, 2), copy)
    assert copy.dtype == torch.float64
    assert function(0, 2, 3).shape == (1, 9, 16)
    with torch.device("meta"):
        assert function(2, 2, 2).device.type == "cpu"


@pytest.mark.unchecked
@pytest.mark.parametrize("place", [0, 1, 2])
@functions
def test_bad_degrees_are_refused(function, place):
    degrees = [2, 2, 2]
    degrees[place] = -1
    with pytest.raises(ValueError, match=f"lmax{place + 1} is -1; expected a degree of at least 0"):
        function(*degrees)
    degrees[place] = 2.0
    with pytest.raises(TypeError, match=rf"lmax{place + 1} is 2\.0; expected a whole number"):
        function(*degrees)
