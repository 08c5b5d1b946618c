"""Tiles of the Triton kernels, chosen so that no register spills on any chip.

Compiled ahead of time and so checked by ``python -m eqlib.kernels.aot``; speed was not measured.
"""

from functools import cache
from typing import Any

import torch

PROGRAMS = 256
"""Of the kernel that sums over slots, about."""


def tile_of(count: int, most: int) -> int:
    """Return the tile for so many columns: matrix products want at least 16."""
    return min(most, max(16, 1 << (count - 1).bit_length())) if count else 16


@cache
def constants(
    kernel: str, channels: int, outputs: int, parts: int, dtype: torch.dtype
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the compile-time arguments of a kernel, and the options.

    Args:
        kernel: "reduce", "linear" or "weight".
        channels: number of features of a slot.
        outputs: number of results of a slot.
        parts: number of features of a member for each channel.
        dtype: that of the features.
    """
    import triton.language as tl

    double = dtype == torch.float64
    found: dict[str, Any] = {"CHANNELS": channels, "ACC": tl.float64 if double else tl.float32}
    if kernel == "reduce":
        width = tile_of(channels, 64)
        found |= {"PARTS": parts, "BM": (512 if double else 1024) // width, "BC": width}
        return found | {"UNROLLED": 2 if double else 4}, {"num_warps": 8}
    widest = 32 if double else 64
    found |= {"OUTPUTS": outputs, "BS": tile_of(outputs, widest)}
    found["PRECISION"] = {torch.float64: "ieee", torch.float32: "tf32x3"}.get(dtype, "tf32")
    if kernel == "linear":
        found |= {"PARTS": parts, "BC": tile_of(channels, 32), "STAGES": 2}
        # Masks of weights, and rows that no wide read divides, take registers.
        uneven = channels % found["BC"] or outputs % found["BS"]
        found["BG"] = 32 if double or uneven or not channels else 64
        return found, {"num_warps": 8 if found["BS"] == 64 else 4}
    found |= {"BC": tile_of(channels, widest), "ROWS": 16 if dtype == torch.float32 else 32}
    return found, {"num_warps": 4}
