"""Launches of the Triton kernels; the contract of both functions is in op.py."""

from typing import Any

import torch
from torch import Tensor

from eqlib.kernels.gaunt_product import triton_configurations as configurations
from eqlib.kernels.gaunt_product import triton_kernels as grid_kernels
from eqlib.kernels.gaunt_product._degrees import lmax_of
from eqlib.kernels.gaunt_product.sparse import triton_kernels as sparse_kernels
from eqlib.kernels.gaunt_product.triton_coefficients import digest
from eqlib.kernels.triton_common import runnable

Weights = tuple[Tensor | None, Tensor | None, Tensor | None]


def product(
    x: Tensor, y: Tensor, weights: Weights, tables: list[Tensor], lmax_out: int, odd: bool
) -> Tensor:
    """Return z = w3 P(w1 x, w2 y), in the form that the tables are made for."""
    z = x.new_empty(len(x), (lmax_out + 1) ** 2, x.shape[2])
    product_into(z, x, y, weights, tables, odd)
    return z


def gradients(
    gz: Tensor, x: Tensor, y: Tensor, weights: Weights, tables: list[Tensor], odd: bool
) -> tuple[Tensor, Tensor]:
    """Return gx = w1 P(w2 y, w3 gz) and gy = w2 P(w3 gz, w1 x)."""
    gx, gy = torch.empty_like(x), torch.empty_like(y)
    gradients_into(gx, gy, gz, x, y, weights, tables, odd)
    return gx, gy


def product_into(
    z: Tensor, x: Tensor, y: Tensor, weights: Weights, tables: list[Tensor], odd: bool
) -> None:
    """Write the product to a contiguous tensor."""
    if len(tables) == 1:
        kernel = sparse_kernels._sparse_product_kernel
        _launch_sparse(kernel, (x, y, z), (x, y, z), weights, tables, odd)
        return
    tile = configurations.grid_tile(tables, odd, False, configurations.chip_of(x.device))
    if tile is None:
        raise ValueError(
            f"no Triton configuration for coefficients in tiles of {tables[1].shape[-1]} and "
            f"{tables[2].shape[-1]} on this device; use implementation='blocked'"
        )
    kernel = grid_kernels._grid_product_kernel
    _launch_grid(kernel, (x, y, z), (x, y, z), weights, tables, odd, tile)


def gradients_into(
    gx: Tensor,
    gy: Tensor,
    gz: Tensor,
    x: Tensor,
    y: Tensor,
    weights: Weights,
    tables: list[Tensor],
    odd: bool,
) -> None:
    """Write both gradients to contiguous tensors: by two products where one kernel does not fit."""
    tensors = (gz, x, y, gx, gy)
    if len(tables) == 1:
        tile = None
        lmaxes = _lmaxes((x, y, gz))
        if configurations.has_sparse_gradients(lmaxes, odd, tables[0].dtype):
            kernel = sparse_kernels._sparse_gradients_kernel
            _launch_sparse(kernel, tensors, (x, y, gz), weights, tables, odd)
            return
    else:
        tile = configurations.grid_tile(tables, odd, True, configurations.chip_of(x.device))
    if tile is not None:
        kernel = grid_kernels._grid_gradients_kernel
        _launch_grid(kernel, tensors, (x, y, gz), weights, tables, odd, tile)
        return
    w1, w2, w3 = weights
    product_into(gx, y, gz, (w2, w3, w1), tables, odd)
    product_into(gy, gz, x, (w3, w1, w2), tables, odd)


def _launch_sparse(
    kernel: Any,
    tensors: tuple[Tensor, ...],
    forward: tuple[Tensor, Tensor, Tensor],
    weights: Weights,
    tables: list[Tensor],
    odd: bool,
) -> None:
    lmaxes = _lmaxes(forward)
    constants, options = configurations.sparse_constants(lmaxes, odd, tables[0].dtype)
    constants["DIGEST"] = digest(*lmaxes, odd)
    shape, grid = _programs(forward[0], constants["BLOCK"])
    with torch.cuda.device_of(tensors[0]):
        runnable(kernel, tensors[0])[grid](*tensors, *weights, *shape, **constants, **options)


def _launch_grid(
    kernel: Any,
    tensors: tuple[Tensor, ...],
    forward: tuple[Tensor, Tensor, Tensor],
    weights: Weights,
    tables: list[Tensor],
    odd: bool,
    tile: configurations.Tile,
) -> None:
    constants, options = configurations.grid_constants(_lmaxes(forward), odd, tables, tile)
    shape, grid = _programs(forward[0], tile.rows)
    arguments = (*tensors, *weights, *tables[1:], *shape, shape[1])
    with torch.cuda.device_of(tensors[0]):
        runnable(kernel, tensors[0])[grid](*arguments, **constants, **options)


def _lmaxes(tensors: tuple[Tensor, Tensor, Tensor]) -> tuple[int, int, int]:
    first, second, third = (lmax_of(tensor.shape[1]) for tensor in tensors)
    return first, second, third


def _programs(x: Tensor, rows: int) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Return (batch, channels, log2 of the channels per program) and the grid of programs."""
    batch, channels = len(x), x.shape[2]
    shift = configurations.channel_shift(channels, rows)
    # Offsets within a tile have 32 bits; those of its first row have 64.
    if (rows >> shift) * configurations.LARGEST_COEFFS * channels >= 2**31:
        raise ValueError(f"x has {channels} channels; expected fewer: split them")
    return (batch, channels, shift), configurations.programs(batch, channels, shift, rows)
