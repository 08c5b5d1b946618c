"""The implementations by name: which there are, whether they can run, which one "auto" is."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from eqlib.kernels.choice import require_implementation, whynot_cpu, whynot_triton

NAMES = ("naive", "blocked", "compiled", "triton")
_FILES = {"naive": "naive", "blocked": "blocked", "compiled": "compiled", "triton": "triton_launch"}
_CLOSED_FORM = (2, 3)


class Implementation(NamedTuple):
    """The functions of an implementation; their contract is in ``op.py``."""

    decompose: Callable[[Tensor], tuple[Tensor, Tensor]]
    differentiate: Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]


def pick(device: torch.device, dtype: torch.dtype, dimension: int = 3) -> tuple[str, str]:
    """Return the implementation that ``"auto"`` stands for, and the reason.

    Args:
        device: that of the matrices.
        dtype: that of the matrices.
        dimension: number of their rows.
    """
    if dimension not in _CLOSED_FORM:
        return "naive", "the closed form is for matrices of 2 or 3 rows"
    if device.type == "cuda":
        if reason := whynot("triton", device, dtype, dimension):
            return "blocked", f"triton cannot run: {reason}"
        return "triton", "on a GPU one thread holds a whole matrix"
    if device.type != "cpu":
        return "blocked", "elementwise operations of torch run on every device"
    if reason := whynot("compiled", device, dtype, dimension):
        return "blocked", f"compiled cannot run: {reason}"
    return "compiled", "the closed form in vector instructions, and this machine has a C compiler"


def whynot(name: str, device: torch.device, dtype: torch.dtype, dimension: int = 3) -> str:
    """Return why an implementation cannot decompose matrices, or nothing.

    Args:
        name: of the implementation.
        device: that of the matrices.
        dtype: that of the matrices.
        dimension: number of their rows.
    """
    if name == "naive":
        return ""
    if dimension not in _CLOSED_FORM:
        return f"it is for matrices of 2 or 3 rows, not {dimension}"
    if name == "compiled":
        return whynot_cpu(device) or str(_module(name).whynot(dtype))
    return whynot_triton(device) if name == "triton" else ""


@cache
def load(name: str, device: torch.device, dtype: torch.dtype, dimension: int) -> Implementation:
    """Import an implementation that can run.

    Raises:
        ValueError: there is none of this name, or it cannot run.
    """
    if name == "auto":
        name, _ = pick(device, dtype, dimension)
    require_implementation(name, NAMES, lambda name: whynot(name, device, dtype, dimension))
    module = _module(name)
    return Implementation(module.decompose, module.differentiate)


@cache
def _module(name: str) -> ModuleType:
    return import_module(f"eqlib.kernels.symmetric_eigh.{_FILES[name]}")
