"""Launches of the Triton kernels; the contract of both functions is in op.py."""

from collections.abc import Sequence
from math import isinf
from typing import Any

import torch
from torch import Tensor

from eqlib.kernels.position_orientation_conv import attributes, duals, triton_gradients
from eqlib.kernels.position_orientation_conv import triton_configurations as configurations
from eqlib.kernels.position_orientation_conv import triton_kernels as kernels
from eqlib.kernels.position_orientation_conv.arguments import Arguments
from eqlib.kernels.triton_common import runnable

STAGED_BYTES = 2**25
"""Of the basis and its gradient, for the rows that are worked on at a time."""
PROGRAMS = 256
"""Of a kernel that sums over rows, about."""
ROWS_OF_GEOMETRY = 2**20
"""Pairs of edge and orientation whose gradients are led back to offsets and axes at a time."""

KERNELS = {
    "convolve": kernels._convolve_kernel,
    "stage": triton_gradients._stage_kernel,
    "second": triton_gradients._second_kernel,
    "third": triton_gradients._third_kernel,
    "first": triton_gradients._first_kernel,
}
_SUMS = {"second": ("w2", "b2"), "third": ("w3",), "first": ("w1", "b1")}
"""What the kernels sum over rows."""


def convolve(arguments: Arguments) -> Tensor:
    """Return the sums of the messages into each target."""
    y = arguments.x.new_empty(len(arguments.starts) - 1, *arguments.x.shape[1:])
    convolve_into(y, arguments, arguments.x, reverse=False)
    return y


def differentiate(
    grad_y: Tensor, arguments: Arguments, wants: Sequence[bool]
) -> tuple[Tensor, ...]:
    """Return the gradients by the first nine arguments, those that are not wanted empty."""
    found = [getattr(arguments, name).new_empty(0) for name in Arguments._fields[: len(wants)]]
    if wants[0]:
        found[0] = torch.empty_like(arguments.x)
        convolve_into(found[0], arguments, grad_y, reverse=True)
    if any(wants[1:]):
        parts = empty_parts(arguments, wants)
        gradients_into(parts, grad_y, arguments)
        found[1:4] = _by_geometry(parts, arguments, wants[1:4])
        for index, name in enumerate(("w1", "b1", "w2", "b2", "w3"), 4):
            if wants[index]:
                found[index] = parts[name].sum(0)
    return tuple(found)


def whynot(arguments: Arguments) -> str:
    """Return why the kernels cannot run, or nothing."""
    shape = configurations.shape_of(arguments)
    inputs, dtype = shape.features + shape.scalars, arguments.x.dtype
    if inputs > (most := configurations.largest_inputs(dtype)):
        return f"its tiles hold {most} monomials and scalars in {str(dtype)[6:]}, not {inputs}"
    if not min(shape.hidden, shape.basis):
        return "it wants layers that are not empty"
    return ""


