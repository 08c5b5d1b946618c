"""Derivatives of every implementation: right where eigenvalues are apart, finite where not."""

from functools import partial

import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck

from eqlib.geometry import symmetric_eigh
from eqlib.kernels.symmetric_eigh import symmetric_eigh_gradient
from tests.kernels.symmetric_eigh.families import FAMILIES, matrices, needs, rotations

NAMES = ["naive", "blocked", "compiled"]
names = pytest.mark.parametrize("name", NAMES)
dimensions = pytest.mark.parametrize("dimension", [2, 3])


def separated(count, dimension, rng):
    """Matrices with eigenvalues one apart from each other."""
    Q = rotations(count, dimension, rng)
    spectrum = torch.arange(dimension, dtype=torch.float64) - 0.7
    return Q @ (spectrum[:, None] * Q.mT)


def smooth(name, guard=1e-8):
    """Functions of eigenvalues and eigenvectors that do not depend on the signs of the latter."""

    def function(given):
        A = (given + given.mT) / 2
        values, vectors = symmetric_eigh(A, guard, name) if name else torch.linalg.eigh(A)
        return values, vectors[..., :, None, :] * vectors[..., None, :, :]

    return function


def both_orders(function, given, rng):
    """Return first and second derivatives of a random functional of a function."""
    A = given.clone().requires_grad_()
    values, projectors = function(A)
    weights = torch.randn(projectors.shape[1:], dtype=torch.float64, generator=rng)
    total = values.sin().sum() + (projectors * weights.to(A.dtype)).square().sum()
    (first,) = grad(total, A, create_graph=True)
    (second,) = grad(first.square().sum(), A)
    return first.detach(), second


@dimensions
@names
def test_gradcheck_and_gradgradcheck(name, dimension, rng):
    needs(name)
    A = separated(3, dimension, rng).requires_grad_()
    assert gradcheck(smooth(name), A)
    assert gradgradcheck(smooth(name), A)


@names
def test_the_gradient_is_an_operation_with_derivatives_of_all_its_operands(name, rng):
    needs(name)
    A = separated(2, 3, rng)
    values, vectors = (part.detach() for part in symmetric_eigh(A, implementation=name))
    seeds = (torch.randn(2, 3, generator=rng), torch.randn(2, 3, 3, generator=rng))
    operands = [t.double().requires_grad_() for t in (*seeds, values[:, :2], vectors)]

    # A large guard is felt in each term; its scale, the largest eigenvalue, counts as a constant.
    def gradient(by_values, by_vectors, first_values, vectors):
        every = torch.cat([first_values, values[:, 2:]], 1)
        return symmetric_eigh_gradient(by_values, by_vectors, every, vectors, 0.5, name)

    assert gradcheck(gradient, operands)
    assert gradgradcheck(gradient, operands)


@names
def test_third_order(name, rng):
    needs(name)
    A = separated(1, 3, rng).requires_grad_()

    def gradient(given):
        values, projectors = smooth(name)(given)
        total = values.pow(3).sum() + projectors[..., 0].sum((-2, -1)).square().sum()
        return grad(total, given, create_graph=True)[0]

    assert gradgradcheck(gradient, A, fast_mode=True)


@dimensions
@names
def test_without_a_guard_they_are_those_of_torch(name, dimension, rng):
    needs(name)
    A, state = separated(20, dimension, rng), rng.get_state()
    expected = both_orders(smooth(None), A, rng)
    for guard, tolerance in ((1e-14, 1e-12), (1e-6, 1e-8)):
        found = both_orders(smooth(name, guard), A, rng.set_state(state))
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    # control: a large guard is felt
    damped = both_orders(smooth(name, 0.3), A, rng.set_state(state))
    assert (damped[0] - expected[0]).abs().max() > 1e-2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30], ids=str)
