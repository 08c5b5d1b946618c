"""Refusal of what does not fit: implementations read memory without looking."""

from math import isfinite, isnan

import torch
from torch import Tensor

from eqlib.kernels.position_orientation_conv.arguments import (
    ATTRIBUTES,
    DIFFERENTIABLE,
    Arguments,
)
from eqlib.kernels.position_orientation_conv.attributes import count_monomials

_REAL = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_AXES = {
    "x": 3,
    "offsets": 2,
    "axes": 4,
    "scalars": 2,
    "w1": 2,
    "b1": 1,
    "w2": 2,
    "b2": 1,
    "w3": 2,
    "source": 1,
    "target": 1,
    "starts": 1,
    "by_source": 1,
    "source_starts": 1,
    "frame": 1,
    "opposite": 1,
}


def check(arguments: Arguments) -> None:
    """Raise unless settings, shapes, dtypes and, on the CPU, indices fit.

    Raises:
        ValueError: they do not.
        TypeError: a tensor has another dtype than its kind may have.
    """
    _check_settings(arguments)
    _check_kinds(arguments)
    _check_shapes(arguments)
    if arguments.x.device.type == "cpu":  # elsewhere looking would wait for the device
        _check_indices(arguments)


def _check_settings(a: Arguments) -> None:
    if a.attributes not in ATTRIBUTES:
        raise ValueError(f"attributes: expected one of {ATTRIBUTES}, got {a.attributes!r}")
    if a.degree < 1:
        raise ValueError(f"degree: expected 1 or more, got {a.degree}")
    if not (isfinite(a.softening) and a.softening > 0):
        raise ValueError(f"softening: expected a finite length above 0, got {a.softening}")
    if isnan(a.radius) or a.radius <= 0:
        raise ValueError(f"radius: expected a length above 0, or infinity, got {a.radius}")


def _check_kinds(a: Arguments) -> None:
    for index, (name, axes) in enumerate(_AXES.items()):
        tensor: Tensor = getattr(a, name)
        if tensor.ndim != axes:
            raise ValueError(f"{name}: expected {axes} axes, got shape {tuple(tensor.shape)}")
        if tensor.device != a.x.device:
            raise ValueError(
                f"{name} is on {tensor.device} and x on {a.x.device}; move them to one device"
            )
        real = index < DIFFERENTIABLE
        if tensor.dtype not in _REAL if real else tensor.dtype != torch.int64:
            expected = "float64, float32, bfloat16 or float16" if real else "int64"
            raise TypeError(f"{name}: expected {expected}, got {tensor.dtype}")


def _check_shapes(a: Arguments) -> None:
    sources, orientations, channels = a.x.shape
    frames, _, m, n = a.axes.shape
    edges, scalars = len(a.source), a.scalars.shape[1]
    allowed = {"axes": m, "perpendicular": 1, "distance": 0}[a.attributes]
    if m != allowed:
        raise ValueError(
            f"axes: attributes {a.attributes!r} need {allowed} per orientation, got {m}; expected "
            f"shape (frames, orientations, {allowed}, n)"
        )
    inputs = count_monomials(a.attributes, m, a.degree) + scalars
    hidden, basis = len(a.b1), len(a.b2)
    expected = {
        "offsets": (edges, n),
        "axes": (frames, orientations, m, n),
        "scalars": (edges, scalars),
        "w1": (hidden, inputs),
        "w2": (basis, hidden),
        "w3": (channels, basis),
        "target": (edges,),
        "by_source": (edges,),
        "source_starts": (sources + 1,),
        "frame": (edges if len(a.frame) else 0,),
        "opposite": (orientations if len(a.opposite) else 0,),
    }
    for name, shape in expected.items():
        found = tuple(getattr(a, name).shape)
        if found != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {found}")
    if not (hidden and basis):
        raise ValueError(f"b1, b2: expected one unit or more, got {hidden} and {basis}")
    if not len(a.starts):
        raise ValueError("starts: expected one entry more than there are targets, got none")
    if edges and not frames:
        raise ValueError("axes: expected one frame or more, got none")
    if len(a.opposite) and len(a.starts) != sources + 1:
        raise ValueError(
            f"opposite: edges of both directions need as many targets as sources ({sources}), "
            f"got {len(a.starts) - 1}; pass an empty one"
        )


def _check_indices(a: Arguments) -> None:
    _check_range("source", a.source, len(a.x))
    _check_range("frame", a.frame, len(a.axes))
    _check_range("opposite", a.opposite, a.x.shape[1])
    _check_range("by_source", a.by_source, len(a.source))
    _check_sorted("target", "starts", a.target, a.starts)
    by_source = a.source[a.by_source]
    _check_sorted("source[by_source]", "source_starts", by_source, a.source_starts)
    rising = (by_source[1:] > by_source[:-1]) | (a.by_source[1:] > a.by_source[:-1])
    if not bool(rising.all()):
        raise ValueError(
            "by_source: expected the edges sorted stably by source, as "
            "source.argsort(stable=True) gives"
        )
    if not torch.equal(a.opposite[a.opposite], torch.arange(len(a.opposite))):
        raise ValueError(
            "opposite: expected the index of the opposite of each orientation, whose opposite is "
            f"that orientation, got {a.opposite.tolist()}"
        )


def _check_range(name: str, index: Tensor, size: int) -> None:
    if not len(index):
        return
    low, high = (int(bound) for bound in index.aminmax())
    if low < 0 or high >= size:
        raise ValueError(f"{name}: expected 0 <= {name} < {size}, got {low} to {high}")


def _check_sorted(name: str, name_of_starts: str, index: Tensor, starts: Tensor) -> None:
    """Raise unless starts say where the edges of each node begin."""
    counts = starts.diff()
    fits = int(starts[0]) == 0 and int(starts[-1]) == len(index) and bool((counts >= 0).all())
    if not fits or not torch.equal(
        torch.arange(len(counts)).repeat_interleave(counts, output_size=len(index)), index
    ):
        raise ValueError(
            f"{name}, {name_of_starts}: expected {name} to ascend and to begin with each node "
            f"where {name_of_starts} says; sort the edges, and take "
            f"torch.searchsorted({name}, torch.arange(nodes + 1))"
        )
