"""Symmetric matrices that are hard on eigensolvers, by kind, and the error of a decomposition."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from eqlib.kernels.symmetric_eigh import whynot

GAPS = (1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 1e-15)
SPECTRA = {
    "spread": (1.0, 2.0, 3.0),
    "indefinite": (-2.0, 0.5, 1.0),
    **{f"gap {gap:.0e} below": (1.0, 1.0 + gap, 2.0) for gap in GAPS},
    **{f"gap {gap:.0e} above": (1.0, 2.0, 2.0 + gap) for gap in GAPS},
    "double below": (1.0, 1.0, 3.0),
    "double above": (-1.0, 2.0, 2.0),
    "triple": (2.0, 2.0, 2.0),
    "nearly triple": (1.0, 1.0 + 1e-9, 1.0 + 3e-9),
    "rank 1": (0.0, 0.0, 1.0),
    "planar": (0.0, 1.0, 2.0),
    "ratio 1e12": (1e-12, 1e-6, 1.0),
    "zero": (0.0, 0.0, 0.0),
}
FAMILIES = ["random", "diagonal", "almost diagonal", *SPECTRA]


def needs(name: str, dtype: torch.dtype = torch.float64) -> None:
    """Skip where this machine cannot run an implementation."""
    if reason := whynot(name, torch.device("cpu"), dtype):
        pytest.skip(f"{name}: {reason}")


def rotations(count: int, dimension: int, rng: torch.Generator) -> Tensor:
    return torch.linalg.qr(
        torch.randn(count, dimension, dimension, dtype=torch.float64, generator=rng)
    ).Q


def matrices(family: str, count: int, dimension: int, rng: torch.Generator) -> Tensor:
    """Return symmetric matrices of a family, in float64; in 2-D without the middle eigenvalue."""
    random = torch.randn(count, dimension, dimension, dtype=torch.float64, generator=rng)
    if family == "random":
        return random + random.mT
    if family == "diagonal":
        return torch.diag_embed(random.diagonal(dim1=-2, dim2=-1))
    if family == "almost diagonal":
        return torch.diag_embed(random.diagonal(dim1=-2, dim2=-1)) + 1e-9 * (random + random.mT)
    spectrum = torch.tensor(SPECTRA[family], dtype=torch.float64)
    if dimension == 2:
        spectrum = spectrum[-2:] if "above" in family else spectrum[:2]
    Q = rotations(count, dimension, rng)
    product = Q @ (spectrum[:, None] * Q.mT)
    return (product + product.mT) / 2


class Errors(NamedTuple):
    """Largest errors over a batch; the first two relative to the Frobenius norm."""

    values: float
    residual: float
    orthogonality: float


def errors(matrices: Tensor, values: Tensor, vectors: Tensor) -> Errors:
    """Compare with LAPACK in float64, whose own error is 1e-15."""
    A, values, vectors = matrices.double(), values.double(), vectors.double()
    # Divided by the largest entry, so that no square leaves the range of the numbers.
    size = A.abs().amax((-2, -1), keepdim=True)
    size = torch.where(size > 0, size, 1.0)
    A, values = A / size, values / size[..., 0]
    norm = A.norm(dim=(-2, -1)).clamp(min=1.0)
    expected = torch.linalg.eigvalsh(A)
    residual = A @ vectors - vectors * values[..., None, :]
    gram = vectors.mT @ vectors - torch.eye(A.shape[-1], dtype=torch.float64)
    return Errors(
        float(((values - expected).abs().amax(-1) / norm).max()),
        float((residual.norm(dim=(-2, -1)) / norm).max()),
        float(gram.abs().max()),
    )
