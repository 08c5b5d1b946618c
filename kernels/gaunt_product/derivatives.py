"""Derivatives of the products on the sphere, of every order and in both directions.

The operations have their gradients for compilers. In eager mode :func:`product` is an autograd
function of the same formulas, which knows forward mode, vmap and the transforms of torch.func as
well: an operation of torch takes no part in these, and in forward mode is silently a constant.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eqlib.kernels.gaunt_product._degrees import lmax_of
from eqlib.kernels.gaunt_product.op import gaunt_product, gaunt_product_gradients
from eqlib.kernels.operation import is_transforming

Options = tuple[list[Tensor], bool, str]
"""Tables, whether it is the bracket, and the name of the implementation."""


def product(
    x: Tensor,
    y: Tensor,
    w1: Tensor | None,
    w2: Tensor | None,
    w3: Tensor | None,
    tables: list[Tensor],
    lmax_out: int,
    odd: bool,
    implementation: str,
) -> Tensor:
    """Product of two operands; the arguments are those of the operation ``gaunt_product``."""
    if _is_plain((x, y, w1, w2, w3)):
        return gaunt_product(x, y, w1, w2, w3, tables, lmax_out, odd, implementation)
    z: Tensor = _Product.apply(x, y, w1, w2, w3, lmax_out, odd, implementation, *tables)
    return z


def _is_plain(operands: Sequence[Tensor | None]) -> bool:
    """Whether the operation itself will do: for compilers, and where nothing is differentiated.

    There the autograd function would double the time of a small product.
    """
    if torch.compiler.is_compiling():
        return True
    if is_transforming():
        return False
    return not (
        torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in operands)
    )


def _gradients(
    gz: Tensor, operands: Sequence[Any], options: Options, needs: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients of T with respect to the operands that need them, by the cheapest operation."""
    x, y, w1, w2, w3 = operands
    of_weights = any(needs[2:])
    if of_weights or (needs[0] and needs[1]):
        found = _all_gradients(gz, operands, options, of_weights)
        return [g if need else None for g, need in zip(found, needs, strict=True)]
    gx = gy = None
    if needs[0]:
        gx = _product((y, gz, w2, w3, w1), lmax_of(x.shape[1]), options)
    if needs[1]:
        gy = _product((gz, x, w3, w1, w2), lmax_of(y.shape[1]), options)
    return [gx, gy, None, None, None]


def _product(operands: Sequence[Any], lmax_out: int, options: Options) -> Tensor:
    x, y, w1, w2, w3 = operands
    tables, odd, implementation = options
    return product(x, y, w1, w2, w3, tables, lmax_out, odd, implementation)


def _all_gradients(
    gz: Tensor, operands: Sequence[Any], options: Options, of_weights: bool
) -> tuple[Tensor, ...]:
    tables, odd, implementation = options
    if _is_plain((gz, *operands)):
        x, y, w1, w2, w3 = operands
        return gaunt_product_gradients(
            gz, x, y, w1, w2, w3, tables, odd, implementation, of_weights
        )
    found: tuple[Tensor, ...] = _Gradients.apply(
        gz, *operands, odd, implementation, of_weights, *tables
    )
    return found


