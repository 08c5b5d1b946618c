"""The implementations by name: which there are, whether they can run, which one "auto" is."""

from types import ModuleType

import torch

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
    if device.type != "cpu":
        return f"it runs on the CPU, not on {device.type}"
    return compiled.whynot(dtype)


def load(name: str, device: torch.device, dtype: torch.dtype) -> ModuleType:
    """Return an implementation that can run.

    Raises:
        ValueError: there is none of this name, or it cannot run.
    """
    if name == "auto":
        name, _ = pick(device, dtype)
    if name not in NAMES:
        raise ValueError(f"implementation is {name!r}; expected 'auto' or one of {NAMES}")
    if reason := whynot(name, device, dtype):
        raise ValueError(
            f"implementation {name!r} cannot run: {reason}; expected 'auto', which picks one "
            "that can"
        )
    return _MODULES[name]
