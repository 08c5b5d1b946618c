"""Tiles of rows in C, which pass both layers while they are in the cache."""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from eqlib.kernels import native

_SOURCE = Path(__file__).with_name("block.c")
_MACROS = {torch.float32: ("REAL=float", "BITS=32"), torch.float64: ("REAL=double", "BITS=64")}


def whynot(dtype: torch.dtype) -> str:
    """Return why this form cannot run here, or nothing.

    Args:
        dtype: that of the tensors.
    """
    return native.whynot(_SOURCE, *_MACROS[dtype])


def mix(x: Tensor, tensors: Sequence[Tensor], epsilon: float) -> Tensor:
    """Return the block; the arguments are those of ``naive``."""
    z, *weights = tensors
    y = torch.empty_like(x)
    folded = _fold(*weights)
    problem = _problem(x, z, folded, None, epsilon, _threads(z, folded[0]))
    _run(z.dtype, problem, _Results(y=y.data_ptr()))
    return y


def differentiate(
    grad_y: Tensor, tensors: Sequence[Tensor], epsilon: float, wants_weights: bool
) -> tuple[Tensor, ...]:
    """Return the gradients; the arguments are those of ``naive``."""
    z, *weights = tensors
    folded = _fold(*weights)
    w1, b1, _, b2 = folded
    threads = _threads(z, w1)
    by_z = torch.empty_like(z)
    copies = [z.new_empty(threads, *like.shape) for like in (w1, b1, w1, b2) if wants_weights]
    problem = _problem(None, z, folded, grad_y, epsilon, threads)
    _run(z.dtype, problem, _Results(None, by_z.data_ptr(), *(part.data_ptr() for part in copies)))
    if not wants_weights:
        return by_z, *(z.new_empty(0) for _ in weights)
    return by_z, *_unfold([part.sum(0) for part in copies], weights)


def _fold(
    norm_weight: Tensor,
    norm_bias: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    scale: Tensor,
) -> tuple[Tensor, ...]:
    """Return both layers with the factors that stand beside them inside."""
    w1, b1 = w1 * norm_weight, torch.addmv(b1, w1, norm_bias)
    if len(scale):
        w2, b2 = w2 * scale[:, None], b2 * scale
    return w1, b1, w2, b2


def _unfold(found: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the gradients of the weights from those of the folded ones."""
    norm_weight, norm_bias, w1, _, w2, b2, scale = weights
    by_w1, by_b1, by_w2, by_b2 = found
    by_w2 = by_w2.mT.contiguous()
    by_norm = (w1 * by_w1).sum(0), by_b1 @ w1
    first = torch.addr(by_w1 * norm_weight, by_b1, norm_bias), by_b1
    if not len(scale):
        return *by_norm, *first, by_w2, by_b2, scale.new_empty(0)
    by_scale = (w2 * by_w2).sum(1) + b2 * by_b2
    return *by_norm, *first, by_w2 * scale[:, None], by_b2 * scale, by_scale


class _Problem(ctypes.Structure):
    """The struct ``problem`` of the C source."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("x", "z", "w1", "b1", "w2", "b2", "by_y")),
        *((name, ctypes.c_int64) for name in ("backward", "rows", "channels", "hidden")),
        *((name, ctypes.c_int64) for name in ("shares", "threads")),
        ("epsilon", ctypes.c_double),
    ]


class _Results(ctypes.Structure):
    """The struct ``results`` of the C source."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("y", "z", "w1", "b1", "w2", "b2")]


def _problem(
    x: Tensor | None,
    z: Tensor,
    folded: Sequence[Tensor],
    grad_y: Tensor | None,
    epsilon: float,
    threads: int,
) -> _Problem:
    """Return the arguments in C, which live as long as the tensors do."""
    tensors = x, z, *folded, grad_y
    pointers = map(native.pointer, tensors)
    sizes = grad_y is not None, *z.shape, len(folded[0]), threads, threads
    return _Problem(*pointers, *sizes, epsilon)


def _threads(z: Tensor, w1: Tensor) -> int:
    return native.count_threads(len(z) * w1.numel())


def _run(dtype: torch.dtype, problem: _Problem, results: _Results) -> None:
    if _library(dtype).run(problem, results):
        raise MemoryError("no memory for the hidden layer of one tile of rows")


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    library = native.load_library(_SOURCE, *_MACROS[dtype])
    library.run.argtypes = [ctypes.POINTER(_Problem), ctypes.POINTER(_Results)]
    library.run.restype = ctypes.c_int
    return library