def _gradients_of_gradients(
    cotangents: Sequence[Tensor | None],
    gz: Tensor,
    operands: Sequence[Any],
    options: Options,
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Differentiate each gradient of T: it is T with that operand replaced by the cotangent."""
    total: list[Tensor | None] = [None] * 6
    lmax_out = lmax_of(gz.shape[1])
    for slot, cotangent in enumerate(cotangents):
        # That of a weight which is absent or not asked for is empty.
        if cotangent is None or operands[slot] is None or cotangent.numel() == 0:
            continue
        replaced = _replaced(operands, slot, cotangent)
        others = [need and i != slot for i, need in enumerate(needs[1:])]
        gradient = _product(replaced, lmax_out, options) if needs[0] else None
        found = [gradient, *_gradients(gz, replaced, options, others)]
        total = [_sum(a, b) for a, b in zip(total, found, strict=True)]
    return total


class _Product(torch.autograd.Function):
    """The product, of the operands x, y, w1, w2 and w3, then the degree, options and tables."""

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        return gaunt_product(*inputs[:5], list(inputs[8:]), *inputs[5:8])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.lmax_out, ctx.odd, ctx.implementation = inputs[5:8]
        _save(ctx, inputs[:5], inputs[8:])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> Any:
        operands, options = _restored(ctx, 5)
        found: list[Tensor | None] = [None] * 5
        if cotangents[0] is not None:
            found = _gradients(cotangents[0], operands, options, ctx.needs_input_grad[:5])
        return (*found, *[None] * (3 + len(options[0])))

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        operands, options = _restored(ctx, 5)
        total = None
        for slot, tangent in enumerate(tangents[:5]):
            if tangent is not None:
                replaced = _replaced(operands, slot, tangent)
                total = _sum(total, _product(replaced, ctx.lmax_out, options))
        return total

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        arguments = (*inputs[:5], list(inputs[8:]), *inputs[5:8])
        return _product_of_many(info, in_dims[:5], *arguments)


class _Gradients(torch.autograd.Function):
    """Gradients of T, of the operands gz, x, y, w1, w2 and w3, then the options and tables."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        return gaunt_product_gradients(*inputs[:6], list(inputs[9:]), *inputs[6:9])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.odd, ctx.implementation, ctx.of_weights = inputs[6:9]
        _save(ctx, inputs[:6], inputs[9:])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> Any:
        (gz, *operands), options = _restored(ctx, 6)
        needs = ctx.needs_input_grad[:6]
        found = _gradients_of_gradients(cotangents, gz, operands, options, needs)
        return (*found, *[None] * (3 + len(options[0])))

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        operands, options = _restored(ctx, 6)
        weights = operands[3:] if ctx.of_weights else (None, None, None)
        empty = (operands[0].new_empty(0) if w is None else torch.zeros_like(w) for w in weights)
        total = [torch.zeros_like(operands[1]), torch.zeros_like(operands[2]), *empty]
        for slot, tangent in enumerate(tangents[:6]):
            if tangent is None:
                continue
            gz, *others = _replaced(operands, slot, tangent)
            found = _all_gradients(gz, others, options, ctx.of_weights)
            # The gradient of an operand does not depend on that operand.
            pairs = enumerate(zip(total, found, strict=True), start=1)
            total = [t if i == slot else t + g for i, (t, g) in pairs]
        return tuple(total)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        arguments = (*inputs[:6], list(inputs[9:]), *inputs[6:9])
        return _gradients_of_many(info, in_dims[:6], *arguments)


def _save(ctx: Any, operands: tuple[Any, ...], tables: tuple[Tensor, ...]) -> None:
    """Keep operands and tables for both directions."""
    ctx.save_for_backward(*operands, *tables)
    ctx.save_for_forward(*operands, *tables)
    ctx.set_materialize_grads(False)


def _restored(ctx: Any, count: int) -> tuple[tuple[Any, ...], Options]:
    saved = ctx.saved_tensors
    return saved[:count], (list(saved[count:]), ctx.odd, ctx.implementation)


def _replaced(operands: Sequence[Any], slot: int, value: Tensor) -> list[Any]:
    return [value if i == slot else operand for i, operand in enumerate(operands)]


def _product_of_many(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Tensor, int]:
    """Product under vmap: as a larger batch, or one by one where each has its own weights."""
    size = info.batch_size
    if any(dim is not None for dim in in_dims[2:5]):
        parts = [product(*_entry(arguments, in_dims[:5], i)) for i in range(size)]
        return torch.stack(parts), 0
    x, y = (_merged(t, dim, size) for t, dim in zip(arguments[:2], in_dims[:2], strict=True))
    z = product(x, y, *arguments[2:])
    return z.unflatten(0, (size, len(z) // size)), 0


def _gradients_of_many(
    info: Any, in_dims: tuple[Any, ...], *arguments: Any
) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
    """Gradients under vmap, likewise; those of the weights are sums over each entry alone."""
    size, (tables, odd, implementation, of_weights) = info.batch_size, arguments[6:]
    if of_weights or any(dim is not None for dim in in_dims[3:6]):
        parts = []
        for i in range(size):
            gz, *operands = _entry(arguments[:6], in_dims[:6], i)
            parts.append(_all_gradients(gz, operands, (tables, odd, implementation), of_weights))
        return tuple(map(torch.stack, zip(*parts, strict=True))), (0,) * 5
    gz, *operands = (
        _merged(t, dim, size) for t, dim in zip(arguments[:3], in_dims[:3], strict=True)
    )
    found = _all_gradients(
        gz, [*operands, *arguments[3:6]], (tables, odd, implementation), of_weights
    )
    gx, gy = (g.unflatten(0, (size, len(g) // size)) for g in found[:2])
    return (gx, gy, *found[2:]), (0, 0, None, None, None)


def _merged(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """Merge the axis of vmap, or copies where there is none, with that of the batch."""
    tensor = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return tensor.flatten(0, 1)


def _entry(inputs: tuple[Any, ...], in_dims: tuple[int | None, ...], index: int) -> list[Any]:
    """Return the inputs for one index of vmap; those without an axis of it come last."""
    own = [
        value if dim is None else value.select(dim, index)
        for value, dim in zip(inputs, in_dims, strict=False)
    ]
    return [*own, *inputs[len(own) :]]


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _save_product(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *operands, tables, _, ctx.odd, ctx.implementation = inputs
    ctx.save_for_backward(*operands, *tables)


def _product_backward(ctx: Any, gz: Tensor) -> tuple[Any, ...]:
    operands, options = _restored(ctx, 5)
    found = _gradients(gz, operands, options, ctx.needs_input_grad[:5])
    return (*found, [None] * len(options[0]), None, None, None)


def _save_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *operands, tables, ctx.odd, ctx.implementation, _ = inputs
    ctx.save_for_backward(*operands, *tables)
    ctx.set_materialize_grads(False)


def _gradients_backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    (gz, *operands), options = _restored(ctx, 6)
    needs = ctx.needs_input_grad[:6]
    found = _gradients_of_gradients(cotangents, gz, operands, options, needs)
    return (*found, [None] * len(options[0]), None, None, None)


gaunt_product.register_autograd(_product_backward, setup_context=_save_product)
gaunt_product_gradients.register_autograd(_gradients_backward, setup_context=_save_gradients)
gaunt_product.register_vmap(_product_of_many)
gaunt_product_gradients.register_vmap(_gradients_of_many)
