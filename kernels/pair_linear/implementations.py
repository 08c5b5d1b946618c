"""The implementations by name: which there are, whether they can run, which one "auto" is."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from eqlib.kernels.choice import require_implementation, whynot_cpu, whynot_triton
from eqlib.kernels.pair_linear.arguments import Linear, Reduction, WeightGradient

NAMES = ("naive", "blocked", "compiled", "triton")
_FILES = {"naive": "naive", "blocked": "blocked", "compiled": "compiled", "triton": "triton_launch"}


class Implementation(NamedTuple):
    """The functions of an implementation; their contract is in ``op.py``."""

    reduce: Callable[[Reduction], Tensor]
    linear: Callable[[Linear], Tensor]
    weight_gradient: Callable[[WeightGradient], Tensor]


@cache
def pick(device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """Return the implementation that ``"auto"`` stands for, and the reason.

    Args:
        device: that of the features.
        dtype: that of the features.
    """
    if device.type not in ("cpu", "cuda"):
        return "blocked", "operations of torch run on every device"
    name = "triton" if device.type == "cuda" else "compiled"
    if reason := whynot(name, device, dtype):
        return "blocked", f"{name} cannot run: {reason}"
    if name == "triton":
        return name, "on a GPU one kernel makes a result and adds what members spread"
    return name, "rows are read once, and this machine has a C compiler"


def whynot(name: str, device: torch.device, dtype: torch.dtype) -> str:
    """Return why an implementation cannot run, or nothing.

    Args:
        name: of the implementation.
        device: that of the features.
        dtype: that of the features.
    """
    if name in ("naive", "blocked"):
        return ""
    if name == "compiled":
        return whynot_cpu(device) or str(_module(name).whynot(dtype))
    return whynot_triton(device)


@cache
def load(name: str, device: torch.device, dtype: torch.dtype) -> Implementation:
    """Import an implementation that can run.

    Raises:
        ValueError: there is none of this name, or it cannot run.
    """
    if name == "auto":
        name, _ = pick(device, dtype)
    require_implementation(name, NAMES, lambda name: whynot(name, device, dtype))
    module = _module(name)
    return Implementation(module.reduce, module.linear, module.weight_gradient)


@cache
def _module(name: str) -> ModuleType:
    return import_module(f"eqlib.kernels.pair_linear.{_FILES[name]}")
