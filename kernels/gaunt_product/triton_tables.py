r"""Tables of the Triton kernels: padded to tiles and, where TF32 is used three times, split in two.

The first tensor is empty and tells the dtype to compute in. It is the only one of the sparse form,
whose coefficients are constants of the code. For the grid form four follow::

    even, odd            (components, parts, points, coeffs): harmonics of even and of odd degree
    even_back, odd_back  (1, parts, coeffs, points): the values transposed, for the projection

with one component (values) for the Gaunt product and two (both derivatives) for the bracket. Points
and coefficients beyond those of the grid and of the degree are zeros.
"""

import torch
from torch import Tensor

SPARSE_UP_TO = 3
"""Largest degree of an operand or result in the sparse form: the grid form above."""

PRECISION = {"triton": "tf32x3", "triton_tf32": "tf32", "triton_bf16": "bf16"}
"""How tensor cores multiply float32, by implementation: relative errors of 2e-7, 5e-4 and 4e-3.

Float64 is multiplied as it is by all three, and so is float32 in the sparse form.
"""

_POINTS = 32


def pack(even: Tensor, odd: Tensor, dtype: torch.dtype, precision: str) -> list[Tensor]:
    """Make the tables of the form for this degree; for the arguments see :func:`pack_grid`."""
    if even.shape[-1] + odd.shape[-1] <= (SPARSE_UP_TO + 1) ** 2:
        return [even.new_empty(0, dtype=dtype)]
    return pack_grid(even, odd, dtype, precision)


def pack_grid(even: Tensor, odd: Tensor, dtype: torch.dtype, precision: str) -> list[Tensor]:
    """Make the tables of the grid form.

    Args:
        even: harmonics of even degree on half of an antipodal grid, (1 or 3, points, coeffs) in
            float64, times the cube root of the weight: values, derivatives along two tangents.
        odd: those of odd degree.
        dtype: to compute in: float64 or float32.
        precision: ``"tf32x3"``, ``"tf32"`` or ``"bf16"``, for products of float32.
    """
    padded = [_pad(table) for table in (even, odd)]
    forward = [table[1:] if len(table) == 3 else table for table in padded]
    back = [table[:1].mT for table in padded]
    return [even.new_empty(0, dtype=dtype)] + [
        _parts(table, dtype, precision) for table in (*forward, *back)
    ]


def tile_of(coeffs: int) -> int:
    """Return the tile that holds some coefficients: matrix products want at least 16."""
    return max(16, 1 << (coeffs - 1).bit_length()) if coeffs else 16


def _pad(table: Tensor) -> Tensor:
    components, points, coeffs = table.shape
    padded = table.new_zeros(components, -(-points // _POINTS) * _POINTS, tile_of(coeffs))
    padded[:, :points, :coeffs] = table
    return padded


def _parts(table: Tensor, dtype: torch.dtype, precision: str) -> Tensor:
    if dtype == torch.float64:
        parts = [table]
    elif precision == "tf32x3":
        high = _to_tf32(table)
        parts = [high, _to_tf32(table - high)]
    elif precision == "tf32":
        parts = [_to_tf32(table)]
    else:
        parts = [table.bfloat16()]
    stored = torch.bfloat16 if parts[0].dtype == torch.bfloat16 else dtype
    return torch.stack(parts, 1).to(stored).contiguous()


def _to_tf32(table: Tensor) -> Tensor:
    """Round float64 to the nearest numbers with the 10 mantissa bits of TF32."""
    mantissa, exponent = torch.frexp(table)
    return torch.ldexp((mantissa * 2**11).round(), exponent - 11)
