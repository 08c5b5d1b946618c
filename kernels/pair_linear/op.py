r"""The operations ``eqlib::pair_linear``, ``pair_reduce`` and ``pair_weight_gradient``.

Each is linear in every operand, and the derivatives of each are the other two: all orders of
derivative are there. Contract of the implementations, all of which have these three functions::

    reduce(arguments) -> (members, parts x channels)
    linear(arguments) -> (slots, outputs)
    weight_gradient(arguments) -> (2, channels, outputs)

* x, spread and grad have one dtype: float64, float32, bfloat16 or float16. Weight and scale have
  the dtype to compute in: that of x, at least float32. All tensors are contiguous.
* ``reduce``: there are members and channels. ``linear``: there are slots and outputs, and channels
  or a spread. Without a spread ``pairs`` holds the transpose alone; with one there are members.
  ``weight_gradient``: there are slots, channels and outputs.
* Indices are right. On CUDA devices nobody has looked. A slot may have no pair.
* Results are new contiguous tensors in the dtype of x, gradients by the weight in that to compute
  in.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eqlib.kernels.autocast import without_autocast
from eqlib.kernels.operation import operation
from eqlib.kernels.pair_linear.arguments import (
    Linear,
    Pairs,
    Reduction,
    WeightGradient,
    count_parts,
)
from eqlib.kernels.pair_linear.checks import (
    check_features,
    check_pairs,
    check_shape,
    check_tensor,
)
from eqlib.kernels.pair_linear.implementations import load

PAIRS_SCHEMA = (
    "Tensor transpose, Tensor starts, Tensor pair_starts, Tensor subgraph, Tensor row, "
    "Tensor column, Tensor? root, Tensor? slot, Tensor? slot_order, Tensor? slot_starts"
)


@operation(
    "eqlib::pair_reduce",
    f"(Tensor x, Tensor? scale, {PAIRS_SCHEMA}, str implementation) -> Tensor",
)
def pair_reduce(x: Tensor, scale: Tensor | None, *rest: Any) -> Tensor:
    r"""Sum features over the pairs of each member of each subgraph.

    With :math:`A_{ij} = s_g x_g` for the slot g of the pair (i, j), the parts of member i are

    .. math:: A_{ii}, \quad \sum_j A_{ij}, \quad \sum_j A_{ji}, \quad A_{i\,\text{root}}, \quad
        A_{\text{root}\,i}.

    Args:
        x: features of the slots, (slots, channels), in any unit.
        scale: s, (slots,), a constant, or None: 1.
        *rest: the fields of :class:`Pairs` in order, then the implementation: "auto" or one of
            ``NAMES``.

    Returns:
        (members, parts x channels) in the dtype of ``x``: the parts one after the other, the last
        two only where there are roots.

    Raises:
        ValueError: shapes or indices do not fit, or there is no such implementation.
        TypeError: a tensor has another dtype than its kind may have.
    """
    *indices, implementation = rest
    pairs = Pairs(*indices)
    check_features(x, scale, pairs.transpose)
    check_pairs(x, pairs)
    how = load(implementation, x.device, x.dtype)
    shape = (len(pairs.subgraph), pairs.parts * x.shape[1])
    if 0 in shape:
        return x.new_empty(shape)
    arguments = Reduction(x.contiguous(), _wide(scale, x), _contiguous(pairs))
    with without_autocast(x.device.type):
        return how.reduce(arguments)


@operation(
    "eqlib::pair_linear",
    f"(Tensor x, Tensor weight, Tensor? spread, Tensor? scale, {PAIRS_SCHEMA}, "
    "str implementation) -> Tensor",
)
def pair_linear(
    x: Tensor, weight: Tensor, spread: Tensor | None, scale: Tensor | None, *rest: Any
) -> Tensor:
    r"""Map pairs and transposed pairs linearly, and add what members spread over their pairs.

    .. math::
        y_g = x_g W_0 + x_{g^\top} W_1 + s_g \sum_{(i, j)\,\text{of slot}\,g} \bigl(
        \delta_{ij} u^0_i + u^1_i + u^2_j + \delta_{j\,\text{root}} u^3_i
        + \delta_{i\,\text{root}} u^4_j \bigr)

    The sum is the adjoint of :func:`pair_reduce`.

    Args:
        x: features of the slots, (slots, channels), in any unit; there may be no channels.
        weight: W, (2, channels, outputs).
        spread: u, (members, parts x outputs), the parts in the order of :func:`pair_reduce`, or
            None: nothing is added, and of the pairs only ``transpose`` counts.
        scale: s, (slots,), a constant, or None: 1.
        *rest: as in :func:`pair_reduce`.

    Returns:
        (slots, outputs), in the dtype of ``x``.

    Raises:
        ValueError: as in :func:`pair_reduce`.
        TypeError: as in :func:`pair_reduce`.
    """
    *indices, implementation = rest
    pairs = Pairs(*indices)
    check_features(x, scale, pairs.transpose)
    check_tensor("weight", weight, x, 3, real=True)
    check_shape("weight", weight, (2, x.shape[1], weight.shape[2]))
    if spread is not None:
        check_tensor("spread", spread, x, 2, real=True)
        check_pairs(x, pairs)
        check_shape("spread", spread, (len(pairs.subgraph), pairs.parts * weight.shape[2]))
    how = load(implementation, x.device, x.dtype)
    shape = (len(x), weight.shape[2])
    if spread is None or not len(spread):
        spread = scale = None
        pairs = Pairs.without_members(pairs.transpose)
    if 0 in shape or (spread is None and not x.shape[1]):
        return x.new_zeros(shape)
    arguments = Linear(
        x.contiguous(),
        weight.to(_wide_dtype(x)).contiguous(),
        None if spread is None else spread.to(x.dtype).contiguous(),
        _wide(scale, x),
        _contiguous(pairs),
    )
    with without_autocast(x.device.type):
        return how.linear(arguments)


@operation("eqlib::pair_weight_gradient")
def pair_weight_gradient(x: Tensor, grad: Tensor, transpose: Tensor, implementation: str) -> Tensor:
    r"""Multiply features, and those of transposed pairs, with a gradient.

    .. math:: G_{0cs} = \sum_g x_{gc}\, b_{gs}, \qquad G_{1cs} = \sum_g x_{g^\top c}\, b_{gs}

    Args:
        x: features of the slots, (slots, channels), in any unit.
        grad: b, gradient of the result of :func:`pair_linear`, (slots, outputs).
        transpose: as in :class:`Pairs`.
        implementation: "auto" or one of ``NAMES``.

    Returns:
        (2, channels, outputs), in the dtype of ``x``, at least float32.

    Raises:
        ValueError: shapes or indices do not fit, or there is no such implementation.
        TypeError: a tensor has another dtype than its kind may have.
    """
    check_features(x, None, transpose)
    check_tensor("grad", grad, x, 2, real=True)
    check_shape("grad", grad, (len(x), grad.shape[1]))
    how = load(implementation, x.device, x.dtype)
    if not (x.numel() and grad.numel()):
        return x.new_zeros(2, x.shape[1], grad.shape[1], dtype=_wide_dtype(x))
    grad = grad.to(x.dtype).contiguous()
    with without_autocast(x.device.type):
        return how.weight_gradient(WeightGradient(x.contiguous(), grad, transpose.contiguous()))


@pair_reduce.register_fake
def _(x: Tensor, scale: Tensor | None, *rest: Any) -> Tensor:
    pairs = Pairs(*rest[:-1])
    return x.new_empty(pairs.subgraph.shape[0], pairs.parts * x.shape[1])


@pair_linear.register_fake
def _(x: Tensor, weight: Tensor, spread: Tensor | None, scale: Tensor | None, *rest: Any) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[2])


@pair_weight_gradient.register_fake
def _(x: Tensor, grad: Tensor, transpose: Tensor, implementation: str) -> Tensor:
    return x.new_empty(2, x.shape[1], grad.shape[1], dtype=_wide_dtype(x))


def _wide_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _wide(scale: Tensor | None, x: Tensor) -> Tensor | None:
    return None if scale is None else scale.to(_wide_dtype(x)).contiguous()


def _contiguous(pairs: Pairs) -> Pairs:
    indices: list[Any] = [index if index is None else index.contiguous() for index in pairs]
    return Pairs(*indices)


def _save_reduction(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    """Save no features: the gradient does not depend on them."""
    ctx.save_for_backward(*inputs[1:-1])
    ctx.implementation = inputs[-1]


def _reduction_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    scale, *indices = ctx.saved_tensors
    pairs = Pairs(*indices)
    x = grad.new_empty(pairs.transpose.shape[0], 0)
    weight = grad.new_empty(2, 0, grad.shape[1] // count_parts(pairs.root))
    by_x = pair_linear(x, weight, grad, scale, *pairs, ctx.implementation)
    return by_x, *[None] * (len(pairs) + 2)


def _save_linear(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    """Save what the gradients depend on: of the spread, the dtype."""
    x, weight, spread, *rest = inputs
    ctx.save_for_backward(x, weight, *rest[:-1])
    ctx.spread_dtype = None if spread is None else spread.dtype
    ctx.implementation = inputs[-1]


def _linear_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, scale, *indices = ctx.saved_tensors
    pairs, how = Pairs(*indices), ctx.implementation
    by_x = by_weight = by_spread = None
    if ctx.needs_input_grad[0]:
        alone = Pairs.without_members(pairs.transpose)
        by_x = pair_linear(grad, weight.mT, None, None, *alone, how)
    if ctx.needs_input_grad[1]:
        by_weight = pair_weight_gradient(x, grad, pairs.transpose, how).to(weight.dtype)
    if ctx.needs_input_grad[2]:
        by_spread = pair_reduce(grad, scale, *pairs, how).to(ctx.spread_dtype)
    return by_x, by_weight, by_spread, *[None] * (len(pairs) + 2)


def _save_weight_gradient(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:-1])
    ctx.implementation = inputs[-1]


def _weight_gradient_backward(ctx: Any, seed: Tensor) -> tuple[Tensor | None, ...]:
    x, grad, transpose = ctx.saved_tensors
    alone, how = Pairs.without_members(transpose), ctx.implementation
    by_x = by_grad = None
    if ctx.needs_input_grad[0]:
        by_x = pair_linear(grad, seed.mT, None, None, *alone, how).to(x.dtype)
    if ctx.needs_input_grad[1]:
        by_grad = pair_linear(x, seed, None, None, *alone, how).to(grad.dtype)
    return by_x, by_grad, None, None


pair_reduce.register_autograd(_reduction_backward, setup_context=_save_reduction)
pair_linear.register_autograd(_linear_backward, setup_context=_save_linear)
pair_weight_gradient.register_autograd(
    _weight_gradient_backward, setup_context=_save_weight_gradient
)