def convolve_into(y: Tensor, arguments: Arguments, x: Tensor, reverse: bool) -> None:
    """Write the sums of messages: from x into targets, or in reverse from x back into sources."""
    if not y.numel():
        return
    shape = configurations.shape_of(arguments)
    chip = configurations.chip_of(x.device)
    constants, options = configurations.constants("convolve", shape, x.dtype, chip)
    # As many receivers together as there are totals for, but enough programs to fill a GPU.
    group = min(constants["TOTALS"] // constants["TOGETHER"], -(-2 * len(y) // PROGRAMS))
    grid = (
        -(-len(y) // group),
        -(-shape.orientations // constants["TOGETHER"]),
        -(-shape.channels // constants["BC"]),
    )
    tensors = (x, y, *arguments[1:14], *_or_none(arguments[14:16]))
    constants = constants | {"REVERSED": reverse}
    with torch.cuda.device_of(x):
        kernel = runnable(KERNELS["convolve"], x)
        kernel[grid](*tensors, len(y), group, **constants, **options)


def empty_parts(arguments: Arguments, wants: Sequence[bool]) -> dict[str, Tensor]:
    """Return memory for staged values, for parts of sums, zeros, and for what belongs to rows."""
    a, shape = arguments, configurations.shape_of(arguments)
    tiles = configurations.tiles(shape, a.x.dtype, configurations.chip_of(a.x.device))
    rows = len(a.source) * shape.orientations
    block = min(rows, max(64, STAGED_BYTES // (2 * shape.basis * a.w3.element_size())))
    parts = {"staged": a.w3.new_empty(block, shape.basis)}
    parts["by_staged"] = torch.empty_like(parts["staged"])
    hidden = -(-shape.hidden // tiles["first"].hidden)
    if any(wants[1:4]):
        parts["by_row"] = a.w1.new_empty(rows, hidden, shape.values + shape.scalars)
    if wants[1] and not isinf(a.radius):
        parts["by_window"] = a.w1.new_empty(rows, -(-shape.basis // tiles["stage"].basis))
    wanted = {"first": any(wants[1:6]), "second": any(wants[6:8]), "third": wants[8]}
    for kernel, names in _SUMS.items():
        if wanted[kernel]:
            across = _programs_across(kernel, shape, tiles[kernel])
            tall = -(-block // tiles[kernel].rows)
            programs = min(tall, max(1, PROGRAMS // (across[0] * across[1])))
            for name in names:
                parts[name] = a.w1.new_zeros(programs, *getattr(a, name).shape)
    return parts


def gradients_into(parts: dict[str, Tensor], grad_y: Tensor, arguments: Arguments) -> None:
    """Write what belongs to rows, and add to the parts of sums; see :func:`empty_parts`."""
    shape = configurations.shape_of(arguments)
    operands = _operands(parts, grad_y, arguments)
    rows, block = len(arguments.source) * shape.orientations, len(parts["staged"])
    for begin in range(0, rows, block):
        end = min(begin + block, rows)
        for kernel in ("stage", *_SUMS):
            if kernel == "stage" or _SUMS[kernel][0] in parts:
                _launch_on_rows(kernel, operands | {"begin": begin, "end": end}, shape)


def _operands(
    parts: dict[str, Tensor], grad_y: Tensor, arguments: Arguments
) -> dict[str, Tensor | int | None]:
    """Return the arguments of the kernels of the gradients by name."""
    a = arguments
    frame, opposite = _or_none(a[14:16])
    found: dict[str, Tensor | int | None] = dict(zip(a._fields[:11], a[:11], strict=True))
    found |= {"grad": grad_y, "frame": frame, "opposite": opposite}
    found |= {f"{name}t": getattr(a, name).mT.contiguous() for name in ("w1", "w2", "w3")}
    found |= {name: parts.get(name) for name in ("staged", "by_staged", "by_row", "by_window")}
    return found | {f"d{name}": parts.get(name) for names in _SUMS.values() for name in names}


def _launch_on_rows(kernel: str, operands: dict[str, Any], shape: configurations.Shape) -> None:
    """Launch a kernel of the gradients on rows from ``begin`` to ``end``."""
    x, function = operands["x"], KERNELS[kernel]
    how = (kernel, shape, x.dtype, configurations.chip_of(x.device))
    constants, options = configurations.constants(*how)
    programs = -(-(operands["end"] - operands["begin"]) // constants["ROWS"])
    if kernel in _SUMS:
        most = len(operands[f"d{_SUMS[kernel][0]}"])
        operands = operands | {"tiles": -(-programs // most)}
        programs = most
    given = {name: operands[name] for name in function.arg_names if name in operands}
    grid = (programs, *_programs_across(kernel, shape, configurations.tile(*how)))
    with torch.cuda.device_of(x):
        runnable(function, x)[grid](**given, **constants, **options)


def _programs_across(
    kernel: str, shape: configurations.Shape, tile: configurations.Tile
) -> tuple[int, int]:
    """Return the number of programs along both axes of what a kernel of the gradients makes."""
    hidden, basis = -(-shape.hidden // tile.hidden), -(-shape.basis // tile.basis)
    channels = -(-shape.channels // tile.channels)
    return {
        "stage": (basis, 1),
        "first": (hidden, 1),
        "second": (basis, hidden),
        "third": (channels, basis),
    }[kernel]


def _by_geometry(
    parts: dict[str, Tensor], arguments: Arguments, wants: Sequence[bool]
) -> list[Tensor]:
    """Lead gradients by the attributes of rows back to offsets, axes and scalars."""
    a, found = arguments, [tensor.new_empty(0) for tensor in arguments[1:4]]
    if not any(wants):
        return found
    by_row = parts["by_row"].sum(1).unflatten(0, (-1, a.axes.shape[1]))
    count = by_row.shape[2] - a.scalars.shape[1]
    if wants[2]:
        found[2] = by_row[..., count:].sum(1)
    if not (wants[0] or wants[1]):
        return found
    by_offsets, by_axes = torch.empty_like(a.offsets), torch.zeros_like(a.axes)
    step = max(1, ROWS_OF_GEOMETRY // a.axes.shape[1])
    for begin in range(0, len(by_row), step):
        piece = slice(begin, begin + step)
        offsets, frame = a.offsets[piece], a.frame[piece]
        axes = a.axes.index_select(0, frame) if len(frame) else a.axes[:1]
        by_offsets[piece], part = attributes.evaluate_transposed(
            by_row[piece, :, :count], offsets, axes, a.attributes, a.softening
        )
        if len(frame):
            by_axes.index_add_(0, frame, part)
        else:
            by_axes[0] += part.sum(0)
    if "by_window" in parts:
        slope = duals.window_slope((a.offsets / a.radius).square().sum(-1, keepdim=True))
        by_window = parts["by_window"].view(len(a.source), -1).sum(1, keepdim=True)
        by_offsets += by_window * slope * a.offsets * (2 / a.radius**2)
    found[0] = by_offsets if wants[0] else found[0]
    found[1] = by_axes if wants[1] else found[1]
    return found


def _or_none(tensors: Sequence[Tensor]) -> list[Tensor | None]:
    return [tensor if len(tensor) else None for tensor in tensors]
