"""Fourier tables: the harmonics as series, and products projected back."""

import math

import pytest
import torch

from eqlib.harmonics import fourier_tables, gaunt_coefficients, spherical_harmonics


def waves(orders, angle):
    """Functions t_m of the angle phi, ``(orders, angles)``."""
    return torch.stack([torch.cos(m * angle) if m >= 0 else torch.sin(-m * angle) for m in orders])


def series(frequencies, odd, theta):
    """Functions s_mu of the angle theta, ``(frequencies, angles)``."""
    return (torch.sin if odd else torch.cos)(torch.arange(frequencies)[:, None] * theta)


def angles(count):
    return 2 * math.pi * torch.arange(count, dtype=torch.float64) / count


def on_torus(x, lmax, theta, phi):
    """Values of the function with coefficients x, by the series."""
    table, values = fourier_tables(lmax, 0).series, 0.0
    for degree in range(lmax + 1):
        orders = list(range(-degree, degree + 1))
        for order, wave in zip(orders, waves(orders, phi), strict=True):
            line = table[abs(order), degree] @ series(lmax + 1, order % 2, theta)
            values = values + x[degree**2 + degree + order] * line[:, None] * wave
    return values


def projected(values, lmax, umax, theta, phi):
    """Coefficients of the function by its Fourier coefficients F_mu and the projection."""
    table = fourier_tables(lmax, umax).projection
    coefficients = []
    for degree in range(lmax + 1):
        for order in range(-degree, degree + 1):
            (wave,) = waves([order], phi)
            line = values @ wave / wave.square().sum()
            s = series(umax + 1, order % 2, theta)
            F = s @ line / s.square().sum(1).clamp(min=0.5)
            coefficients.append(table[abs(order), degree] @ F)
    return torch.stack(coefficients)


@pytest.mark.parametrize("lmax", [0, 1, 6, 20])
def test_series_are_the_harmonics(lmax, rng):
    x = torch.randn((lmax + 1) ** 2, dtype=torch.float64, generator=rng)
    theta = math.pi * torch.rand(7, dtype=torch.float64, generator=rng)
    phi = angles(5) + 0.1
    sine = theta.sin()[:, None]
    vectors = torch.stack(
        [sine * phi.sin(), theta.cos()[:, None].expand(7, 5), sine * phi.cos()], dim=-1
    )
    expected = spherical_harmonics(vectors, lmax) @ x
    assert (on_torus(x, lmax, theta, phi) - expected).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("one", "two", "out"), [(2, 2, 2), (3, 2, 5), (1, 4, 2), (0, 3, 3), (8, 8, 8)]
)
def test_products_project_to_the_gaunt_product(one, two, out, rng):
    x, y = (torch.randn((n + 1) ** 2, dtype=torch.float64, generator=rng) for n in (one, two))
    umax = one + two
    theta, phi = angles(2 * umax + 2), angles(umax + out + 2)
    product = on_torus(x, one, theta, phi) * on_torus(y, two, theta, phi)
    expected = torch.einsum("abc,a,b->c", gaunt_coefficients(one, two, out), x, y)
    assert (projected(product, out, umax, theta, phi) - expected).abs().max() < 1e-12
    if umax > out:
        # control: frequencies beyond the degree of the result contribute to it
        fewer = projected(product, out, out, theta, phi)
        assert (fewer - expected).abs().max() > 1e-3


def test_zeros_are_exact():
    table, projection = fourier_tables(5, 9)
    assert table.shape == (6, 6, 6)
    assert projection.shape == (6, 6, 10)
    for array in (table, projection):
        order, degree, frequency = torch.meshgrid(
            *(torch.arange(n) for n in array.shape), indexing="ij"
        )
        nowhere = (degree < order) | ((degree - frequency) % 2 != 0)
        assert (array[nowhere] == 0).all()
        assert (array[~nowhere] != 0).any()


def test_number_of_nonzero_terms_of_the_complex_series():
    counts = []
    for lmax in range(1, 7):
        order, _, frequency = (fourier_tables(lmax, 0).series.abs() > 1e-12).nonzero().T
        # both signs of u; for m > 0 the orders m and -m, with both signs of v each
        terms = torch.where(frequency > 0, 2, 1) * torch.where(order > 0, 4, 1)
        counts.append(int(terms.sum()))
    assert counts == [11, 34, 86, 163, 289, 452]


def test_lower_degrees_are_leading_parts():
    small, large = fourier_tables(3, 4), fourier_tables(6, 8)
    torch.testing.assert_close(small.series, large.series[:4, :4, :4], rtol=0, atol=1e-14)
    torch.testing.assert_close(small.projection, large.projection[:4, :4, :5], rtol=0, atol=1e-14)


def test_result_is_ones_own():
    with torch.device("meta"):
        assert all(table.device.type == "cpu" for table in fourier_tables(2, 4))
    tables = fourier_tables(2, 4)
    copies = [table.clone() for table in tables]
    for table in tables:
        table.zero_()
    for table, copy in zip(fourier_tables(2, 4), copies, strict=True):
        assert torch.equal(table, copy)


@pytest.mark.unchecked
def test_bad_degrees_are_refused():
    with pytest.raises(ValueError, match="lmax is -1; expected a degree of at least 0"):
        fourier_tables(-1, 2)
    with pytest.raises(ValueError, match="umax is -2; expected a degree of at least 0"):
        fourier_tables(1, -2)
    with pytest.raises(TypeError, match=r"umax is 2\.0; expected a whole number"):
        fourier_tables(1, 2.0)
