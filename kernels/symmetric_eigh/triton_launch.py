"""Launches of the Triton kernels; the contract of both functions is in op.py."""

from typing import Any

import torch
from torch import Tensor

from eqlib.kernels.symmetric_eigh import triton_kernels as kernels
from eqlib.kernels.triton_common import runnable

BLOCK = 128
OPTIONS = {"num_warps": 4}
DECOMPOSE = {2: kernels._decompose2_kernel, 3: kernels._decompose3_kernel}
DIFFERENTIATE = {2: kernels._differentiate2_kernel, 3: kernels._differentiate3_kernel}


def decompose(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (n, d), ascending, and eigenvectors (n, d, d) of matrices (n, d, d)."""
    values, vectors = matrices.new_empty(matrices.shape[:2]), torch.empty_like(matrices)
    decompose_into(values, vectors, matrices)
    return values, vectors


def differentiate(
    grad_values: Tensor, grad_vectors: Tensor, values: Tensor, vectors: Tensor, guard: float
) -> Tensor:
    """Return the guarded gradient of the matrices; see ``derivatives.py``."""
    gradient = torch.empty_like(vectors)
    differentiate_into(gradient, grad_values, grad_vectors, values, vectors, guard)
    return gradient


def decompose_into(values: Tensor, vectors: Tensor, matrices: Tensor) -> None:
    """Write the decomposition to contiguous tensors."""
    constants = decompose_constants(matrices.dtype)
    _launch(DECOMPOSE[matrices.shape[-1]], (matrices, values, vectors), constants)


def differentiate_into(
    gradient: Tensor,
    grad_values: Tensor,
    grad_vectors: Tensor,
    values: Tensor,
    vectors: Tensor,
    guard: float,
) -> None:
    """Write the gradient to a contiguous tensor."""
    tensors = (grad_values, grad_vectors, values, vectors, gradient)
    _launch(DIFFERENTIATE[values.shape[-1]], tensors, differentiate_constants(guard))


def decompose_constants(dtype: torch.dtype) -> dict[str, Any]:
    """Return the compile-time arguments."""
    return {"EPSILON": torch.finfo(dtype).eps, "BLOCK": BLOCK}


def differentiate_constants(guard: float) -> dict[str, Any]:
    """Return the compile-time arguments; a number at run time would have float32 only."""
    return {"GUARD": guard, "BLOCK": BLOCK}


def _launch(kernel: Any, tensors: tuple[Tensor, ...], constants: dict[str, Any]) -> None:
    count = len(tensors[0])
    programs = -(-count // BLOCK)
    with torch.cuda.device_of(tensors[0]):
        runnable(kernel, tensors[0], "matrices")[(programs,)](
            *tensors, count, **constants, **OPTIONS
        )
