"""Tiles of the Triton kernels by chip, degree and precision, chosen so that no register spills.

Compiled ahead of time and so checked by ``python -m eqlib.kernels.aot``; speed was not measured.
"""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Tile(NamedTuple):
    """The shape of one program of the grid form."""

    rows: int
    points: int
    stages: int
    warps: int


CHIPS = {"ampere": (80,), "small": (86, 89, 120), "hopper": (90,), "blackwell": (100,)}
"""Chips that share a table, by compute capability: those named small have 99 KiB per block."""

LARGEST_DEGREE = 9
"""Of an operand or result on any chip; see :func:`largest_degree` for one."""

LARGEST_COEFFS = (LARGEST_DEGREE + 1) ** 2

_DEGREES = {"ampere": (6, 6), "small": (6, 3), "hopper": (9, 6), "blackwell": (6, 3)}
"""Largest degrees of float32 and of float64: above, no tile was found that does not spill."""

_SIZES = ((16, 16), (16, 32), (32, 32), (32, 64), (64, 64))
"""Tiles of the coefficients of even and of odd degree: largest degree 4, 5, 6, 7, and 8 or 9."""

_A, _B = Tile(128, 32, 2, 8), Tile(64, 32, 2, 4)
_C, _D, _E = Tile(64, 16, 2, 4), Tile(32, 16, 2, 4), Tile(16, 16, 2, 2)
_F, _G = Tile(16, 16, 1, 4), Tile(16, 16, 2, 4)

# By whether it is the bracket and whether it is the kernel of both gradients. Where the latter has
# no tile, two products take its place.
_Table = dict[tuple[bool, bool], tuple[Tile, ...]]
_AMPERE: _Table = {
    (False, False): (_C, _C, _C),
    (True, False): (_C, _G, _G),
    (False, True): (_C, _C),
    (True, True): (_C,),
}
_TILES: dict[str, _Table] = {
    "ampere": _AMPERE,
    "small": _AMPERE,
    "hopper": {
        (False, False): (_A, _A, _A, _C, _C),
        (True, False): (_A, _A, _C, _C, _C),
        (False, True): (_A, _A, _B),
        (True, True): (_C, _C, _C),
    },
    "blackwell": {(False, False): (_B, _B, _B), (True, False): (_C, _C, _C)},
}
_TILES_FLOAT64: _Table = {(False, False): (_C, _D, _D), (True, False): (_C, _E, _F)}


def largest_degree(chip: str, dtype: torch.dtype) -> int:
    """Return the largest degree that a chip has tiles for."""
    return _DEGREES[chip][dtype == torch.float64]


@cache
def chip_of(device: torch.device) -> str:
    """Return the table of a device; the interpreter, on the CPU, has that of Hopper."""
    if device.type != "cuda":
        return "hopper"
    major, minor = torch.cuda.get_device_capability(device)
    return chip_with(10 * major + minor)


def chip_with(capability: int) -> str:
    """Return the table of a compute capability, that of the small chips for unknown ones."""
    return next((chip for chip, numbers in CHIPS.items() if capability in numbers), "small")


def grid_tile(tables: list[Tensor], odd: bool, gradients: bool, chip: str) -> Tile | None:
    """Return the tile of the grid form, or None where the kernel does not fit the chip."""
    sizes = (tables[1].shape[-1], tables[2].shape[-1])
    return _tile(sizes, precision_of(tables), odd, gradients, chip)


def precision_of(tables: list[Tensor]) -> str:
    """Return how the matrix products run, which the tables of the grid form tell."""
    if tables[1].dtype == torch.float64:
        return "ieee"
    if tables[1].dtype == torch.bfloat16:
        return "bf16"
    return "tf32x3" if tables[1].shape[1] == 2 else "tf32"


def channel_shift(channels: int, rows: int) -> int:
    """Return log2 of the channels per program: fewest idle lanes, then most channels together."""
    limit = rows.bit_length() - 1
    if channels < 16:
        return min(limit, (channels - 1).bit_length())
    return min(range(min(4, limit), limit + 1), key=lambda s: (-(-channels >> s) << s, -s))


def programs(batch: int, channels: int, shift: int, rows: int) -> tuple[int, int]:
    """Return the number of programs along the batch and along the channels."""
    return -(-batch // (rows >> shift)), -(-channels >> shift)


def sparse_constants(
    lmaxes: tuple[int, int, int], odd: bool, dtype: torch.dtype
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the compile-time arguments of the sparse form, without the digest, and the options."""
    import triton.language as tl

    constants: dict[str, Any] = {"L1": lmaxes[0], "L2": lmaxes[1], "L3": lmaxes[2]}
    constants |= {"ODD": odd, "BLOCK": 128}
    constants["ACC"] = tl.float64 if dtype == torch.float64 else tl.float32
    return constants, {"num_warps": 4}


def has_sparse_gradients(lmaxes: tuple[int, ...], odd: bool, dtype: torch.dtype) -> bool:
    """Whether both gradients have one kernel of the sparse form that does not spill."""
    return odd or dtype != torch.float64 or min(lmaxes) < 3


def grid_constants(
    lmaxes: tuple[int, int, int], odd: bool, tables: list[Tensor], tile: Tile
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the compile-time arguments of the grid form, and the options."""
    import triton.language as tl

    _, parts, points, even = tables[1].shape
    acc = tl.float64 if tables[0].dtype == torch.float64 else tl.float32
    constants: dict[str, Any] = {"L1": lmaxes[0], "L2": lmaxes[1], "L3": lmaxes[2]}
    constants |= {"ODD": odd, "G": points}
    constants |= {"KE": even, "KO": tables[2].shape[-1], "PARTS": parts, "ACC": acc}
    constants["PRECISION"] = "tf32" if precision_of(tables).startswith("tf32") else "ieee"
    constants["DOT"] = tl.bfloat16 if tables[1].dtype == torch.bfloat16 else acc
    constants |= {"BLOCK": tile.rows, "BG": tile.points, "STAGES": tile.stages}
    return constants, {"num_warps": tile.warps}


def _tile(
    sizes: tuple[int, int], precision: str, odd: bool, gradients: bool, chip: str
) -> Tile | None:
    tables = _TILES_FLOAT64 if precision == "ieee" else _TILES[chip]
    tiles = dict(zip(_SIZES, tables.get((odd, gradients), ()), strict=False))
    return tiles.get(sizes)
