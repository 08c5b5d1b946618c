"""The implementations by name: which there are, whether they can run, which one "auto" is."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

LARGEST_DEGREE = {"naive": 12, "compiled": 10, "blocked": 30, "fourier": 30, "triton": 30}
"""Largest degree of an operand by implementation."""

_COMPILED_UP_TO = 6
"""Above, table products by the library's matrix multiplication beat the sum over coefficients."""


class Implementation(NamedTuple):
    """The functions of an implementation; their contract is in ``op.py``."""

    product: Callable[..., Tensor]
    gradients: Callable[..., tuple[Tensor, Tensor]]
    all_gradients: Callable[..., tuple[Tensor | None, ...]] | None = None


@cache
def load(name: str) -> Implementation:
    """Import an implementation."""
    module = _module(name)
    if name == "triton":
        return Implementation(module.launch, module.launch_gradients)
    return Implementation(module.product, module.gradients, getattr(module, "all_gradients", None))


def pick(
    device: torch.device, dtype: torch.dtype, lmaxes: tuple[int, int, int], odd: bool
) -> tuple[str, str]:
    """Return the implementation that ``"auto"`` stands for, and the reason, as README.md measures.

    Args:
        device: that of the operands.
        dtype: that of the operands.
        lmaxes: degrees of both operands and of the result.
        odd: whether it is the bracket.
    """
    if device.type == "cuda":
        reason = whynot("triton", device, dtype, lmaxes)
        if not reason:
            return "triton", "on a GPU the fused kernel reads and writes the features once"
        return "blocked", f"triton cannot run: {reason}"
    if device.type == "cpu" and max(lmaxes) <= _COMPILED_UP_TO:
        reason = whynot("compiled", device, dtype, lmaxes)
        if not reason:
            return "compiled", "few coefficients are not zero, and this machine has a C compiler"
        return "blocked", f"compiled cannot run: {reason}"
    return "blocked", "products with tables of harmonics, in blocks that stay in the cache"


def whynot(
    name: str, device: torch.device, dtype: torch.dtype, lmaxes: tuple[int, int, int]
) -> str:
    """Return why an implementation cannot compute a product, or nothing.

    Args:
        name: of the implementation.
        device: that of the operands.
        dtype: that of the operands.
        lmaxes: degrees of both operands and of the result.
    """
    if max(lmaxes) > LARGEST_DEGREE[name]:
        return f"its tables end at degree {LARGEST_DEGREE[name]}, not {max(lmaxes)}"
    if name == "compiled":
        if device.type != "cpu":
            return f"it runs on the CPU, not on {device.type}"
        return str(_module(name).whynot(dtype))
    if name == "triton":
        if find_spec("triton") is None:
            return "triton is not installed"
        from triton import knobs

        if device.type != "cuda" and not knobs.runtime.interpret:
            return f"it runs on CUDA devices, not on {device.type}"
    return ""


@cache
def _module(name: str) -> ModuleType:
    file = "triton_kernels" if name == "triton" else name
    return import_module(f"eqlib.kernels.gaunt_product.{file}")
