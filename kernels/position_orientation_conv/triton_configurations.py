"""Tiles of the Triton kernels by chip, chosen so that no register spills.

Compiled ahead of time and so checked by ``python -m eqlib.kernels.aot``; speed was not measured.
"""

from functools import cache
from math import isinf
from typing import Any, NamedTuple

import torch

from eqlib.kernels.position_orientation_conv.arguments import Arguments
from eqlib.kernels.position_orientation_conv.attributes import count_attributes, count_monomials


class Tile(NamedTuple):
    """The shape of one program: at most so many of each."""

    rows: int
    """Pairs of edge and orientation at a time."""
    hidden: int
    basis: int
    channels: int
    stages: int
    warps: int


class Shape(NamedTuple):
    """The sizes and numbers that a kernel is compiled for."""

    attributes: str
    n: int
    axes: int
    degree: int
    scalars: int
    hidden: int
    basis: int
    channels: int
    orientations: int
    softening: float
    radius: float

    @property
    def features(self) -> int:
        """Number of monomials."""
        return count_monomials(self.attributes, self.axes, self.degree)

    @property
    def values(self) -> int:
        """Number of attributes."""
        return count_attributes(self.attributes, self.axes)


CHIPS = {"ampere": (80,), "small": (86, 89, 120), "hopper": (90,), "blackwell": (100,)}
"""Chips that share a table, by compute capability: those named small have 99 KiB per block."""

LARGEST_INPUTS = (32, 16)
"""Monomials and scalars together, for float32 and for float64: above, tiles would spill."""

TOTALS = 32
"""Receivers times orientations of a program of the convolution."""

KERNELS = ("convolve", "stage", "second", "third", "first")

_AMPERE = (
    Tile(32, 32, 32, 128, 2, 8),
    Tile(64, 32, 32, 32, 2, 8),
    Tile(32, 64, 64, 64, 1, 8),
    Tile(32, 64, 64, 64, 1, 8),
    Tile(32, 32, 32, 64, 1, 8),
)
_HOPPER = (
    Tile(64, 32, 64, 128, 2, 8),
    Tile(64, 32, 64, 32, 2, 8),
    Tile(64, 64, 64, 64, 1, 8),
    Tile(64, 64, 64, 64, 1, 8),
    Tile(64, 64, 32, 64, 2, 8),
)
_BLACKWELL = (
    _HOPPER[0],
    Tile(64, 32, 64, 16, 2, 8),
    _HOPPER[2],
    Tile(32, 64, 64, 64, 1, 8),
    _HOPPER[4],
)
_SMALL = (_AMPERE[0], _AMPERE[1]._replace(stages=1), *_AMPERE[2:])
_TILES = {"ampere": _AMPERE, "small": _SMALL, "hopper": _HOPPER, "blackwell": _BLACKWELL}
_AMPERE_UNEVEN = {"convolve": Tile(32, 32, 16, 128, 2, 8), "first": Tile(32, 16, 32, 64, 1, 8)}
_HOPPER_UNEVEN = {"first": _HOPPER[4]._replace(stages=1)}
_TILES_UNEVEN = {
    "ampere": _AMPERE_UNEVEN,
    "small": _AMPERE_UNEVEN,
    "hopper": _HOPPER_UNEVEN,
    "blackwell": _HOPPER_UNEVEN,
}
"""For more than 16 inputs to layers that tiles do not divide: masks of weights take registers."""
_TILES_FLOAT64 = (
    Tile(16, 16, 16, 16, 1, 8),
    Tile(16, 16, 16, 16, 1, 4),
    *[Tile(16, 16, 16, 32, 1, 4)] * 2,
    Tile(16, 16, 16, 32, 1, 8),
)


def largest_inputs(dtype: torch.dtype) -> int:
    """Return how many monomials and scalars the tiles hold together."""
    return LARGEST_INPUTS[dtype == torch.float64]


def shape_of(arguments: Arguments) -> Shape:
    """Return the sizes and numbers that a kernel is compiled for."""
    _, orientations, axes, n = arguments.axes.shape
    widths = len(arguments.b1), len(arguments.b2), len(arguments.w3)
    numbers = arguments.softening, arguments.radius
    scalars = arguments.scalars.shape[1]
    return Shape(
        arguments.attributes, n, axes, arguments.degree, scalars, *widths, orientations, *numbers
    )


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


def tile_of(count: int) -> int:
    """Return the tile that holds so many columns: matrix products want at least 16."""
    return max(16, 1 << (count - 1).bit_length()) if count else 16


def tile(kernel: str, shape: Shape, dtype: torch.dtype, chip: str) -> Tile:
    """Return the tile of a kernel, no larger than the network.

    Args:
        kernel: one of ``KERNELS``.
        shape: sizes of the network.
        dtype: that of the features.
        chip: one of ``CHIPS``.
    """
    table = _TILES_FLOAT64 if dtype == torch.float64 else _TILES[chip]
    largest = table[KERNELS.index(kernel)]
    widths = (shape.hidden, shape.basis, shape.channels)
    many = tile_of(shape.features + shape.scalars) > 16
    uneven = any(n % min(most, tile_of(n)) for most, n in zip(largest[1:4], widths, strict=True))
    if many and uneven:
        largest = _TILES_UNEVEN[chip].get(kernel, largest)
    if kernel == "convolve" and (many or uneven):
        largest = largest._replace(basis=min(largest.basis, 32))
    hidden, basis, channels = (
        min(most, tile_of(n)) for most, n in zip(largest[1:4], widths, strict=True)
    )
    return largest._replace(hidden=hidden, basis=basis, channels=channels)


@cache
def tiles(shape: Shape, dtype: torch.dtype, chip: str) -> dict[str, Tile]:
    """Return the tiles of all kernels; see :func:`tile`."""
    return {kernel: tile(kernel, shape, dtype, chip) for kernel in KERNELS}


@cache
def constants(
    kernel: str, shape: Shape, dtype: torch.dtype, chip: str
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the compile-time arguments of a kernel, and the options; see :func:`tile`."""
    import triton.language as tl

    rows, hidden, basis, channels, stages, warps = tile(kernel, shape, dtype, chip)
    found: dict[str, Any] = {"BASIS": shape.basis, "CHANNELS": shape.channels}
    found |= {"ORIENTATIONS": shape.orientations}
    found |= {"ROWS": rows, "BB": basis, "BC": channels}
    found["PRECISION"] = {torch.float64: "ieee", torch.float32: "tf32x3"}.get(dtype, "tf32")
    found["ACC"] = tl.float64 if dtype == torch.float64 else tl.float32
    if kernel != "third":
        found |= {"KIND": shape.attributes, "N": shape.n, "M": shape.axes, "COUNT": shape.values}
        # A number at run time would have 32 bits only.
        found |= {"SOFTENING": shape.softening, "DEGREE": shape.degree}
        found["RADIUS"] = 0.0 if isinf(shape.radius) else shape.radius
        found |= {"FEATURES": shape.features, "SCALARS": shape.scalars, "HIDDEN": shape.hidden}
        found |= {"INPUTS": tile_of(shape.features + shape.scalars), "BH": hidden}
        found["STAGES"] = stages
    if kernel == "convolve":
        parts = -(-shape.orientations // TOTALS)
        found |= {"TOGETHER": -(-shape.orientations // parts), "TOTALS": TOTALS}
    return found, {"num_warps": warps}
