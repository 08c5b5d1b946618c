r"""The operation ``eqlib::position_orientation_conv``, its gradient, and the gradient of that.

Contract of the implementations, all of which have these two functions::

    convolve(arguments) -> y
    differentiate(grad_y, arguments, wants) -> (by_x, by_offsets, ..., by_w3)

* x and grad_y are float64, float32, bfloat16 or float16. All other real tensors have the dtype to
  compute in: that of x, at least float32. All tensors are contiguous.
* There are edges, orientations, channels, and units in both hidden layers; there may be no
  axes, scalars or columns of ``w1``.
* Indices are right: ``target`` ascends; ``starts``, ``by_source`` and ``source_starts`` fit;
  ``opposite`` is its own inverse. On CUDA devices nobody has looked.
* y is in the dtype of x, and so is the gradient by x; the others have the dtype to compute in.
  A gradient that is not wanted is an empty tensor. Results are new contiguous tensors.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp

from eqlib.kernels.autocast import without_autocast
from eqlib.kernels.operation import operation
from eqlib.kernels.position_orientation_conv import derivatives
from eqlib.kernels.position_orientation_conv.arguments import DIFFERENTIABLE, Arguments
from eqlib.kernels.position_orientation_conv.checks import check
from eqlib.kernels.position_orientation_conv.implementations import load

_INPUTS = (
    "Tensor x, Tensor offsets, Tensor axes, Tensor scalars, Tensor w1, Tensor b1, Tensor w2, "
    "Tensor b2, Tensor w3, Tensor source, Tensor target, Tensor starts, Tensor by_source, "
    "Tensor source_starts, Tensor frame, Tensor opposite, str attributes, int degree, "
    "float softening, float radius, str implementation"
)
_COUNT = len(Arguments._fields) + 1


def _returns(count: int) -> str:
    return f"({', '.join(['Tensor'] * count)})"


@operation("eqlib::position_orientation_conv", f"({_INPUTS}) -> Tensor")
def position_orientation_conv(*inputs: Any) -> Tensor:
    r"""Convolve with a kernel that a small network gives for every edge and orientation.

    .. math::
        y_{i o c} = \sum_{e:\,t_e = i} K_{e o c}\, x_{s_e o c}, \qquad
        K = W_3\, w(|r|)\, \mathrm{GELU}(W_2\, \mathrm{GELU}(W_1 [\varphi(a); s] + b_1) + b_2)

    with the monomials :math:`\varphi` of the attributes a of ``attributes.py``, and the window
    :math:`w = 1 - 28u^6 + 48u^7 - 21u^8` of :math:`u = |r| / R < 1`, else 0.

    Args:
        *inputs: in this order,

            * x: features of the sources, (sources, orientations, channels)
            * offsets: r, position of the source minus that of the target, (edges, n)
            * axes: A of each orientation, (frames, orientations, m, n)
            * scalars: s, further inputs of the network, (edges, any number)
            * w1, b1, w2, b2: (hidden, monomials + scalars), (hidden,), (basis, hidden), (basis,)
            * w3: (channels, basis)
            * source, target: nodes that each edge leaves and enters; targets ascend
            * starts: where the edges of each target begin, and their number, (targets + 1,)
            * by_source: the edges, sorted stably by source
            * source_starts: where those of each source begin, and their number, (sources + 1,)
            * frame: row of ``axes`` of each edge; empty: the first
            * opposite: empty, or the opposite of each orientation: then an edge also carries the
              message from its target to its source, with the kernel of the opposite orientation,
              unless both are one node
            * attributes: "axes", "perpendicular" or "distance"
            * degree: the highest of the monomials
            * softening: below it the soft length is quadratic, in the unit of the offsets
            * radius: R, in the unit of the offsets; infinite: no window
            * implementation: "auto" or one of ``NAMES``

    Returns:
        (targets, orientations, channels), in the dtype of ``x``.

    Raises:
        ValueError: shapes or indices do not fit, or there is no such implementation.
        TypeError: a tensor has another dtype than its kind may have.
    """
    arguments = _prepare(inputs[:-1])
    how = load(inputs[-1], arguments)
    if not (arguments.x.numel() and len(arguments.source)):
        return arguments.x.new_zeros(_shape(inputs))
    with without_autocast(arguments.x.device.type):
        return how.convolve(arguments)


@operation(
    "eqlib::position_orientation_conv_backward",
    f"(Tensor grad_y, {_INPUTS}, bool[] wants) -> {_returns(DIFFERENTIABLE)}",
)
def position_orientation_conv_backward(grad_y: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    """Return the gradients of the convolution.

    Args:
        grad_y: gradient of its result.
        *inputs: those of :func:`position_orientation_conv`, then ``wants``, a list that says by
            which of the first nine to differentiate.

    Returns:
        Nine tensors in the shapes and dtypes of these, empty where not wanted.
    """
    inputs, wants = inputs[:-1], inputs[-1]
    arguments = _prepare(inputs[:-1])
    how = load(inputs[-1], arguments)
    _check_gradient(grad_y, inputs)
    if not (arguments.x.numel() and len(arguments.source)):
        return tuple(_zeros(inputs[:DIFFERENTIABLE], wants))
    with without_autocast(grad_y.device.type):
        found = how.differentiate(grad_y.to(arguments.x.dtype).contiguous(), arguments, wants)
    return tuple(part.to(like.dtype) for part, like in zip(found, inputs, strict=False))


@operation(
    "eqlib::position_orientation_conv_double_backward",
    f"(Tensor[] seeds, Tensor grad_y, {_INPUTS}, bool[] wants) -> {_returns(1 + DIFFERENTIABLE)}",
)
def position_orientation_conv_double_backward(
    seeds: list[Tensor], grad_y: Tensor, *inputs: Any
) -> tuple[Tensor, ...]:
    """Differentiate the inner product of seeds and gradients by what gave the gradients.

    Args:
        seeds: one for each gradient, or empty for zero.
        grad_y: as in :func:`position_orientation_conv_backward`.
        *inputs: those of :func:`position_orientation_conv`, then which derivatives are wanted: by
            ``grad_y`` and the first nine.
    """
    inputs, wants = inputs[:-1], inputs[-1]
    arguments = _prepare(inputs[:-1])
    dtype = arguments.w3.dtype
    operands = (grad_y, *inputs[:DIFFERENTIABLE])
    tangents = [seed.to(dtype) if seed.numel() else None for seed in seeds]
    if not (arguments.x.numel() and len(arguments.source)) or not any(
        tangent is not None for tangent in tangents
    ):
        return tuple(_zeros(operands, wants))
    with without_autocast(grad_y.device.type):
        found = derivatives.differentiate_twice(tangents, grad_y.to(dtype), arguments, wants)
    return tuple(part.to(like.dtype) for part, like in zip(found, operands, strict=True))


@position_orientation_conv.register_fake
def _(*inputs: Any) -> Tensor:
    return inputs[0].new_empty(_shape(inputs))


@position_orientation_conv_backward.register_fake
def _(grad_y: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return tuple(_empty(inputs[:DIFFERENTIABLE], inputs[-1]))


@position_orientation_conv_double_backward.register_fake
def _(seeds: list[Tensor], grad_y: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return tuple(_empty((grad_y, *inputs[:DIFFERENTIABLE]), inputs[-1]))


@position_orientation_conv_backward.register_definition
def _(grad_y: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    *given, _, wants = inputs

    def convolve(*tensors: Tensor) -> Tensor:
        y: Tensor = position_orientation_conv.body(*tensors, *given[DIFFERENTIABLE:], "naive")
        return y

    found = vjp(convolve, *given[:DIFFERENTIABLE])[1](grad_y)
    return _wanted(found, wants)


@position_orientation_conv_double_backward.register_definition
def _(seeds: list[Tensor], grad_y: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    *given, wants = inputs
    computed = [seed.numel() > 0 for seed in seeds]

    def differentiate(grad_y: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        rest = given[DIFFERENTIABLE:]
        found: tuple[Tensor, ...] = position_orientation_conv_backward.definition(
            grad_y, *tensors, *rest, computed
        )
        return found

    found = vjp(differentiate, grad_y, *given[:DIFFERENTIABLE])[1](tuple(seeds))
    return _wanted(found, wants)


def _prepare(inputs: Sequence[Any]) -> Arguments:
    """Check what came, and bring it to the dtypes and layout that implementations expect."""
    arguments = Arguments(*inputs)
    check(arguments)
    dtype = torch.promote_types(arguments.x.dtype, torch.float32)
    parts: list[Any] = [part.to(dtype).contiguous() for part in arguments.differentiable[1:]]
    parts += [p.contiguous() if isinstance(p, Tensor) else p for p in arguments[DIFFERENTIABLE:]]
    return Arguments(arguments.x.contiguous(), *parts)


def _shape(inputs: Sequence[Any]) -> tuple[int, ...]:
    x, starts = inputs[0], inputs[Arguments._fields.index("starts")]
    return (starts.shape[0] - 1, *x.shape[1:])


def _check_gradient(grad_y: Tensor, inputs: Sequence[Any]) -> None:
    if grad_y.shape != _shape(inputs):
        raise ValueError(
            f"grad_y: expected the shape of the result, {_shape(inputs)}, got {tuple(grad_y.shape)}"
        )


def _empty(tensors: Sequence[Tensor], wants: Sequence[bool]) -> list[Tensor]:
    pairs = zip(tensors, wants, strict=True)
    return [like.new_empty(like.shape if wish else 0) for like, wish in pairs]


def _zeros(tensors: Sequence[Tensor], wants: Sequence[bool]) -> list[Tensor]:
    return [part.zero_() for part in _empty(tensors, wants)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Save the tensors; the rest are settings."""
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*[part for part in inputs if isinstance(part, Tensor)])
    ctx.settings = [part for part in inputs if not isinstance(part, Tensor)]


