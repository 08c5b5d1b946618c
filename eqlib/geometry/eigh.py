r"""Eigendecomposition of symmetric matrices whose derivatives stay finite at equal eigenvalues."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_GUARD = {torch.float32: 1e-3, torch.float64: 1e-6}


def symmetric_eigh(
    matrices: Float[Tensor, "*batch d d"], guard: float | None = None
) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch d d"]]:
    r"""Eigenvalues (ascending) and eigenvectors (columns) of real symmetric matrices.

    With :math:`A = V \Lambda V^\top` the gradient is

    .. math::
        \bar A = V\bigl(\operatorname{diag}\bar\lambda + K \circ (V^\top \bar V)\bigr)V^\top, \qquad
        K_{ij} = \frac{\Delta_{ij}}{\Delta_{ij}^2 + \varepsilon^2}, \quad
        \Delta_{ij} = \lambda_j - \lambda_i, \quad
        \varepsilon = \text{guard} \cdot \max_k |\lambda_k|,

    which is that of :func:`torch.linalg.eigh` for :math:`\varepsilon \to 0` and stays finite, with
    its own derivative, where eigenvalues coincide.

    Args:
        matrices: symmetric matrices, float32 or float64; only the lower triangle is read.
        guard: relative distance of two eigenvalues below which the gradient of their vectors is
            damped; by default 1e-3 in float32 and 1e-6 in float64.

    Returns:
        Eigenvalues and eigenvectors. A matrix with an entry that is not finite gives NaN, and
        leaves the other matrices of the batch as they are.

    Raises:
        TypeError: ``matrices`` is neither float32 nor float64.
        ValueError: ``matrices`` is not square, or ``guard`` is not positive.

    Note:
        Vectors are defined up to sign, and inside the eigenspace of equal eigenvalues up to a
        rotation. The damped gradient is that of no function: it is biased where two eigenvalues
        are closer than about ten times ``guard``. ``torch.func.grad`` and its kin do not
        differentiate custom operators, of which this is one; ``torch.autograd.grad`` does.
    """
    if matrices.dtype not in _GUARD:
        raise TypeError(
            f"matrices has dtype {matrices.dtype}; expected float32 or float64: "
            "convert it first, eigenproblems need the precision"
        )
    if matrices.ndim < 2 or matrices.shape[-1] != matrices.shape[-2]:
        raise ValueError(
            f"matrices has shape {tuple(matrices.shape)}; expected square matrices (..., d, d)"
        )
    guard = _GUARD[matrices.dtype] if guard is None else guard
    if not guard > 0:
        raise ValueError(f"guard is {guard}; expected a positive number, such as 1e-6")
    # LAPACK raises for the whole batch when one matrix holds NaN or infinity.
    finite = matrices.isfinite().all(-1).all(-1)
    safe = torch.where(finite[..., None, None], matrices, 0.0)
    eigenvalues, eigenvectors = _guarded_eigh(safe, guard)
    return (
        torch.where(finite[..., None], eigenvalues, torch.nan),
        torch.where(finite[..., None, None], eigenvectors, torch.nan),
    )


@torch.library.custom_op("eqlib::symmetric_eigh", mutates_args=())
def _guarded_eigh(matrices: Tensor, guard: float) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors; an operator of its own, so that compilers leave it whole."""
    eigenvalues, eigenvectors = torch.linalg.eigh(matrices)
    return eigenvalues, eigenvectors


@_guarded_eigh.register_fake
def _(matrices: Tensor, guard: float) -> tuple[Tensor, Tensor]:
    eigenvalues, eigenvectors = torch.linalg.eigh(matrices)
    return eigenvalues, eigenvectors


def _save(ctx: Any, inputs: tuple[Tensor, float], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*output)
    ctx.guard = inputs[1]


def _guarded_backward(ctx: Any, grad_values: Tensor, grad_vectors: Tensor) -> tuple[Tensor, None]:
    eigenvalues, eigenvectors = ctx.saved_tensors
    scale = eigenvalues.detach().abs().amax(-1, keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)[..., None]
    delta = (eigenvalues[..., None, :] - eigenvalues[..., :, None]) / scale
    # One on the diagonal, where delta is zero: without it the second derivative would hold
    # guard**-2 twice with opposite signs, and lose its digits there.
    diagonal = torch.eye(delta.shape[-1], dtype=delta.dtype, device=delta.device)
    inverse = delta / (delta.square() + ctx.guard**2 + diagonal) / scale
    inner = torch.diag_embed(grad_values) + inverse * (eigenvectors.mT @ grad_vectors)
    grad = eigenvectors @ inner @ eigenvectors.mT
    return (grad + grad.mT) / 2, None


_guarded_eigh.register_autograd(_guarded_backward, setup_context=_save)
