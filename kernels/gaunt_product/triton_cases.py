"""The configurations of the Triton kernels that can be picked, to be compiled ahead of time.

Degrees below the largest only mask loads of the grid form, so one case stands for all triples with
the same largest degree. In the sparse form every triple is a kernel of its own; the table has those
of equal degrees, which need most registers, and the mixed ones of ``problems.py``.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch

from eqlib.kernels.aot import AotCase
from eqlib.kernels.gaunt_product import triton_configurations as configurations
from eqlib.kernels.gaunt_product import triton_kernels as grid_kernels
from eqlib.kernels.gaunt_product.sparse import triton_kernels as sparse_kernels
from eqlib.kernels.gaunt_product.triton_coefficients import digest
from eqlib.kernels.gaunt_product.triton_tables import PRECISION, SPARSE_UP_TO, pack_grid
from eqlib.kernels.problems import MIXED_DEGREES

_TYPES = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
}
_OPERANDS = {False: ("x", "y", "z"), True: ("gz", "x", "y", "gx", "gy")}
_WEIGHTS = ("w1", "w2", "w3")
_TABLES = ("even", "odd", "even_back", "odd_back")
_QUICK = ((2, 2, 2), (6, 6, 6))


def aot_cases(capability: int, full: bool) -> Iterator[AotCase]:
    """Yield the configurations for a chip: all, or a few that stand for them."""
    degrees = [(degree,) * 3 for degree in range(configurations.LARGEST_DEGREE + 1)]
    degrees += [triple for triple in MIXED_DEGREES.values() if max(triple) <= SPARSE_UP_TO]
    choices = product(degrees, (False, True), (False, True), _TYPES, (True, False))
    for lmaxes, odd, gradients, dtype, weighted in choices:
        if not full and (lmaxes not in _QUICK or dtype != torch.float32 or not weighted):
            continue
        how = (capability, lmaxes, odd, gradients, dtype, weighted)
        if max(lmaxes) <= SPARSE_UP_TO:
            if not gradients or configurations.has_sparse_gradients(lmaxes, odd, dtype):
                yield _sparse_case(*how)
            continue
        # TF32 and bfloat16 have to be asked for; float64 has one form only.
        several = full and dtype == torch.float32 and weighted
        for precision in PRECISION.values() if several else ("tf32x3",):
            yield from _grid_case(*how, precision)


def _sparse_case(
    capability: int,
    lmaxes: tuple[int, int, int],
    odd: bool,
    gradients: bool,
    dtype: torch.dtype,
    weighted: bool,
) -> AotCase:
    compute = torch.promote_types(dtype, torch.float32)
    constants, options = configurations.sparse_constants(lmaxes, odd, compute)
    constants["DIGEST"] = digest(*lmaxes, odd)
    types = dict.fromkeys(_OPERANDS[gradients], _TYPES[dtype])
    kernel = (
        sparse_kernels._sparse_gradients_kernel
        if gradients
        else sparse_kernels._sparse_product_kernel
    )
    label = _label(lmaxes, odd, dtype, weighted)
    return _case(kernel, capability, types, compute, weighted, constants, options, label)


def _grid_case(
    capability: int,
    lmaxes: tuple[int, int, int],
    odd: bool,
    gradients: bool,
    dtype: torch.dtype,
    weighted: bool,
    precision: str,
) -> Iterator[AotCase]:
    compute = torch.promote_types(dtype, torch.float32)
    chip = configurations.chip_with(capability)
    if max(lmaxes) > configurations.largest_degree(chip, dtype):
        return
    tables = _tables(max(lmaxes), odd, compute, precision)
    tile = configurations.grid_tile(tables, odd, gradients, chip)
    if tile is None:
        return
    constants, options = configurations.grid_constants(lmaxes, odd, tables, tile)
    types = dict.fromkeys(_OPERANDS[gradients], _TYPES[dtype])
    types |= dict.fromkeys(_TABLES, _TYPES[tables[1].dtype]) | {"again": "i32"}
    kernel = grid_kernels._grid_gradients_kernel if gradients else grid_kernels._grid_product_kernel
    label = f"{_label(lmaxes, odd, dtype, weighted)} {configurations.precision_of(tables)}"
    yield _case(kernel, capability, types, compute, weighted, constants, options, label)


def _case(
    kernel: Any,
    capability: int,
    types: dict[str, str],
    compute: torch.dtype,
    weighted: bool,
    constants: dict[str, Any],
    options: dict[str, int],
    label: str,
) -> AotCase:
    types = types | dict.fromkeys(("batch", "channels", "shift"), "i32")
    if weighted:
        types |= dict.fromkeys(_WEIGHTS, _TYPES[compute])
    else:
        constants = constants | dict.fromkeys(_WEIGHTS)
    return AotCase(kernel, types, constants, options, capability, label)


def _label(lmaxes: tuple[int, int, int], odd: bool, dtype: torch.dtype, weighted: bool) -> str:
    kind = "bracket" if odd else "gaunt"
    degrees = ",".join(map(str, lmaxes))
    return f"{kind} {degrees} {str(dtype)[6:]}{' weighted' if weighted else ''}"


def _tables(degree: int, odd: bool, dtype: torch.dtype, precision: str) -> list[torch.Tensor]:
    """Return tables of zeros; the number of points only sets the length of the loop."""
    sizes = (sum(2 * n + 1 for n in range(p, degree + 1, 2)) for p in (0, 1))
    shape = (3 if odd else 1, (3 * degree // 2 + 1) ** 2)
    even, odd_degrees = (torch.zeros(*shape, size, dtype=torch.float64) for size in sizes)
    return pack_grid(even, odd_degrees, dtype, precision)
