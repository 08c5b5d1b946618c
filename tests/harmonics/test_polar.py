"""The basis of physics: real and complex harmonics with polar axis z, against scipy."""

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from eqlib.harmonics import from_z_polar, spherical_harmonics, to_z_polar
from eqlib.harmonics.polar import order_table

LMAX = 8


def features_like(rng, *batch, lmax=LMAX, dtype=torch.float64):
    return torch.randn(*batch, (lmax + 1) ** 2, 3, dtype=torch.float64, generator=rng).to(dtype)


def z_polar_harmonics(vectors, lmax):
    """Complex harmonics of scipy, ``(vectors, coeffs)``."""
    x, y, z = torch.nn.functional.normalize(vectors, dim=-1).numpy().T
    theta, phi = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
    columns = [
        sph_harm_y(degree, order, theta, phi)
        for degree in range(lmax + 1)
        for order in range(-degree, degree + 1)
    ]
    return torch.tensor(np.stack(columns, axis=-1))


def test_complex_coefficients_are_those_of_scipys_harmonics(rng):
    features = features_like(rng)
    vectors = torch.randn(30, 3, dtype=torch.float64, generator=rng)
    expected = spherical_harmonics(vectors, LMAX) @ features
    result = z_polar_harmonics(vectors, LMAX) @ to_z_polar(features, form="complex")
    assert (result - expected).abs().max() < 1e-12
    # control: without the change of axes the functions differ
    assert (spherical_harmonics(vectors, LMAX) @ to_z_polar(features) - expected).abs().max() > 0.1


def test_real_coefficients_are_those_of_permuted_axes(rng):
    features = features_like(rng)
    vectors = torch.randn(30, 3, dtype=torch.float64, generator=rng)
    expected = spherical_harmonics(vectors, LMAX) @ features
    result = spherical_harmonics(vectors[:, [1, 2, 0]], LMAX) @ to_z_polar(features)
    assert (result - expected).abs().max() < 1e-12


def test_real_harmonics_are_those_of_scipy(rng):
    # real form by the book: sqrt(2) (-1)^m times the real and imaginary parts
    features = features_like(rng, lmax=3)
    vectors = torch.randn(10, 3, dtype=torch.float64, generator=rng)
    harmonics = z_polar_harmonics(vectors, 3)
    columns = []
    for degree in range(4):
        for order in range(-degree, degree + 1):
            column = harmonics[:, degree**2 + degree + abs(order)]
            part = column.imag if order < 0 else column.real
            columns.append(part if order == 0 else 2**0.5 * (-1) ** order * part)
    result = torch.stack(columns, -1) @ to_z_polar(features)
    torch.testing.assert_close(result, spherical_harmonics(vectors, 3) @ features)


def test_first_degree_in_each_form():
    x, y, z = torch.eye(3, dtype=torch.float64)
    features = torch.zeros(4, 3, dtype=torch.float64)
    features[1:] = torch.eye(3)
    assert torch.equal(to_z_polar(features)[1:], torch.stack([y, z, x]))
    root = 0.5**0.5
    expected = torch.stack([root * (x + 1j * y), z + 0j, -root * (x - 1j * y)])
    torch.testing.assert_close(to_z_polar(features, "complex")[1:], expected)


@pytest.mark.parametrize("form", ["real", "complex"])
@pytest.mark.parametrize("batch", [(), (0,), (2, 2)], ids=str)
def test_round_trip(batch, form, rng):
    features = features_like(rng, *batch)
    coefficients = to_z_polar(features, form)
    assert coefficients.shape == features.shape
    assert coefficients.is_complex() == (form == "complex")
    assert (from_z_polar(coefficients) - features).abs().sum() < 1e-11
    lengths = coefficients.abs().square().sum((-1, -2))
    torch.testing.assert_close(lengths, features.square().sum((-1, -2)))


@pytest.mark.parametrize(
    ("dtype", "complex_dtype"),
    [
        (torch.float32, torch.complex64),
        (torch.bfloat16, torch.complex64),
        (torch.float64, torch.complex128),
    ],
    ids=str,
)
def test_dtypes(dtype, complex_dtype, rng):
    features = features_like(rng, dtype=dtype)
    assert to_z_polar(features).dtype == from_z_polar(features).dtype == dtype
    assert to_z_polar(features, "complex").dtype == complex_dtype
    error = (to_z_polar(features).double() - to_z_polar(features.double())).abs().max()
    assert error < 10 * torch.finfo(dtype).eps


def test_negative_orders_of_complex_coefficients_are_not_read(rng):
    coefficients = to_z_polar(features_like(rng), "complex")
    expected = from_z_polar(coefficients)
    negative = torch.tensor(order_table(LMAX)[1] > 0)
    coefficients[negative] = 100
    assert torch.equal(from_z_polar(coefficients), expected)


def test_derivatives(rng):
    features = features_like(rng, lmax=2).requires_grad_()
    for form in ("real", "complex"):
        assert torch.autograd.gradcheck(lambda x, f=form: to_z_polar(x, f), features)
        coefficients = to_z_polar(features.detach(), form).requires_grad_()
        assert torch.autograd.gradcheck(from_z_polar, coefficients)


@pytest.mark.unchecked
def test_compiles(rng):
    torch.compiler.reset()

    def both(x):
        real = to_z_polar(x)
        return real, to_z_polar(from_z_polar(real), form="complex").real

    compiled = torch.compile(both, fullgraph=True, backend="aot_eager", dynamic=True)
    for count in (2, 5):
        features = features_like(rng, count, lmax=1)
        for result, expected in zip(compiled(features), both(features), strict=True):
            torch.testing.assert_close(result, expected)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("function", "name"),
    [(to_z_polar, "features"), (from_z_polar, "coefficients")],
    ids=["to_z_polar", "from_z_polar"],
)
def test_bad_input_is_refused(function, name):
    with pytest.raises(ValueError, match=rf"{name} has shape \(8, 2\) .*; expected .* 9 coeff"):
        function(torch.ones(8, 2))
    with pytest.raises(TypeError, match=rf"{name} has dtype torch\.int64; expected"):
        function(torch.ones(4, 2, dtype=torch.int64))


@pytest.mark.unchecked
def test_bad_forms_are_refused():
    with pytest.raises(ValueError, match="form: expected 'real' or 'complex', got 'polar'"):
        to_z_polar(torch.ones(4, 2), "polar")
    with pytest.raises(TypeError, match=r"features has dtype torch\.complex64; expected real"):
        to_z_polar(torch.ones(4, 2, dtype=torch.complex64))
