"""Tiles of edges and orientations in C, which pass the whole network while in the cache."""

import ctypes
from collections.abc import Sequence
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path

import torch
from torch import Tensor

from eqlib.kernels import native
from eqlib.kernels.position_orientation_conv.arguments import (
    ATTRIBUTES,
    DIFFERENTIABLE,
    Arguments,
)
from eqlib.kernels.position_orientation_conv.attributes import count_attributes, count_monomials

_SOURCE = Path(__file__).with_name("convolution.c")
_MACROS = {torch.float32: ("REAL=float", "BITS=32"), torch.float64: ("REAL=double", "BITS=64")}
_SLICES = 8
"""The most copies of y or of the gradient by x, where threads are more than orientations."""


def whynot(arguments: Arguments) -> str:
    """Return why this form cannot run here, or nothing.

    Args:
        arguments: of the operation.
    """
    return native.whynot(_SOURCE, *_MACROS[arguments.w3.dtype])


def convolve(arguments: Arguments) -> Tensor:
    """Sum the messages into each target; ``op.py`` has the contract."""
    x = arguments.x.to(arguments.w3.dtype)
    problem, division = _problem(arguments, x), _Division(arguments)
    y = x.new_zeros(division.slices, len(arguments.starts) - 1, *x.shape[1:])
    _check(_library(x.dtype).convolve(problem, division.structure, y.data_ptr()))
    return _total(y).to(arguments.x.dtype)


def differentiate(
    grad_y: Tensor, arguments: Arguments, wants: Sequence[bool]
) -> tuple[Tensor, ...]:
    """Return the gradients that are wanted; ``op.py`` has the contract."""
    dtype = arguments.w3.dtype
    x, grad_y = arguments.x.to(dtype), grad_y.to(dtype)
    problem, division = _problem(arguments, x), _Division(arguments)
    copies = [division.slices] + [division.slices * division.parts] * (DIFFERENTIABLE - 1)
    found = [
        x.new_zeros(count, *like.shape) if wanted else None
        for count, like, wanted in zip(copies, _real(arguments, x), wants, strict=True)
    ]
    gradients = _Gradients(*map(native.pointer, found))
    structures = problem, division.structure, grad_y.data_ptr(), gradients
    _check(_library(dtype).differentiate(*structures))
    by_x, *others = (x.new_empty(0) if part is None else _total(part) for part in found)
    return by_x.to(arguments.x.dtype), *others


class _Problem(ctypes.Structure):
    """The struct ``problem`` of the C source."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in Arguments._fields[:DIFFERENTIABLE]),
        *((name, ctypes.c_void_p) for name in ("source", "target", "frame", "opposite")),
        *(
            (name, ctypes.c_int64)
            for name in (
                *("edges", "sources", "targets", "frames", "orientations", "channels", "n", "m"),
                *("inputs", "hidden", "basis", "attributes", "degree", "monomials", "variables"),
            )
        ),
        *((name, ctypes.c_double) for name in ("softening", "radius")),
    ]


class _Structure(ctypes.Structure):
    """The struct ``division`` of the C source."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("order", "bounds")),
        *((name, ctypes.c_int64) for name in ("slices", "parts", "threads")),
    ]


class _Gradients(ctypes.Structure):
    """The struct ``gradients`` of the C source."""

    _fields_ = [(name, ctypes.c_void_p) for name in Arguments._fields[:DIFFERENTIABLE]]


class _Division:
    """Shares of the work: the orientations in parts, opposites together, and edges in slices."""

    def __init__(self, arguments: Arguments) -> None:
        threads = _threads(arguments)
        orientations = arguments.x.shape[1]
        opposite = arguments.opposite.tolist() or range(orientations)
        pairs = [{o, p} for o, p in enumerate(opposite) if o <= p]
        self.parts = min(threads, len(pairs))
        self.slices = min(threads // self.parts, _SLICES)
        cuts = [len(pairs) * i // self.parts for i in range(self.parts + 1)]
        parts = [sorted(set().union(*pairs[a:b])) for a, b in pairwise(cuts)]
        order, bounds = [o for part in parts for o in part], [0, *accumulate(map(len, parts))]
        self._order, self._bounds = torch.tensor(order), torch.tensor(bounds)
        self.structure = _Structure(
            self._order.data_ptr(), self._bounds.data_ptr(), self.slices, self.parts, threads
        )


def _problem(arguments: Arguments, x: Tensor) -> _Problem:
    """Return the arguments in C, which live as long as they and x do."""
    a = arguments
    (edges, n), (frames, orientations, m, _) = a.offsets.shape, a.axes.shape
    (basis, hidden), channels = a.w2.shape, len(a.w3)
    return _Problem(
        *(tensor.data_ptr() for tensor in _real(a, x)),
        *(a.source.data_ptr(), a.target.data_ptr()),
        *(part.data_ptr() if len(part) else None for part in (a.frame, a.opposite)),
        *(edges, len(x), len(a.starts) - 1, frames, orientations, channels, n, m),
        *(a.scalars.shape[1], hidden, basis, ATTRIBUTES.index(a.attributes), a.degree),
        count_monomials(a.attributes, m, a.degree),
        count_attributes(a.attributes, m),
        *(a.softening, a.radius),
    )


def _real(a: Arguments, x: Tensor) -> tuple[Tensor, ...]:
    return x, a.offsets, a.axes, a.scalars, a.w1, a.b1, a.w2, a.b2, a.w3


def _threads(arguments: Arguments) -> int:
    rows = len(arguments.source) * arguments.x.shape[1]
    work = rows * (arguments.w1.numel() + arguments.w2.numel() + arguments.w3.numel())
    return native.count_threads(work)


def _total(copies: Tensor) -> Tensor:
    return copies[0] if len(copies) == 1 else copies.sum(0)


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for the network on one tile of edges and orientations")


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    library = native.load_library(_SOURCE, *_MACROS[dtype])
    pointer, problem, division = ctypes.c_void_p, *map(ctypes.POINTER, (_Problem, _Structure))
    library.convolve.argtypes = [problem, division, pointer]
    library.differentiate.argtypes = [problem, division, pointer, ctypes.POINTER(_Gradients)]
    for function in (library.convolve, library.differentiate):
        function.restype = ctypes.c_int
    return library
