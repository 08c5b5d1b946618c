"""The configurations of the Triton kernels, to be compiled ahead of time: all there are."""

from collections.abc import Iterator
from itertools import product

import torch

from eqlib.kernels.aot import AotCase
from eqlib.kernels.symmetric_eigh import triton_launch as launch

_TYPES = {torch.float64: "*fp64", torch.float32: "*fp32"}
_GUARD = 1e-3


def aot_cases(capability: int, full: bool) -> Iterator[AotCase]:
    """Yield the configurations for a chip: all, or a few that stand for them."""
    for dimension, dtype in product((2, 3), _TYPES):
        if not full and (dimension, dtype) != (3, torch.float32):
            continue
        label = f"{dimension}x{dimension} {str(dtype)[6:]}"
        for kernel, constants in (
            (launch.DECOMPOSE[dimension], launch.decompose_constants(dtype)),
            (launch.DIFFERENTIATE[dimension], launch.differentiate_constants(_GUARD)),
        ):
            names = [name for name in kernel.arg_names if name not in (*constants, "count")]
            types = dict.fromkeys(names, _TYPES[dtype]) | {"count": "i64"}
            yield AotCase(kernel, types, constants, dict(launch.OPTIONS), capability, label)
