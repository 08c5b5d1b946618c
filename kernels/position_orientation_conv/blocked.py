"""Torch, some edges at a time: their layers stay in the cache, and nothing of them is kept."""

from collections.abc import Iterator, Sequence
from math import isinf, prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eqlib.kernels.position_orientation_conv import attributes, duals
from eqlib.kernels.position_orientation_conv.arguments import Arguments

# Bytes of the widest layer of the edges that are worked on at a time. On a CPU it and a few more
# should stay in the cache of a core; a GPU wants few launches.
BLOCK_BYTES = {"cpu": 2**20, "cuda": 2**26}

_aten: Any = torch.ops.aten


class _Way(NamedTuple):
    """Where messages come from and go to, and the edges that send any, 0 or 1."""

    leaves: Tensor
    enters: Tensor
    share: Tensor | None = None
    turned: Tensor | None = None
    """Orientation of the kernel that serves each, where it is another."""


class _Layers(NamedTuple):
    """The kernel network on some edges, in rows of one edge and orientation."""

    attributes: list[Tensor]
    inputs: Tensor
    """Transposed: (width, rows)."""
    first: Tensor
    hidden: Tensor
    second: Tensor
    active: Tensor
    square: Tensor | None
    """Squared length of the offsets over that of the radius, (edges,), where there is one."""


class _Buffers:
    """Memory that every block uses again: new pages cost as much as the arithmetic."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._flat: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Return memory of this name; what is asked for first is the largest."""
        count = prod(shape)
        if name not in self._flat:
            self._flat[name] = self._like.new_empty(count)
        return self._flat[name][:count].view(shape)


def convolve(arguments: Arguments) -> Tensor:
    """Sum the messages into each target."""
    buffers = _Buffers(arguments.w3)
    x = arguments.x.to(arguments.w3.dtype)
    y = x.new_zeros(len(arguments.starts) - 1, *x.shape[1:])
    for _, some in _blocks(arguments):
        layers = _evaluate(some, buffers, keep=False)
        filters = _filters(layers, some, buffers)
        _scale(filters, layers.square)
        for way in _ways(some):
            _send(y, x, filters, way, buffers)
    return y.to(arguments.x.dtype)


def differentiate(
    grad_y: Tensor, arguments: Arguments, wants: Sequence[bool]
) -> tuple[Tensor, ...]:
    """Return the wanted gradients, and empty tensors; all layers are computed again."""
    dtype = arguments.w3.dtype
    buffers = _Buffers(arguments.w3)
    x, grad_y = arguments.x.to(dtype), grad_y.to(dtype)
    found = [
        torch.zeros_like(part, dtype=dtype) if wish else part.new_empty(0)
        for part, wish in zip(arguments.differentiable, wants, strict=True)
    ]
    for block, some in _blocks(arguments):
        layers = _evaluate(some, buffers, keep=True)
        filters = _filters(layers, some, buffers)
        if any(wants[1:]):
            by_filters = _by_filters(x, grad_y, some, buffers)
            if wants[1] and layers.square is not None:
                by_window = torch.bmm(by_filters.flatten(1)[:, None], filters.flatten(1)[..., None])
                by_square = by_window.flatten() * duals.window_slope(layers.square)
                found[1][block] += by_square[:, None] * some.offsets * (2 / some.radius**2)
            _scale(by_filters, layers.square)
            _differentiate_network(found, wants, by_filters, layers, block, some, buffers)
        if wants[0]:
            _scale(filters, layers.square)
            for way in _ways(some):
                back = way._replace(leaves=way.enters, enters=way.leaves)
                _send(found[0], grad_y, filters, back, buffers)
    return (found[0].to(arguments.x.dtype) if wants[0] else found[0], *found[1:])


