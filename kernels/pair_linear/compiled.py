"""C that takes a pair together with the same pair turned around, and streams the sums."""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from eqlib.kernels import native
from eqlib.kernels.pair_linear.arguments import Linear, Pairs, Reduction, WeightGradient

_SOURCE = Path(__file__).with_name("pairs.c")
REAL = {torch.float32: "REAL=float", torch.float64: "REAL=double"}
_SLICES = 16
"""The most copies of the gradient by weights, and so of threads that share its work."""
_ROWS_OF_SLICE = 4096
_COPIES = 2**22  # numbers in all copies together


def whynot(dtype: torch.dtype) -> str:
    """Return why this form cannot run here, or nothing.

    Args:
        dtype: that of the features.
    """
    if dtype not in REAL:
        return f"it is for float32 and float64, not for {dtype}"
    return native.whynot(_SOURCE, REAL[dtype])


def reduce(arguments: Reduction) -> Tensor:
    """Return the sums of each member; ``op.py`` has the contract."""
    x, scale, pairs = arguments
    y = x.new_empty(len(pairs.subgraph), pairs.parts * x.shape[1])
    threads = native.count_threads(len(pairs.row) * x.shape[1])
    problem = Problem(x.data_ptr(), None, None, native.pointer(scale), x.shape[1], 0, threads)
    _library(x.dtype).reduce(problem, structure_of(pairs), y.data_ptr())
    return y


def linear(arguments: Linear) -> Tensor:
    """Return both products and what is spread; ``op.py`` has the contract."""
    x, weight, spread, scale, pairs = arguments
    _, inputs, outputs = weight.shape
    y = x.new_empty(len(x), outputs)
    tensors = (native.pointer(part) for part in (x, weight, spread, scale))
    work = len(x) * outputs * (inputs + 1) + len(pairs.row) * outputs
    problem = Problem(*tensors, inputs, outputs, native.count_threads(work), pairs.parts)
    _check(_library(x.dtype).linear(problem, structure_of(pairs), y.data_ptr()))
    return y


def weight_gradient(arguments: WeightGradient) -> Tensor:
    """Return the sums of outer products; ``op.py`` has the contract."""
    x, grad, transpose = arguments
    inputs, outputs = x.shape[1], grad.shape[1]
    slices = min(_SLICES, _COPIES // (2 * inputs * outputs), 1 + len(x) // _ROWS_OF_SLICE)
    copies = x.new_empty(max(slices, 1), 2, inputs, outputs)
    threads = min(native.count_threads(len(x) * inputs * outputs), len(copies))
    problem = Problem(x.data_ptr(), None, None, None, inputs, outputs, threads)
    structure = Structure(transpose.data_ptr(), rows=len(x))
    library = _library(x.dtype)
    pointers = grad.data_ptr(), len(copies), copies.data_ptr()
    _check(library.weight_gradient(problem, structure, *pointers))
    return copies[0] if len(copies) == 1 else copies.sum(0)


class Structure(ctypes.Structure):
    """The struct ``structure`` of the C source."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in Pairs._fields),
        *((name, ctypes.c_int64) for name in ("rows", "members", "subgraphs")),
    ]


class Problem(ctypes.Structure):
    """The struct ``problem`` of the C source."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("x", "weight", "spread", "scale")),
        *((name, ctypes.c_int64) for name in ("inputs", "outputs", "threads", "parts")),
    ]


def structure_of(pairs: Pairs) -> Structure:
    """Return the pairs in C, which live as long as the tensors do."""
    counts = len(pairs.transpose), len(pairs.subgraph), len(pairs.starts) - 1
    return Structure(*(native.pointer(part) for part in pairs), *counts)


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for the weights and one tile of pairs")


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    library = native.load_library(_SOURCE, REAL[dtype])
    problem, structure = map(ctypes.POINTER, (Problem, Structure))
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.linear.argtypes = library.reduce.argtypes = [problem, structure, pointer]
    library.weight_gradient.argtypes = [problem, structure, pointer, count, pointer]
    library.linear.restype = library.weight_gradient.restype = ctypes.c_int
    library.reduce.restype = None
    return library
