"""Eigendecomposition: values, gradients with and without equal eigenvalues, bad matrices."""

import numpy as np
import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck

from eqlib.geometry import symmetric_eigh


def symmetric(rng, *shape, dtype=torch.float64):
    matrices = torch.randn(*shape, dtype=dtype, generator=rng)
    return matrices + matrices.mT


def smooth(matrices, eigh=symmetric_eigh):
    """Functions of eigenvalues and eigenvectors that do not depend on the signs of the latter."""
    eigenvalues, eigenvectors = eigh((matrices + matrices.mT) / 2)
    return eigenvalues, eigenvectors[..., :, None, :] * eigenvectors[..., None, :, :]


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
@pytest.mark.parametrize("batch", [(), (0,), (4,), (2, 3)], ids=str)
def test_decomposition_equals_that_of_numpy(batch, dimension, rng):
    matrices = symmetric(rng, *batch, dimension, dimension)
    eigenvalues, eigenvectors = symmetric_eigh(matrices)
    torch.testing.assert_close(
        eigenvalues, torch.from_numpy(np.asarray(np.linalg.eigvalsh(matrices.numpy())))
    )
    torch.testing.assert_close(matrices @ eigenvectors, eigenvectors * eigenvalues[..., None, :])
    torch.testing.assert_close(
        eigenvectors.mT @ eigenvectors, torch.eye(dimension).double().expand_as(matrices)
    )


@pytest.mark.parametrize("dimension", [2, 3])
def test_gradients_of_first_and_second_order_are_right(dimension, rng):
    matrices = symmetric(rng, 4, dimension, dimension).requires_grad_()
    assert gradcheck(smooth, matrices)
    assert gradgradcheck(smooth, matrices)


def test_derivatives_equal_those_of_torch_on_separated_spectra(rng):
    matrices = symmetric(rng, 5, 3, 3).requires_grad_()
    assert torch.linalg.eigvalsh(matrices).diff().min() > 0.1
    weights = symmetric(rng, 5, 3, 3)[..., None]

    def derivatives(eigh):
        eigenvalues, projectors = smooth(matrices, eigh)
        total = eigenvalues.sin().sum() + (projectors * weights).square().sum()
        (first,) = grad(total, matrices, create_graph=True)
        return first, grad(first.square().sum(), matrices)[0]

    expected = derivatives(torch.linalg.eigh)
    torch.testing.assert_close(derivatives(symmetric_eigh), expected, rtol=1e-8, atol=1e-8)
    # control: a large guard is felt
    damped = derivatives(lambda matrix: symmetric_eigh(matrix, guard=0.3))
    assert (damped[0] - expected[0]).abs().max() > 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "matrix",
    [torch.zeros(3, 3), torch.eye(3), torch.diag(torch.tensor([1.0, 1.0, 2.0]))],
    ids=["zero", "triple", "double"],
)
def test_derivatives_are_finite_at_equal_eigenvalues(matrix, dtype, rng):
    def derivatives(eigh):
        A = matrix.to(dtype, copy=True).requires_grad_()
        eigenvalues, eigenvectors = eigh(A)
        weights = torch.randn(3, 3, generator=rng).to(dtype)
        total = (eigenvectors * weights).sum() + eigenvalues.prod()
        (first,) = grad(total, A, create_graph=True)
        (second,) = grad(first.square().sum(), A)
        return first, second

    assert all(derivative.isfinite().all() for derivative in derivatives(symmetric_eigh))
    # control: torch divides by zero
    assert not all(derivative.isfinite().all() for derivative in derivatives(torch.linalg.eigh))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf], ids=str)
def test_a_bad_matrix_does_not_touch_the_others(bad, rng):
    matrices = symmetric(rng, 3, 3, 3)
    broken = matrices.clone()
    broken[1, 0, 2] = broken[1, 2, 0] = bad
    expected, found = symmetric_eigh(matrices), symmetric_eigh(broken)
    for whole, part in zip(expected, found, strict=True):
        assert torch.equal(whole[[0, 2]], part[[0, 2]])
        assert part[1].isnan().all()


def test_operator_is_registered_as_torch_expects(rng):
    matrices = symmetric(rng, 4, 3, 3).requires_grad_()
    torch.library.opcheck(torch.ops.eqlib.symmetric_eigh.default, (matrices, 1e-6, "auto"))


@pytest.mark.unchecked
def test_compiles_to_one_graph(rng):
    matrices = symmetric(rng, 4, 3, 3).requires_grad_()
    compiled = torch.compile(smooth, fullgraph=True, backend="aot_eager")
    expected, found = smooth(matrices), compiled(matrices)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        grad(found[1].tril().square().sum(), matrices),
        grad(expected[1].tril().square().sum(), matrices),
    )


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("matrices", "guard", "error", "message"),
    [
        (torch.zeros(3, 3, dtype=torch.bfloat16), None, TypeError, "bfloat16; expected float32"),
        (torch.zeros(3, 3, dtype=torch.int64), None, TypeError, "int64; expected float32"),
        (torch.zeros(2, 3), None, ValueError, r"shape \(2, 3\); expected square"),
        (torch.zeros(3), None, ValueError, r"shape \(3,\); expected square"),
        (torch.zeros(3, 3), 0.0, ValueError, "guard is 0.0; expected a positive"),
    ],
    ids=["bfloat16", "integers", "not square", "vector", "no guard"],
)
def test_wrong_arguments_are_refused(matrices, guard, error, message):
    with pytest.raises(error, match=message):
        symmetric_eigh(matrices, guard)
