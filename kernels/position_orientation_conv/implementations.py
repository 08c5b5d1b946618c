"""The implementations by name: which there are, whether they can run, which one "auto" is."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from math import inf
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from eqlib.kernels.choice import require_implementation, whynot_cpu, whynot_triton
from eqlib.kernels.position_orientation_conv.arguments import Arguments
from eqlib.kernels.position_orientation_conv.attributes import count_monomials

NAMES = ("naive", "blocked", "compiled", "triton")
_FILES = {"naive": "naive", "blocked": "blocked", "compiled": "compiled", "triton": "triton_launch"}


class Implementation(NamedTuple):
    """The functions of an implementation; their contract is in ``op.py``."""

    convolve: Callable[[Arguments], Tensor]
    differentiate: Callable[[Tensor, Arguments, Sequence[bool]], tuple[Tensor, ...]]


def pick(device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """Return the implementation that ``"auto"`` stands for at usual sizes, and the reason.

    Args:
        device: that of the features.
        dtype: that of the features.
    """
    return choose(_usual(device, torch.promote_types(dtype, torch.float32)))


def choose(arguments: Arguments) -> tuple[str, str]:
    """Return the implementation that ``"auto"`` stands for, and the reason.

    Args:
        arguments: of the operation, in the dtype to compute in.
    """
    device = arguments.x.device
    if device.type not in ("cpu", "cuda"):
        return "blocked", "operations of torch run on every device"
    name = "triton" if device.type == "cuda" else "compiled"
    if reason := whynot(name, arguments):
        return "blocked", f"{name} cannot run: {reason}"
    if name == "triton":
        return name, "on a GPU one kernel makes and uses the values of an edge"
    return name, "values of an edge stay in the cache, and this machine has a C compiler"


def whynot(name: str, arguments: Arguments) -> str:
    """Return why an implementation cannot run, or nothing.

    Args:
        name: of the implementation.
        arguments: of the operation, in the dtype to compute in.
    """
    device = arguments.x.device
    if name in ("naive", "blocked"):
        return ""
    if name == "compiled" and (reason := whynot_cpu(device)):
        return reason
    if name == "triton" and (reason := whynot_triton(device)):
        return reason
    return str(_module(name).whynot(arguments))


def load(name: str, arguments: Arguments) -> Implementation:
    """Import an implementation that can run.

    Raises:
        ValueError: there is none of this name, or it cannot run.
    """
    if name == "auto":
        name, _ = choose(arguments)
    require_implementation(name, NAMES, lambda name: whynot(name, arguments))
    module = _module(name)
    return Implementation(module.convolve, module.differentiate)


def _usual(device: torch.device, dtype: torch.dtype) -> Arguments:
    """Return arguments of usual sizes, without an edge."""
    orientations, channels, inputs = 12, 64, count_monomials("perpendicular", 1, 3)
    shapes = [
        (1, orientations, channels),
        (0, 3),
        (1, orientations, 1, 3),
        (0, 0),
        (channels, inputs),
        (channels,),
        (channels, channels),
        (channels,),
        (channels, channels),
    ]
    reals = [torch.zeros(shape, device=device, dtype=dtype) for shape in shapes]
    sizes = (0, 0, 2, 0, 2, 0, 0)
    indices = [torch.zeros(size, device=device, dtype=torch.int64) for size in sizes]
    return Arguments._make([*reals, *indices, "perpendicular", 3, 0.1, inf])


@cache
def _module(name: str) -> ModuleType:
    return import_module(f"eqlib.kernels.position_orientation_conv.{_FILES[name]}")
