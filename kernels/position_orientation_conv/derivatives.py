"""Gradients of the convolution, and the derivatives of those gradients, some edges at a time.

The gradient of an inner product of seeds and gradients is the derivative of those gradients along
the seeds: formulas on tensors with tangents give both, and hold no graph of operations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf

import torch
from torch import Tensor

from eqlib.kernels.position_orientation_conv import attributes, duals
from eqlib.kernels.position_orientation_conv.arguments import DIFFERENTIABLE, Arguments
from eqlib.kernels.position_orientation_conv.duals import Dual

# Bytes of one layer of the kernel network for the edges that are worked on at a time.
BLOCK_BYTES = {"cpu": 2**18, "cuda": 2**27}


@dataclass(frozen=True)
class _Edges:
    """Operands of some edges."""

    x: list[Dual]
    """Features where messages come from, (edges, orientations, channels), ahead and back."""
    grad_y: list[Dual]
    """Gradient where messages go to, likewise."""
    offsets: Dual
    axes: Dual
    scalars: Dual
    w1: Dual
    b1: Dual
    w2: Dual
    b2: Dual
    w3: Dual


@dataclass(frozen=True)
class _Layers:
    """Values of the kernel network, (edges, orientations, ...)."""

    attributes: list[Dual]
    inputs: Dual
    first: Dual
    hidden: Dual
    second: Dual
    active: Dual
    square: Dual | None
    """Squared length of the offset over that of the radius, (edges,)."""
    window: Dual | None
    basis: Dual


def differentiate(
    grad_y: Tensor, arguments: Arguments, wants: Sequence[bool]
) -> tuple[Tensor, ...]:
    """Return the wanted gradients, and empty tensors, with all edges in memory at once."""
    constants = [None] * DIFFERENTIABLE
    return _sweep(grad_y, arguments, constants, [False, *wants], len(arguments.source))[1:]


def differentiate_twice(
    seeds: Sequence[Tensor | None], grad_y: Tensor, arguments: Arguments, wants: Sequence[bool]
) -> tuple[Tensor, ...]:
    """Differentiate the inner product of seeds and gradients.

    Args:
        seeds: one per gradient, None for zero.
        grad_y: gradient of the result of the convolution.
        arguments: of the convolution.
        wants: of ``grad_y`` and the differentiable arguments, which derivatives to compute; the
            others are empty.
    """
    widest = max(*arguments.w1.shape, *arguments.w3.shape, 1)
    device = "cpu" if grad_y.device.type == "cpu" else "cuda"
    row = arguments.x.shape[1] * widest * arguments.w3.element_size()
    return _sweep(grad_y, arguments, seeds, wants, max(1, BLOCK_BYTES[device] // max(row, 1)))


def _sweep(
    grad_y: Tensor,
    arguments: Arguments,
    seeds: Sequence[Tensor | None],
    wants: Sequence[bool],
    size: int,
) -> tuple[Tensor, ...]:
    """Add up what blocks of edges give: values or, with seeds, tangents."""
    second = any(seed is not None for seed in seeds)
    names = ("grad_y", *Arguments._fields[:DIFFERENTIABLE])
    wanted = [name for name, wish in zip(names, wants, strict=True) if wish]
    dtype = arguments.w3.dtype
    operands = {"grad_y": grad_y} | dict(zip(names[1:], arguments.differentiable, strict=True))
    totals = {name: torch.zeros_like(operands[name], dtype=dtype) for name in wanted}
    primal = arguments._replace(x=arguments.x.to(dtype))
    for start in range(0, len(arguments.source), max(size, 1)):
        block = slice(start, start + size)
        edges = _gather(grad_y.to(dtype), primal, seeds, block)
        found = _pull(edges, _evaluate(edges, arguments), arguments, wanted)
        for name in wanted:
            for way, dual in enumerate(found[name]):
                part = dual.tangent if second else dual.value
                if part is not None:
                    _add(totals[name], name, part, arguments, block, way)
    return tuple(
        totals[name] if name in wanted else operands[name].new_empty(0, dtype=dtype)
        for name in names
    )


def _gather(
    grad_y: Tensor, arguments: Arguments, seeds: Sequence[Tensor | None], block: slice
) -> _Edges:
    source, target = arguments.source[block], arguments.target[block]
    operands = [Dual(*pair) for pair in zip(arguments.differentiable, seeds, strict=True)]
    x, offsets, axes, scalars, *network = operands
    frame = arguments.frame[block]
    g = Dual(grad_y)
    ways_x, ways_g = [x.index_select(0, source)], [g.index_select(0, target)]
    if len(arguments.opposite):
        # The kernel of orientation o serves the way back at the opposite one.
        back = Dual((source != target).to(grad_y.dtype)[:, None, None])
        ways_x.append(x.index_select(0, target).index_select(1, arguments.opposite) * back)
        ways_g.append(g.index_select(0, source).index_select(1, arguments.opposite) * back)
    return _Edges(
        ways_x,
        ways_g,
        offsets[block],
        axes.index_select(0, frame) if len(frame) else axes[:1],
        scalars[block],
        *network,
    )


def _evaluate(edges: _Edges, arguments: Arguments) -> _Layers:
    values = attributes.evaluate(
        edges.offsets, edges.axes, arguments.attributes, arguments.softening
    )
    inputs = edges.scalars[:, None].expand(-1, edges.axes.shape[1], -1)
    if monomials := attributes.monomials(values, arguments.degree):
        inputs = duals.concatenate([duals.stack(monomials), inputs])
    first = inputs @ edges.w1.mT + edges.b1
    hidden = duals.gelu(first)
    second = hidden @ edges.w2.mT + edges.b2
    active = duals.gelu(second)
    if isinf(arguments.radius):
        return _Layers(values, inputs, first, hidden, second, active, None, None, active)
    reduced = edges.offsets * (1 / arguments.radius)
    square = (reduced * reduced).sum(-1)
    window = duals.window(square)[:, None, None]
    return _Layers(values, inputs, first, hidden, second, active, square, window, active * window)


def _pull(
    edges: _Edges, layers: _Layers, arguments: Arguments, wanted: Sequence[str]
) -> dict[str, list[Dual]]:
    """Return messages (for ``grad_y``) and gradients of the rows of these edges."""
    found: dict[str, list[Dual]] = {}
    if "grad_y" in wanted or "x" in wanted:
        filters = layers.basis @ edges.w3.mT
        found["grad_y"] = [filters * x for x in edges.x] if "grad_y" in wanted else []
        found["x"] = [filters * grad_y for grad_y in edges.grad_y] if "x" in wanted else []
    if set(wanted) <= {"grad_y", "x"}:
        return found
    products = [x * grad_y for x, grad_y in zip(edges.x, edges.grad_y, strict=True)]
    by_filters = products[0] + products[1] if len(products) > 1 else products[0]
    if "w3" in wanted:
        found["w3"] = [_outer(by_filters, layers.basis)]
    if set(wanted) <= {"grad_y", "x", "w3"}:
        return found
    by_basis = by_filters @ edges.w3
    by_active = by_basis if layers.window is None else by_basis * layers.window
    by_second = duals.gelu_transposed(by_active, layers.second)
    by_first = duals.gelu_transposed(by_second @ edges.w2, layers.first)
    for index, grad, inputs in (("2", by_second, layers.hidden), ("1", by_first, layers.inputs)):
        if f"w{index}" in wanted:
            found[f"w{index}"] = [_outer(grad, inputs)]
        if f"b{index}" in wanted:
            found[f"b{index}"] = [grad.sum((0, 1))]
    if {"offsets", "axes", "scalars"} & set(wanted):
        inner = _pull_inputs(by_first @ edges.w1, by_basis, edges, layers, arguments)
        found |= {name: [grad] for name, grad in inner.items()}
    return found


def _pull_inputs(
    by_inputs: Dual, by_basis: Dual, edges: _Edges, layers: _Layers, arguments: Arguments
) -> dict[str, Dual]:
    count = by_inputs.shape[-1] - edges.scalars.shape[-1]
    by_scalars, zero = by_inputs[..., count:].sum(1), Dual(torch.zeros_like(edges.axes.value))
    by_offsets, by_axes = edges.offsets * 0.0, zero
    if count:
        grads = [by_inputs[..., i] for i in range(count)]
        by_values = attributes.monomials_transposed(grads, layers.attributes, arguments.degree)
        by_offsets, by_axes = attributes.evaluate_transposed(
            duals.stack(by_values),
            edges.offsets,
            edges.axes,
            arguments.attributes,
            arguments.softening,
        )
    if layers.square is not None:
        by_square = (by_basis * layers.active).sum((1, 2)) * duals.window_slope(layers.square)
        slope = edges.offsets * (2 / arguments.radius**2)
        by_offsets = by_offsets + by_square[:, None] * slope
    return {"offsets": by_offsets, "axes": by_axes, "scalars": by_scalars}


def _outer(a: Dual, b: Dual) -> Dual:
    """Sum outer products over edges and orientations."""
    return a.flatten(0, 1).mT @ b.flatten(0, 1)


def _add(
    total: Tensor, name: str, part: Tensor, arguments: Arguments, block: slice, way: int
) -> None:
    """Add what some edges give, ahead or on the way back, to the sum of one derivative."""
    if name in ("offsets", "scalars"):
        total[block] = part
    elif name == "axes":
        frame = arguments.frame[block]
        if len(frame):
            total.index_add_(0, frame, part)
        else:
            total[0] += part.sum(0)
    elif name in ("grad_y", "x"):
        # Messages ahead end at targets and their gradients at sources; on the way back not so.
        node = arguments.target if (name == "grad_y") == (way == 0) else arguments.source
        if way:
            part = part.index_select(1, arguments.opposite)
        total.index_add_(0, node[block], part)
    else:
        total += part