def _backward(ctx: Any, grad_y: Tensor | None) -> tuple[Tensor | None, ...]:
    wants = list(ctx.needs_input_grad[:DIFFERENTIABLE])
    if grad_y is None or not any(wants):
        return (None,) * _COUNT
    found = position_orientation_conv_backward(grad_y, *ctx.saved_tensors, *ctx.settings, wants)
    return _fill(found, wants, _COUNT)


def _backward_twice(ctx: Any, *seeds: Tensor | None) -> tuple[Tensor | None, ...]:
    wants = list(ctx.needs_input_grad[: 1 + DIFFERENTIABLE])
    *settings, computed = ctx.settings
    grad_y, *tensors = ctx.saved_tensors
    if not any(wants) or all(seed is None for seed in seeds):
        return (None,) * (_COUNT + 2)
    given = [
        grad_y.new_empty(0) if seed is None or not known else seed
        for seed, known in zip(seeds, computed, strict=True)
    ]
    found = position_orientation_conv_double_backward(given, grad_y, *tensors, *settings, wants)
    return _fill(found, wants, _COUNT + 2)


def _wanted(found: Sequence[Tensor], wants: Sequence[bool]) -> tuple[Tensor, ...]:
    pairs = zip(found, wants, strict=True)
    return tuple(part if wish else part.new_empty(0) for part, wish in pairs)


def _fill(found: Sequence[Tensor], wants: Sequence[bool], count: int) -> tuple[Tensor | None, ...]:
    parts = [part if wish else None for part, wish in zip(found, wants, strict=True)]
    return (*parts, *[None] * (count - len(parts)))


position_orientation_conv.register_autograd(_backward, setup_context=_save)
position_orientation_conv_backward.register_autograd(_backward_twice, setup_context=_save)
