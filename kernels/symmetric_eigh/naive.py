"""Eigendecomposition by torch's own solver, and its guarded gradient: the definition."""

import torch
from torch import Tensor

from eqlib.kernels.symmetric_eigh.derivatives import differentiate

__all__ = ["decompose", "differentiate"]


def decompose(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (n, d), ascending, and eigenvectors (n, d, d) of matrices (n, d, d)."""
    # LAPACK raises for the whole batch when one matrix holds NaN or infinity.
    finite = matrices.isfinite().flatten(1).all(1)
    safe = torch.where(finite[:, None, None], matrices, 0.0)
    values, vectors = torch.linalg.eigh(safe)
    values = torch.where(finite[:, None], values, torch.nan)
    vectors = torch.where(finite[:, None, None], vectors, torch.nan)
    return values, vectors.contiguous()