@dimensions
@names
def test_gradients_are_those_of_the_formula(name, dimension, scale, dtype, rng):
    needs(name, dtype)
    A = (scale * separated(50, dimension, rng)).to(dtype)
    values, vectors = symmetric_eigh(A, implementation=name)
    g, G = (torch.randn(t.shape, dtype=dtype, generator=rng) for t in (values, vectors))
    found = symmetric_eigh_gradient(g, G, values, vectors, 1e-3, name)

    g, G, values, vectors = (t.double() for t in (g, G, values, vectors))
    delta = values[:, None, :] - values[:, :, None]
    K = delta / (delta.square() + (1e-3 * values.abs().amax(-1)[:, None, None]).square())
    expected = vectors @ (torch.diag_embed(g) + K * (vectors.mT @ G)) @ vectors.mT
    expected = (expected + expected.mT) / 2
    size = K.abs().amax((-2, -1)) + g.abs().amax(-1)  # of terms that may cancel
    error = (found - expected).abs().amax((-2, -1)) / size
    assert error.max() < (3e-6 if dtype == torch.float32 else 1e-14)
    assert torch.equal(found, found.mT)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
@dimensions
@names
def test_first_and_second_derivatives_are_finite(name, dimension, family, dtype, rng):
    needs(name, dtype)
    A = matrices(family, 20, dimension, rng).to(dtype).requires_grad_()
    values, vectors = symmetric_eigh(A, implementation=name)
    weights = torch.randn(vectors.shape, generator=rng).to(dtype)
    (first,) = grad((vectors * weights).sum() + values.prod(-1).sum(), A, create_graph=True)
    (second,) = grad(first.square().sum(), A)
    assert first.isfinite().all()
    assert second.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@dimensions
@names
def test_derivatives_at_the_identity(name, dimension, dtype, rng):
    needs(name, dtype)
    weights = torch.randn(dimension, dimension, generator=rng).to(dtype)

    def derivatives(eigh):
        A = torch.eye(dimension, dtype=dtype, requires_grad=True)
        values, vectors = eigh(A)
        (first,) = grad((vectors * weights).sum() + values.prod(), A, create_graph=True)
        return first, grad(first.square().sum(), A)[0]

    first, second = derivatives(partial(symmetric_eigh, implementation=name))
    assert first.isfinite().all()
    assert second.isfinite().all()
    # eigenvectors do not turn there, and the product of the eigenvalues is the determinant
    torch.testing.assert_close(first, torch.eye(dimension, dtype=dtype))
    # control: torch divides by zero
    assert not all(part.isfinite().all() for part in derivatives(torch.linalg.eigh))


@dimensions
@names
def test_a_bad_matrix_has_no_gradient_and_leaves_the_others(name, dimension, rng):
    needs(name)
    A = matrices("random", 9, dimension, rng)
    weights = torch.randn(dimension, dimension, dtype=torch.float64, generator=rng)

    def derivatives(given):
        A = given.clone().requires_grad_()
        values, vectors = symmetric_eigh(A, implementation=name)
        total = (vectors * weights).square().sum() + values.exp().sum()
        (first,) = grad(total, A, create_graph=True)
        return first, grad(first.square().sum(), A)[0]

    expected = derivatives(A)
    A[4, 1, 1] = torch.nan
    for whole, part in zip(expected, derivatives(A), strict=True):
        assert (part[4] == 0).all()
        others = torch.arange(9) != 4
        torch.testing.assert_close(part[others], whole[others], rtol=1e-12, atol=1e-12)


@names
def test_many_gradients_in_blocks_and_threads(name, rng):
    needs(name)
    values, vectors = symmetric_eigh(matrices("random", 20_011, 3, rng), implementation=name)
    g, G = (torch.randn(t.shape, dtype=t.dtype, generator=rng) for t in (values, vectors))
    whole = symmetric_eigh_gradient(g, G, values, vectors, 1e-3, name)
    for start in (0, 8_000, 20_010):
        part = slice(start, start + 300)
        operands = (g[part], G[part], values[part], vectors[part])
        expected = symmetric_eigh_gradient(*operands, 1e-3, "naive")
        torch.testing.assert_close(whole[part], expected, rtol=1e-11, atol=1e-11)
