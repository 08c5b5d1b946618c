"""Sums over edges on a grid of the sphere, in C: what ``blocked`` computes, without its buffers."""

import ctypes
from functools import cache
from math import isqrt
from pathlib import Path

import torch
from torch import Tensor

from eqlib.kernels import native
from eqlib.kernels.choice import whynot_cpu
from eqlib.kernels.gaunt_convolution.blocked import bases, rows_in_use, used_nodes

_SOURCE = Path(__file__).with_name("edges.c")
_REAL = {torch.float32: "REAL=float", torch.float64: "REAL=double"}


def whynot(device: torch.device) -> str:
    """Return why this form cannot run here, or nothing.

    Args:
        device: that of the features.
    """
    return whynot_cpu(device) or native.whynot(_SOURCE, _REAL[torch.float32])


def convolve(
    x: Tensor,
    harmonics: Tensor,
    radial: Tensor,
    table: Tensor,
    source: Tensor,
    target: Tensor,
    num_targets: int,
    lmax_out: int,
    odd: bool,
) -> Tensor:
    """Sum the messages into each target; the arguments are those of the operation."""
    coeffs_out = (lmax_out + 1) ** 2
    from_source, to_target, values = bases(table, x.shape[2], coeffs_out, odd)
    used, target = used_nodes(target, num_targets)
    nodes = num_targets if used is None else len(used)
    x, source = rows_in_use(x, source)
    field = from_source @ x.to(table.dtype)
    result = field.new_empty(nodes, x.shape[1], coeffs_out, x.shape[3])
    order, starts = _by_target(target, nodes)
    edges = _edges(harmonics, radial, table.dtype)
    inputs = [field, *edges, _columns(values, harmonics), to_target, source, order, starts]
    sizes = _sizes(field, edges, len(values))
    inputs = [part if part is None else part.contiguous() for part in inputs]
    failed = _library(table.dtype).convolve(
        *map(native.pointer, [*inputs, result]),
        *(nodes, coeffs_out, sizes, native.count_threads(len(source) * field[:1].numel())),
    )
    _check(failed)
    result = result.to(x.dtype)
    if used is None:
        return result
    return result.new_zeros(num_targets, *result.shape[1:]).index_copy_(0, used, result)


def convolve_filter(
    x: Tensor,
    z: Tensor,
    harmonics: Tensor,
    radial: Tensor,
    table: Tensor,
    source: Tensor,
    target: Tensor,
    odd: bool,
    wants_harmonics: bool,
    wants_radial: bool,
) -> tuple[Tensor, Tensor]:
    """Differentiate by harmonics and radial; the arguments are those of the operation."""
    from_source, to_target, values = bases(table, x.shape[2], z.shape[2], odd)
    x, source = rows_in_use(x, source)
    z, target = rows_in_use(z, target)
    fields = from_source @ x.to(table.dtype), to_target @ z.to(table.dtype)
    edges = _edges(harmonics, radial, table.dtype)
    by_harmonics, by_radial = (
        torch.empty_like(part, memory_format=torch.contiguous_format) if wanted else None
        for part, wanted in zip(edges, (wants_harmonics, wants_radial), strict=True)
    )
    inputs = [*fields, *edges, _columns(values, harmonics), source, target]
    inputs = [part.contiguous() for part in inputs]
    failed = _library(table.dtype).convolve_filter(
        *map(native.pointer, [*inputs, by_harmonics, by_radial]),
        *(len(source), _sizes(fields[0], edges, len(values))),
        native.count_threads(len(source) * fields[0][:1].numel()),
    )
    _check(failed)
    return (
        harmonics.new_empty(0) if by_harmonics is None else by_harmonics.to(harmonics.dtype),
        radial.new_empty(0) if by_radial is None else by_radial.to(radial.dtype),
    )


class _Sizes(ctypes.Structure):
    """The struct ``sizes`` of the C source."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("points", "parts", "copies", "channels", "terms", "degrees")
    ]


def _sizes(field: Tensor, edges: tuple[Tensor, Tensor], points: int) -> _Sizes:
    _, copies, rows, channels = field.shape
    terms, degrees = edges[1].shape[1:3]
    return _Sizes(points, rows // points, copies, channels, terms, degrees)


def _edges(harmonics: Tensor, radial: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return harmonics.to(dtype).contiguous(), radial.to(dtype).contiguous()


def _columns(values: Tensor, harmonics: Tensor) -> Tensor:
    """Return the harmonics of the filter's degrees, (coeffs, points)."""
    return values[:, : isqrt(harmonics.shape[2]) ** 2].mT


def _by_target(target: Tensor, nodes: int) -> tuple[Tensor | None, Tensor]:
    """Return the edges in the order of their targets, and where those of each node start."""
    order = None
    if len(target) > 1 and bool((target.diff() < 0).any()):
        order = target.argsort(stable=True)
    counts = torch.bincount(target, minlength=nodes)
    return order, torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for the grid values of one node")


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    library = native.load_library(_SOURCE, _REAL[dtype])
    pointer, count, threads = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    library.convolve.argtypes = [*[pointer] * 9, count, count, _Sizes, threads]
    library.convolve_filter.argtypes = [*[pointer] * 9, count, _Sizes, threads]
    for function in (library.convolve, library.convolve_filter):
        function.restype = threads
    return library
