"""Sum over the nonzero coefficients in C: the fastest form on a CPU up to medium degrees."""

import ctypes
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from eqlib.kernels import native
from eqlib.kernels.gaunt_product._degrees import by_coefficient

_LARGEST_SIZE = 121  # as in the C source, which keeps tiles on the stack
_SOURCE = Path(__file__).with_name("contract.c")
REAL = {torch.float32: "REAL=float", torch.float64: "REAL=double"}

Weights = tuple[Tensor | None, Tensor | None, Tensor | None]


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
    """Return P(x, y); the arguments are those of the operation, the table that of ``naive``."""
    size = (lmax_out + 1) ** 2
    rows, channels = len(x) * x.shape[2], x.shape[2]
    z = x.new_empty(len(x), size, channels)
    if z.numel() == 0:
        return z
    terms = _terms(tables[0], (x.shape[1], y.shape[1], size), x.dtype, odd)
    operands = [x.contiguous(), y.contiguous(), z, *factors(weights, x.dtype)]
    _library(x.dtype).product(
        *map(native.pointer, operands),
        *(x.shape[1], y.shape[1], size, rows, channels),
        *(terms.pointer, native.count_threads(rows * terms.count)),
    )
    return z


def gradients(
    gz: Tensor, x: Tensor, y: Tensor, weights: Weights, tables: Sequence[Tensor], odd: bool
) -> tuple[Tensor, Tensor]:
    """Return P(y, gz) and P(gz, x); the arguments are those of the operation."""
    gx, gy = x.new_empty(x.shape), y.new_empty(y.shape)
    if gx.numel() == 0:
        return gx, gy
    rows, channels = len(x) * x.shape[2], x.shape[2]
    nx, ny, nz = x.shape[1], y.shape[1], gz.shape[1]
    to_x = _terms(tables[0], (ny, nz, nx), x.dtype, odd)
    to_y = _terms(tables[0], (nz, nx, ny), x.dtype, odd)
    operands: list[Tensor | None] = [gz.contiguous(), x.contiguous(), y.contiguous(), gx, gy]
    operands += factors(weights, x.dtype)
    _library(x.dtype).gradients(
        *map(native.pointer, operands),
        *(nx, ny, nz, rows, channels),
        *(to_x.pointer, to_y.pointer, native.count_threads(rows * (to_x.count + to_y.count))),
    )
    return gx, gy


def weight_gradients(
    gz: Tensor, x: Tensor, y: Tensor, weights: Weights, tables: Sequence[Tensor], odd: bool
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Return the gradients of x, of y and of the three weights, (degrees, channels) each.

    The sums over rows are taken in float64, and in the same order for the same number of threads.
    """
    gx, gy = x.new_empty(x.shape), y.new_empty(y.shape)
    rows, channels = len(x) * x.shape[2], x.shape[2]
    nx, ny, nz = sizes = x.shape[1], y.shape[1], gz.shape[1]
    degrees = [math.isqrt(size) for size in sizes]
    terms = [
        _terms(tables[0], (ny, nz, nx), x.dtype, odd),
        _terms(tables[0], (nz, nx, ny), x.dtype, odd),
        _terms(tables[0], (nx, ny, nz), x.dtype, odd),
    ]
    threads = native.count_threads(rows * sum(term.count for term in terms))
    sums = torch.zeros(threads, sum(degrees), channels, dtype=torch.float64)
    operands: list[Tensor | None] = [gz.contiguous(), x.contiguous(), y.contiguous(), gx, gy]
    operands += factors(weights, x.dtype)
    offsets = (sum(degrees), degrees[0], degrees[0] + degrees[1])
    _library(x.dtype).weight_gradients(
        *map(native.pointer, operands),
        *(*sizes, rows, channels, *(term.pointer for term in terms), sums.data_ptr()),
        *(*(offset * channels for offset in offsets), threads),
    )
    of_x, of_y, of_z = (part.sum(0).to(x.dtype) for part in sums.split(degrees, 1))
    return gx, gy, (of_x, of_y, of_z)


class _Struct(ctypes.Structure):
    """The struct ``terms`` of the C source."""

    _fields_ = [
        (name, ctypes.c_void_p) for name in ("outputs", "groups", "left", "right", "values")
    ]


class _Terms:
    """The nonzero coefficients, sorted by output, then by left component.

    Args:
        coefficients: (left, right, output).
        dtype: of the values.
    """

    def __init__(self, coefficients: Tensor, dtype: torch.dtype) -> None:
        by_output = coefficients.permute(2, 0, 1).contiguous()
        output, left, right = by_output.nonzero(as_tuple=True)
        pairs, sizes = (output * by_output.shape[1] + left).unique_consecutive(return_counts=True)
        groups_of_output = (pairs // by_output.shape[1]).bincount(minlength=len(by_output))
        self.count = len(output)
        self._arrays = (
            _offsets(groups_of_output),
            _offsets(sizes),
            (pairs % by_output.shape[1]).int(),
            right.int(),
            by_output[output, left, right].to(dtype),
        )
        self._struct = _Struct(*(array.data_ptr() for array in self._arrays))
        self.pointer = ctypes.addressof(self._struct)


_KNOWN_TERMS: dict[tuple[tuple[int, int, int], torch.dtype, bool], _Terms] = {}


def _terms(table: Tensor, sizes: tuple[int, int, int], dtype: torch.dtype, odd: bool) -> _Terms:
    """Return the terms of one product; the coefficients depend on nothing but these arguments."""
    if max(sizes) > _LARGEST_SIZE:
        raise ValueError(f"coefficients {sizes}: expected at most {_LARGEST_SIZE}, degree 10")
    key = (sizes, dtype, odd)
    if key not in _KNOWN_TERMS:
        left, right, output = sizes
        _KNOWN_TERMS[key] = _Terms(table[:left, :right, :output], dtype)
    return _KNOWN_TERMS[key]


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()


def factors(weights: Weights, dtype: torch.dtype) -> list[Tensor | None]:
    """Return each weight repeated for the components of its degree."""
    return [None if weight is None else by_coefficient(weight.to(dtype)) for weight in weights]


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    library = native.load_library(_SOURCE, REAL[dtype])
    pointer, size, count = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    sizes = [size, size, size, count, count]
    library.product.argtypes = [*[pointer] * 6, *sizes, pointer, size]
    library.gradients.argtypes = [*[pointer] * 8, *sizes, pointer, pointer, size]
    strides = [count, count, count]
    library.weight_gradients.argtypes = [
        *[pointer] * 8,
        *sizes,
        *[pointer] * 4,
        *strides,
        size,
    ]
    for function in (library.product, library.gradients, library.weight_gradients):
        function.restype = None
    return library
