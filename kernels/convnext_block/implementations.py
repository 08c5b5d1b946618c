"""The implementations by name: which there are, whether they can run, which one "auto" is."""

from types import ModuleType

import torch

from eqlib.kernels.choice import require_implementation, whynot_cpu
from eqlib.kernels.convnext_block import compiled, naive

NAMES = ("naive", "compiled")
_MODULES = {"naive": naive, "compiled": compiled}


def pick(device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """Return the implementation that ``"auto"`` stands for, and the reason.

    Args:
        device: that of the tensors.
        dtype: that of the tensors.
    """
    if reason := whynot("compiled", device, dtype):
        return "naive", f"compiled cannot run: {reason}"
    return "compiled", "hidden units stay in the cache, and this machine has a C compiler"


def whynot(name: str, device: torch.device, dtype: torch.dtype) -> str:
    """Return why an implementation cannot run, or nothing.

    Args:
        name: of the implementation.
        device: that of the tensors.
        dtype: that of the tensors.
    """
    if name == "naive":
        return ""
    return whynot_cpu(device) or compiled.whynot(dtype)


def load(name: str, device: torch.device, dtype: torch.dtype) -> ModuleType:
    """Return an implementation that can run.

    Raises:
        ValueError: there is none of this name, or it cannot run.
    """
    if name == "auto":
        name, _ = pick(device, dtype)
    require_implementation(name, NAMES, lambda name: whynot(name, device, dtype))
    return _MODULES[name]
