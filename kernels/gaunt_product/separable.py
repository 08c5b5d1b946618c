"""Legendre sums and a convolution in the azimuth, in C: fewer operations at medium degrees."""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eqlib.kernels import native
from eqlib.kernels.gaunt_product._degrees import lmax_of
from eqlib.kernels.gaunt_product.compiled import REAL, Weights, factors

_LARGEST_DEGREE = 20  # as in the C source, which keeps tiles on the stack
_SOURCE = Path(__file__).with_name("separable.c")


def whynot(dtype: torch.dtype) -> str:
    """Return why this form cannot run here, or nothing.

    Args:
        dtype: that of the operands.
    """
    if dtype not in REAL:
        return f"the C source is for float32 and float64, not {dtype}"
    return native.whynot(_SOURCE, REAL[dtype])


def product(
    x: Tensor, y: Tensor, weights: Weights, tables: Sequence[Tensor], lmax_out: int, odd: bool
) -> Tensor:
    """Return P(x, y); the arguments are those of the operation, ``odd`` is False."""
    z = x.new_empty(len(x), (lmax_out + 1) ** 2, x.shape[2])
    if z.numel() == 0:
        return z
    operands = [x.contiguous(), y.contiguous(), z, *factors(weights, x.dtype)]
    degrees = lmax_of(x.shape[1]), lmax_of(y.shape[1]), lmax_out
    _call("product", operands, degrees, x, tables[0])
    return z


def gradients(
    gz: Tensor, x: Tensor, y: Tensor, weights: Weights, tables: Sequence[Tensor], odd: bool
) -> tuple[Tensor, Tensor]:
    """Return P(y, gz) and P(gz, x); the arguments are those of the operation."""
    gx, gy = x.new_empty(x.shape), y.new_empty(y.shape)
    if gx.numel() == 0:
        return gx, gy
    operands: list[Tensor | None] = [gz.contiguous(), x.contiguous(), y.contiguous(), gx, gy]
    operands += factors(weights, x.dtype)
    degrees = lmax_of(x.shape[1]), lmax_of(y.shape[1]), lmax_of(gz.shape[1])
    _call("gradients", operands, degrees, x, tables[0])
    return gx, gy


def _call(
    name: str,
    operands: Sequence[Tensor | None],
    degrees: tuple[int, int, int],
    x: Tensor,
    table: Tensor,
) -> None:
    rows, channels = len(x) * x.shape[2], x.shape[2]
    pairs, stride = table.shape[:2]
    if not max(degrees) < stride <= _LARGEST_DEGREE + 1:
        raise ValueError(f"degrees {degrees}: expected at most {_LARGEST_DEGREE} and the table's")
    work = rows * pairs * stride**2
    getattr(_library(x.dtype), name)(
        *map(native.pointer, operands),
        *(*degrees, rows, channels, table.data_ptr(), pairs, stride, native.count_threads(work)),
    )


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    library = native.load_library(_SOURCE, REAL[dtype])
    address, size, count = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    rest: list[Any] = [size, size, size, count, count, address, size, size, size]
    library.product.argtypes = [*[address] * 6, *rest]
    library.gradients.argtypes = [*[address] * 8, *rest]
    library.product.restype = library.gradients.restype = None
    return library
