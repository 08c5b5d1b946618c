"""Forward mode, vmap and the transforms of torch.func."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from eqlib.geometry import symmetric_eigh
from tests.kernels.symmetric_eigh.families import matrices, needs
from tests.kernels.symmetric_eigh.test_derivatives import separated, smooth

pytestmark = [
    pytest.mark.unchecked,
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),  # torch's own
]
names = pytest.mark.parametrize("name", ["naive", "blocked", "compiled"])


def loss(given):
    values, projectors = smooth("auto")(given)
    weights = torch.arange(27.0, dtype=torch.float64).view(3, 3, 3)
    return (values.sin() * values).sum() + (projectors * weights).sin().sum()


@pytest.mark.parametrize("dimension", [2, 3])
@names
def test_forward_mode(name, dimension, rng):
    needs(name)
    A = separated(2, dimension, rng).requires_grad_()
    assert gradcheck(smooth(name), A, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(smooth(name), A, check_fwd_over_rev=True)


def test_forward_mode_is_finite_at_equal_eigenvalues():
    A = torch.eye(3, dtype=torch.float64)
    values, vectors = torch.func.jvp(symmetric_eigh, (A,), (A.roll(1, 0),))[1]
    assert values.isfinite().all()
    assert torch.equal(vectors, torch.zeros_like(A))


def test_functional_transforms(rng):
    A = separated(1, 3, rng)[0]
    gradient = torch.func.grad(loss)
    leaf = A.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(gradient(A), expected)
    backward = torch.func.jacrev(gradient)(A)
    torch.testing.assert_close(torch.func.jacfwd(gradient)(A), backward)
    torch.testing.assert_close(torch.autograd.functional.hessian(loss, A), backward)


@names
def test_vmap_of_values_and_gradients(name, rng):
    needs(name)
    A = matrices("random", 6, 3, rng).view(2, 3, 3, 3)
    expected = symmetric_eigh(A, implementation=name)
    function = torch.func.vmap(lambda a: symmetric_eigh(a, implementation=name), in_dims=1)
    for whole, part in zip(expected, function(A), strict=True):
        assert torch.equal(part, whole.transpose(0, 1))
    each = torch.stack([torch.func.grad(loss)(a) for a in A.flatten(0, 1)])
    together = torch.func.vmap(torch.func.grad(loss))(A.flatten(0, 1))
    torch.testing.assert_close(together, each)


def test_a_bad_matrix_has_no_tangent(rng):
    A = separated(3, 3, rng)
    A[1, 0, 0] = torch.nan
    for part in torch.func.jvp(symmetric_eigh, (A,), (torch.ones_like(A),))[1]:
        assert part.isfinite().all()
        assert (part[1] == 0).all()
