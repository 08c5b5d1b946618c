"""Which implementation of an operation runs: what all operations say of it alike."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch


def require_implementation(name: str, names: Sequence[str], whynot: Callable[[str], str]) -> None:
    """Refuse an implementation that there is not, or that cannot run.

    Args:
        name: what is asked for.
        names: of those that there are.
        whynot: returns why one of these cannot run, or nothing.

    Raises:
        ValueError: there is none of this name, or it cannot run.
    """
    if name not in names:
        raise ValueError(f"implementation is {name!r}; expected 'auto' or one of {names}")
    if reason := whynot(name):
        raise ValueError(
            f"implementation {name!r} cannot run: {reason}; expected 'auto', which picks one "
            "that can"
        )


def whynot_cpu(device: torch.device) -> str:
    """Return why a C source cannot run, or nothing: it runs on the CPU.

    Args:
        device: that of the operands.
    """
    return "" if device.type == "cpu" else f"it runs on the CPU, not on {device.type}"


def whynot_triton(device: torch.device) -> str:
    """Return why Triton cannot run, or nothing: on a GPU it runs, in its interpreter anywhere."""
    if find_spec("triton") is None:
        return "triton is not installed"
    from triton import knobs

    if device.type != "cuda" and not knobs.runtime.interpret:
        return f"it runs on CUDA devices, not on {device.type}"
    return ""
