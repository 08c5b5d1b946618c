"""Closed form for d = 2 and 3 in C: the fastest form on a CPU."""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from eqlib.kernels import native

_SOURCE = Path(__file__).with_name("eigh.c")
_BITS = {torch.float32: "BITS=32", torch.float64: "BITS=64"}
_MATRICES_FOR_THREADS = 8192  # below, a second thread costs more than it saves


def whynot(dtype: torch.dtype) -> str:
    """Return why this form cannot run here, or nothing.

    Args:
        dtype: that of the matrices.
    """
    return native.whynot(_SOURCE, _BITS[dtype])


def decompose(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (n, d), ascending, and eigenvectors (n, d, d) of matrices (n, d, d)."""
    count, dimension = matrices.shape[:2]
    values, vectors = matrices.new_empty(count, dimension), torch.empty_like(matrices)
    function = getattr(_library(matrices.dtype), f"decompose{dimension}d")
    function(*_pointers(matrices, values, vectors), count, _threads(count))
    return values, vectors


def differentiate(
    grad_values: Tensor, grad_vectors: Tensor, values: Tensor, vectors: Tensor, guard: float
) -> Tensor:
    """Return the guarded gradient of the matrices; see ``derivatives.py``."""
    count, dimension = values.shape
    gradient = torch.empty_like(vectors)
    tensors = (grad_values, grad_vectors, values, vectors, gradient)
    function = getattr(_library(values.dtype), f"differentiate{dimension}d")
    function(*_pointers(*tensors), guard, count, _threads(count))
    return gradient


def _pointers(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def _threads(count: int) -> int:
    return torch.get_num_threads() if count > _MATRICES_FOR_THREADS else 1


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    library = native.load_library(_SOURCE, _BITS[dtype])
    pointer, count, threads = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    for name in ("decompose2d", "decompose3d"):
        getattr(library, name).argtypes = [*[pointer] * 3, count, threads]
    for name in ("differentiate2d", "differentiate3d"):
        getattr(library, name).argtypes = [*[pointer] * 5, ctypes.c_double, count, threads]
    for name in ("decompose2d", "decompose3d", "differentiate2d", "differentiate3d"):
        getattr(library, name).restype = None
    return library