def _blocks(a: Arguments) -> Iterator[tuple[slice, Arguments]]:
    """Yield which edges to take at a time, and the arguments with these alone."""
    widest = max(*a.w1.shape, *a.w3.shape)
    budget = BLOCK_BYTES["cpu" if a.x.device.type == "cpu" else "cuda"]
    size = max(1, budget // (a.x.shape[1] * widest * a.w3.element_size()))
    for start in range(0, len(a.source), size):
        block = slice(start, start + size)
        some = a._replace(
            offsets=a.offsets[block],
            scalars=a.scalars[block],
            source=a.source[block],
            target=a.target[block],
            frame=a.frame[block],
        )
        yield block, some


def _ways(some: Arguments) -> Iterator[_Way]:
    yield _Way(some.source, some.target)
    if len(some.opposite):
        share = (some.source != some.target).to(some.w3.dtype)[:, None, None]
        yield _Way(some.target, some.source, share, some.opposite)


def _axes(some: Arguments) -> Tensor:
    return some.axes.index_select(0, some.frame) if len(some.frame) else some.axes[:1]


def _evaluate(some: Arguments, buffers: _Buffers, keep: bool) -> _Layers:
    """Evaluate the network up to its last hidden layer; keep what a gradient needs."""
    edges, orientations = len(some.source), some.x.shape[1]
    rows, width = edges * orientations, some.w1.shape[1]
    values = attributes.evaluate(some.offsets, _axes(some), some.attributes, some.softening)
    monomials = attributes.monomials(values, some.degree)
    inputs = buffers("inputs", width, edges, orientations)
    if monomials:
        torch.stack(monomials, out=inputs[: len(monomials)])
    inputs[len(monomials) :] = some.scalars.mT[..., None]
    inputs = inputs.flatten(1)
    first = buffers("first", rows, len(some.b1))
    second = buffers("second", rows, len(some.b2))
    hidden = buffers("hidden", *first.shape) if keep else first
    active = buffers("active", *second.shape) if keep else second
    torch.addmm(some.b1, inputs.mT, some.w1.mT, out=first)
    _aten.gelu.out(first, out=hidden)
    torch.addmm(some.b2, hidden, some.w2.mT, out=second)
    _aten.gelu.out(second, out=active)
    square = None if isinf(some.radius) else (some.offsets / some.radius).square().sum(-1)
    return _Layers(values, inputs, first, hidden, second, active, square)


def _filters(layers: _Layers, some: Arguments, buffers: _Buffers) -> Tensor:
    """Return the kernel without its window, (edges, orientations, channels)."""
    filters = buffers("filters", len(some.source), *some.x.shape[1:])
    torch.mm(layers.active, some.w3.mT, out=filters.flatten(0, 1))
    return filters


def _scale(rows: Tensor, square: Tensor | None) -> None:
    if square is not None:
        rows.mul_(duals.window(square)[:, None, None])


def _send(y: Tensor, x: Tensor, filters: Tensor, way: _Way, buffers: _Buffers) -> None:
    """Add messages to where they go."""
    messages = buffers("messages", *filters.shape)
    torch.index_select(x, 0, way.leaves, out=messages)
    if way.turned is not None:
        turned = buffers("turned", *filters.shape)
        filters = torch.index_select(filters, 1, way.turned, out=turned)
    if way.share is not None:
        messages.mul_(way.share)
    y.index_add_(0, way.enters, messages.mul_(filters))


def _by_filters(x: Tensor, grad_y: Tensor, some: Arguments, buffers: _Buffers) -> Tensor:
    """Return the gradient by the kernel with its window."""
    shape = (len(some.source), *x.shape[1:])
    by_filters, messages = buffers("by_filters", *shape), buffers("messages", *shape)
    for way in reversed(list(_ways(some))):
        torch.index_select(x, 0, way.leaves, out=messages)
        gathered = buffers("turned", *shape)
        torch.index_select(grad_y, 0, way.enters, out=gathered)
        if way.turned is not None and way.share is not None:
            messages.mul_(gathered).mul_(way.share)
            torch.index_select(messages, 1, way.turned, out=by_filters)
        elif len(some.opposite):
            by_filters.addcmul_(messages, gathered)
        else:
            torch.mul(messages, gathered, out=by_filters)
    return by_filters


def _differentiate_network(
    found: Sequence[Tensor],
    wants: Sequence[bool],
    by_filters: Tensor,
    layers: _Layers,
    block: slice,
    some: Arguments,
    buffers: _Buffers,
) -> None:
    """Add to the gradients of weights, and write those of the edges."""
    rows = by_filters.flatten(0, 1)
    if wants[8]:
        found[8].addmm_(rows.mT, layers.active)
    if not any(wants[1:8]):
        return
    by_second = torch.mm(rows, some.w3, out=buffers("by_second", *layers.second.shape))
    _aten.gelu_backward.grad_input(by_second, layers.second, grad_input=by_second)
    _add_linear(found[6:8], wants[6:8], by_second, layers.hidden)
    if not any(wants[1:6]):
        return
    by_first = torch.mm(by_second, some.w2, out=buffers("by_first", *layers.first.shape))
    _aten.gelu_backward.grad_input(by_first, layers.first, grad_input=by_first)
    _add_linear(found[4:6], wants[4:6], by_first, layers.inputs.mT)
    if any(wants[1:4]):
        by_inputs = torch.mm(
            some.w1.mT, by_first.mT, out=buffers("by_inputs", *layers.inputs.shape)
        )
        by_inputs = by_inputs.unflatten(1, by_filters.shape[:2])
        _differentiate_inputs(found, wants, by_inputs, layers, block, some)


def _differentiate_inputs(
    found: Sequence[Tensor],
    wants: Sequence[bool],
    by_inputs: Tensor,
    layers: _Layers,
    block: slice,
    some: Arguments,
) -> None:
    count = len(by_inputs) - some.scalars.shape[1]
    if wants[3]:
        found[3][block] = by_inputs[count:].sum(-1).mT
    if not (count and (wants[1] or wants[2])):
        return
    grads = attributes.monomials_transposed(
        by_inputs[:count].unbind(), layers.attributes, some.degree
    )
    by_offsets, by_axes = attributes.evaluate_transposed(
        torch.stack(grads, -1), some.offsets, _axes(some), some.attributes, some.softening
    )
    if wants[1]:
        found[1][block] += by_offsets
    if wants[2] and len(some.frame):
        found[2].index_add_(0, some.frame, by_axes)
    elif wants[2]:
        found[2][0] += by_axes.sum(0)


def _add_linear(
    found: Sequence[Tensor], wants: Sequence[bool], grad: Tensor, inputs: Tensor
) -> None:
    weight, bias = found
    if wants[0]:
        weight.addmm_(grad.mT, inputs)
    if wants[1]:
        bias.add_(grad.sum(0))
