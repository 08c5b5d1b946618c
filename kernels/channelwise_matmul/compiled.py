"""Blocks of the result in registers, in C, with the channels side by side."""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from eqlib.kernels import native

_SOURCE = Path(__file__).with_name("product.c")
_REAL = {torch.float32: "REAL=float", torch.float64: "REAL=double"}


def whynot(dtype: torch.dtype) -> str:
    """Return why this form cannot run here, or nothing.

    Args:
        dtype: that of the operands.
    """
    if dtype not in _REAL:
        return f"it is for float32 and float64, not for {dtype}"
    return native.whynot(_SOURCE, _REAL[dtype])


def multiply(a: Tensor, b: Tensor, result: Tensor | None = None) -> Tensor:
    """Return the sums over the first axis; only channels need be side by side in memory.

    Args:
        a: (depth, rows, channels).
        b: (depth, columns, channels).
        result: where to write them, (rows, columns, channels) and contiguous, or None.
    """
    a, b = (part if part.stride(2) == 1 else part.contiguous() for part in (a, b))
    (depth, rows, channels), columns = a.shape, b.shape[1]
    if result is None:
        result = a.new_empty(rows, columns, channels)
    if not depth:
        return result.zero_()
    threads = native.count_threads(depth * result.numel())
    pointers = (part.data_ptr() for part in (a, b, result))
    sizes = *a.stride()[:2], *b.stride()[:2], depth, rows, columns, channels, threads
    _library(a.dtype).multiply_channels(_Problem(*pointers, *sizes))
    return result


class _Problem(ctypes.Structure):
    """The struct ``problem`` of the C source."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("a", "b", "result")),
        *((name, ctypes.c_int64) for name in ("a_k", "a_i", "b_k", "b_j")),
        *((name, ctypes.c_int64) for name in ("depth", "rows", "columns", "channels", "threads")),
    ]


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    library = native.load_library(_SOURCE, _REAL[dtype])
    library.multiply_channels.argtypes = [ctypes.POINTER(_Problem)]
    library.multiply_channels.restype = None
    return library
