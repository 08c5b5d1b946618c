"""The configurations of the Triton kernels that can be picked, to be compiled ahead of time.

Tiles do not grow with the network, so four stand for all, with every argument that a kernel can
have: up to 16 inputs or up to 32, and widths that tiles divide or not. A small one is beside them.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from eqlib.kernels.aot import AotCase
from eqlib.kernels.position_orientation_conv import triton_configurations as configurations
from eqlib.kernels.position_orientation_conv import triton_launch as launch
from eqlib.kernels.position_orientation_conv.triton_configurations import Shape

_TYPES = {torch.float64: "*fp64", torch.float32: "*fp32", torch.bfloat16: "*bf16"}
_INDICES = ("source", "target", "starts", "by_source", "source_starts", "frame", "opposite")
_NUMBERS = {"nodes": "i64", "begin": "i64", "end": "i64", "group": "i32", "tiles": "i32"}


class _Problem(NamedTuple):
    shape: Shape
    absent: tuple[str, ...]
    """Arguments of a kernel that are not there."""
    dtypes: tuple[torch.dtype, ...]


_PROBLEMS = {
    "planar 32,32,32": _Problem(
        Shape("axes", 2, 2, 3, 1, 32, 32, 32, 12, 1e-2, float("inf")),
        ("frame", "opposite"),
        (torch.float32,),
    ),
    "spatial 128,256,128": _Problem(
        Shape("perpendicular", 3, 1, 3, 2, 128, 256, 128, 20, 1e-2, 3.0),
        (),
        (torch.float32, torch.float64, torch.bfloat16),
    ),
    "uneven 70,130,140": _Problem(
        Shape("perpendicular", 3, 1, 3, 2, 70, 130, 140, 20, 1e-2, 3.0),
        (),
        (torch.float32,),
    ),
    "uneven rotations 70,130,140": _Problem(
        Shape("axes", 3, 3, 3, 4, 70, 130, 140, 24, 1e-2, 3.0),
        (),
        (torch.float32,),
    ),
    "rotations 128,256,128": _Problem(
        Shape("axes", 3, 3, 3, 4, 128, 256, 128, 24, 1e-2, 3.0),
        (),
        (torch.float32,),
    ),
}
_QUICK = ("planar 32,32,32", torch.float32)


def aot_cases(capability: int, full: bool) -> Iterator[AotCase]:
    """Yield the configurations for a chip: all, or a few that stand for them."""
    for label, problem in _PROBLEMS.items():
        for dtype in problem.dtypes:
            if full or (label, dtype) == _QUICK:
                for kernel, function in launch.KERNELS.items():
                    yield _case(kernel, function, label, problem, dtype, capability)


def _case(
    kernel: str,
    function: Any,
    label: str,
    problem: _Problem,
    dtype: torch.dtype,
    capability: int,
) -> AotCase:
    chip = configurations.chip_with(capability)
    constants, options = configurations.constants(kernel, problem.shape, dtype, chip)
    constants = constants | ({"REVERSED": False} if kernel == "convolve" else {})
    compute = _TYPES[torch.promote_types(dtype, torch.float32)]
    types = {}
    for name in function.arg_names:
        if name in problem.absent:
            constants[name] = None
        elif name not in constants:
            types[name] = _NUMBERS.get(name, "*i64" if name in _INDICES else compute)
    types |= {name: _TYPES[dtype] for name in ("x", "y", "grad") if name in types}
    return AotCase(function, types, constants, options, capability, f"{label} {str(dtype)[6:]}")
