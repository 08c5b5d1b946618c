r"""Eigendecomposition of symmetric matrices whose derivatives stay finite at equal eigenvalues."""

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.kernels import symmetric_eigh as kernel

_GUARD = {torch.float32: 1e-3, torch.float64: 1e-6}


def symmetric_eigh(
    matrices: Float[Tensor, "*batch d d"],
    guard: float | None = None,
    implementation: str = "auto",
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
        implementation: ``"naive"`` is LAPACK's or the device's own solver; for d = 2 and 3 there is
            a closed form, as ``"blocked"`` in torch, as ``"compiled"`` in C for the CPU and as
            ``"triton"`` for CUDA devices. ``"auto"`` takes the last that can run, and above d = 3
            ``"naive"``.

    Returns:
        Eigenvalues and eigenvectors. A matrix with an entry that is not finite gives NaN, and
        leaves the other matrices of the batch as they are.

    Raises:
        TypeError: ``matrices`` is neither float32 nor float64.
        ValueError: ``matrices`` is not square, ``guard`` is not positive, or the ``implementation``
            is unknown or cannot run on these matrices.

    Note:
        Vectors are defined up to sign, and inside the eigenspace of equal eigenvalues up to a
        rotation: implementations differ there, and from LAPACK. Those of a closed form have
        determinant 1. All are accurate to a few rounding errors of the largest eigenvalue, so that
        much smaller ones have no digits. The damped gradient is that of no function: it is biased
        where two eigenvalues are closer than about ten times ``guard``.
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
    return kernel.decompose(matrices, guard, implementation)
