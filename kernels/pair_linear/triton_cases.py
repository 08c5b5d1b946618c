"""The configurations of the Triton kernels that can be picked, to be compiled ahead of time.

Tiles do not grow with the widths, so a few stand for all: those that tiles divide and those that
they do not, several tiles and less than one, with every argument and with none that may be absent.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from eqlib.kernels.aot import AotCase
from eqlib.kernels.pair_linear import triton_configurations as configurations
from eqlib.kernels.pair_linear import triton_launch as launch

_TYPES = {torch.float64: "*fp64", torch.float32: "*fp32", torch.bfloat16: "*bf16"}
_NUMBERS = {"members": "i64", "slots": "i64", "tiles": "i32"}
_FEATURES = ("x", "y", "spread", "grad")
_WIDE = ("weight", "scale", "parts")


class _Problem(NamedTuple):
    channels: int
    outputs: int
    absent: tuple[str, ...]
    """Arguments of a kernel that are not there."""
    dtypes: tuple[torch.dtype, ...]


_ALL = (torch.float32, torch.float64, torch.bfloat16)
_OWN = ("scale", "root", "slot", "slot_order", "slot_starts")
_ALONE = (*_OWN, "spread")
_PROBLEMS = {
    "rooted shared 16,16": _Problem(16, 16, (), (torch.float32,)),
    "rooted shared 64,64": _Problem(64, 64, (), _ALL),
    "rooted shared 70,130": _Problem(70, 130, (), _ALL),
    "shared 128,64": _Problem(128, 64, ("root",), (torch.float32,)),
    "own 64,64": _Problem(64, 64, _OWN, _ALL),
    "own 5,6": _Problem(5, 6, _OWN, (torch.float32, torch.float64)),
    "alone 64,128": _Problem(64, 128, _ALONE, _ALL),
    "rooted shared 0,64": _Problem(0, 64, (), _ALL),
}
_QUICK = ("rooted shared 64,64", torch.float32)


def aot_cases(capability: int, full: bool) -> Iterator[AotCase]:
    """Yield the configurations for a chip: all, or a few that stand for them."""
    for label, problem in _PROBLEMS.items():
        for dtype in problem.dtypes:
            if full or (label, dtype) == _QUICK:
                for kernel, function in launch.KERNELS.items():
                    if kernel == "linear" or (problem.channels and problem.absent != _ALONE):
                        yield _case(kernel, function, label, problem, dtype, capability)


def _case(
    kernel: str, function: Any, label: str, problem: _Problem, dtype: torch.dtype, capability: int
) -> AotCase:
    parts = 3 if "root" in problem.absent else 5
    constants, options = configurations.constants(
        kernel, problem.channels, problem.outputs, parts, dtype
    )
    constants = constants | {name: None for name in function.arg_names if name in problem.absent}
    types = {}
    for name in function.arg_names:
        if name in _FEATURES:
            types[name] = _TYPES[dtype]
        elif name in _WIDE:
            types[name] = _TYPES[torch.promote_types(dtype, torch.float32)]
        else:
            types[name] = _NUMBERS.get(name, "*i64")
    types = {name: kind for name, kind in types.items() if name not in constants}
    return AotCase(function, types, constants, options, capability, f"{label} {str(dtype)[6:]}")
