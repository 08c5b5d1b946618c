r"""The operation ``eqlib::gaunt_product``: products of functions on the sphere, in coefficients.

Both products are one trilinear form :math:`T(x, y, z) = \sum_{abc} K_{abc} x_a y_b z_c`, with K the
Gaunt coefficients (even paths) or those of the Poisson bracket (odd paths). Both are invariant
under cyclic permutations, so with :math:`P(x, y)_c = \partial T / \partial z_c` the gradients are
:math:`P(y, g)` and :math:`P(g, x)`: the operation is closed under differentiation.

Contract of the implementations, all of which have these two functions::

    product(x, y, weights, tables, lmax_out, odd) -> z
    gradients(gz, x, y, weights, tables, odd) -> (gx, gy)

* x (batch, S1, C), y (batch, S2, C), z and gz (batch, S3, C), contiguous, of one dtype, with
  S = (lmax + 1)^2 and batch * C > 0. Results are new contiguous tensors of that dtype.
* weights = (w1, w2, w3), each None or (lmax_i + 1, C): one factor per **degree** and channel,
  contiguous, in the dtype of the tables. z = w3 P(w1 x, w2 y), gx = w1 P(w2 y, w3 gz) and
  gy = w2 P(w3 gz, w1 x): each implementation applies them at load and store.
* tables: those of the implementation, in the dtype to compute in: float64 for float64 inputs,
  float32 for all others. One set serves every permutation of the operands, as it is made for the
  largest of the three degrees, and an operand of lower degree uses the leading coefficients.

  ========= =====================================================================================
  naive     [K (S, S, S)]
  compiled  [K (S, S, S)]
  fourier   see fourier.py
  blocked   [values (k, G, S)]: harmonics on the whole grid, times the real cube root of the
            quadrature weight; k = 1, and k = 3 for the bracket: values, derivatives along e1, e2
  triton    [even (k, H, SE), odd (k, H, SO)]: the same on half of an antipodal grid, with weights
            doubled, and the columns of even and of odd degree apart
  ========= =====================================================================================
* odd: False for Gaunt coefficients, True for the bracket.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from eqlib.kernels.gaunt_product._degrees import by_coefficient, by_degree, lmax_of
from eqlib.kernels.gaunt_product.implementations import Implementation, load

Weights = tuple[Tensor | None, Tensor | None, Tensor | None]


@torch.library.custom_op("eqlib::gaunt_product", mutates_args=())
def gaunt_product(
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
    r"""Product :math:`w_3 P(w_1 x, w_2 y)`; see the module for the arguments."""
    _check(x, y, "y")
    z = x.new_empty(len(x), (lmax_out + 1) ** 2, x.shape[2])
    if z.numel() == 0:
        return z
    x, y, weights = x.contiguous(), y.contiguous(), _cast((w1, w2, w3), tables)
    with _without_autocast(x.device.type):
        return load(implementation).product(x, y, weights, tables, lmax_out, odd)


@gaunt_product.register_fake
def _(
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
    _check(x, y, "y")
    return x.new_empty(x.shape[0], (lmax_out + 1) ** 2, x.shape[2])


@torch.library.custom_op("eqlib::gaunt_product_gradients", mutates_args=())
def gaunt_product_gradients(
    gz: Tensor,
    x: Tensor,
    y: Tensor,
    w1: Tensor | None,
    w2: Tensor | None,
    w3: Tensor | None,
    tables: list[Tensor],
    odd: bool,
    implementation: str,
    of_weights: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    r"""Gradients of T(w1 x, w2 y, w3 gz) with respect to x, y, w1, w2 and w3.

    Those of x and y share evaluations. Those of the weights are empty unless they are asked for.
    """
    _check(x, y, "y")
    _check(x, gz, "gz")
    weights, how = _cast((w1, w2, w3), tables), load(implementation)
    operands = (gz.contiguous(), x.contiguous(), y.contiguous())
    sums: Sequence[Tensor | None] = (None, None, None)
    with _without_autocast(x.device.type):
        if x.numel() == 0:
            gx, gy = torch.empty_like(operands[1]), torch.empty_like(operands[2])
        elif of_weights:
            gx, gy, *sums = _all_gradients(how, operands, weights, tables, odd)
        else:
            gx, gy = how.gradients(*operands, weights, tables, odd)
    g1, g2, g3 = (
        _of_weight(w if of_weights else None, g, x) for w, g in zip((w1, w2, w3), sums, strict=True)
    )
    return gx, gy, g1, g2, g3


@gaunt_product_gradients.register_fake
def _(
    gz: Tensor,
    x: Tensor,
    y: Tensor,
    w1: Tensor | None,
    w2: Tensor | None,
    w3: Tensor | None,
    tables: list[Tensor],
    odd: bool,
    implementation: str,
    of_weights: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    _check(x, y, "y")
    _check(x, gz, "gz")
    given = (w1, w2, w3) if of_weights else (None, None, None)
    g1, g2, g3 = (x.new_empty(0) if w is None else w.new_empty(w.shape) for w in given)
    return (x.new_empty(x.shape), y.new_empty(y.shape), g1, g2, g3)


def _save_product(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, y, w1, w2, w3, tables, _, ctx.odd, ctx.implementation = inputs
    ctx.save_for_backward(x, y, w1, w2, w3, *tables)


def _product_backward(ctx: Any, gz: Tensor) -> tuple[Any, ...]:
    x, y, w1, w2, w3, *tables = ctx.saved_tensors
    options = (tables, ctx.odd, ctx.implementation)
    gradients = _gradients(gz, x, y, (w1, w2, w3), options, ctx.needs_input_grad[:5])
    return (*gradients, [None] * len(tables), None, None, None)


def _save_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    gz, x, y, w1, w2, w3, tables, ctx.odd, ctx.implementation, ctx.of_weights = inputs
    ctx.save_for_backward(gz, x, y, w1, w2, w3, *tables)
    ctx.set_materialize_grads(False)


def _gradients_backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    """Differentiate each gradient of T: it is T with this operand replaced by the cotangent."""
    gz, *operands = ctx.saved_tensors[:6]
    tables = list(ctx.saved_tensors[6:])
    options = (tables, ctx.odd, ctx.implementation)
    need_gz, *needs = ctx.needs_input_grad[:6]
    total: list[Tensor | None] = [None] * 6
    for slot, cotangent in enumerate(cotangents):
        absent = slot > 1 and (operands[slot] is None or not ctx.of_weights)
        if cotangent is None or absent:
            continue
        x, y, w1, w2, w3 = (cotangent if i == slot else o for i, o in enumerate(operands))
        lmax_out = lmax_of(gz.shape[1])
        own = [need and i != slot for i, need in enumerate(needs)]
        found = [
            gaunt_product(x, y, w1, w2, w3, tables, lmax_out, *options[1:]) if need_gz else None,
            *_gradients(gz, x, y, (w1, w2, w3), options, own),
        ]
        total = [_sum(a, b) for a, b in zip(total, found, strict=True)]
    return (*total, [None] * len(tables), None, None, None)


gaunt_product.register_autograd(_product_backward, setup_context=_save_product)
gaunt_product_gradients.register_autograd(_gradients_backward, setup_context=_save_gradients)


def _gradients(
    gz: Tensor,
    x: Tensor,
    y: Tensor,
    weights: Weights,
    options: tuple[list[Tensor], bool, str],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of T that are needed: of x, y, w1, w2 and w3, by the cheapest operation."""
    w1, w2, w3 = weights
    tables, *how = options
    of_weights = any(needs[2:])
    if of_weights or (needs[0] and needs[1]):
        found = gaunt_product_gradients(gz, x, y, w1, w2, w3, *options, of_weights)
        return [g if need else None for g, need in zip(found, needs, strict=True)]
    gx = gy = None
    if needs[0]:
        gx = gaunt_product(y, gz, w2, w3, w1, tables, lmax_of(x.shape[1]), *how)
    if needs[1]:
        gy = gaunt_product(gz, x, w3, w1, w2, tables, lmax_of(y.shape[1]), *how)
    return [gx, gy, None, None, None]


def _all_gradients(
    how: Implementation,
    operands: tuple[Tensor, Tensor, Tensor],
    weights: Weights,
    tables: list[Tensor],
    odd: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients of x and y, and those of the weights by coefficient, from unweighted products."""
    if how.all_gradients is not None:
        return how.all_gradients(*operands, weights, tables, odd)
    dtype = tables[0].dtype
    none = (None, None, None)
    gz, x, y = (t.to(dtype) for t in operands)
    w1, w2, w3 = (None if w is None else by_coefficient(w) for w in weights)
    weighted = (_times(gz, w3), _times(x, w1), _times(y, w2))
    ux, uy = how.gradients(*weighted, none, tables, odd)
    g1 = None if w1 is None else (x * ux).sum(0)
    g2 = None if w2 is None else (y * uy).sum(0)
    g3 = None
    if w3 is not None:
        uz = how.product(*weighted[1:], none, tables, lmax_of(gz.shape[1]), odd)
        g3 = (gz * uz).sum(0)
    storage = operands[1].dtype
    return _times(ux, w1).to(storage), _times(uy, w2).to(storage), g1, g2, g3


def _of_weight(weight: Tensor | None, sums: Tensor | None, x: Tensor) -> Tensor:
    """Gradient of a weight from sums over rows by coefficient; empty where none is asked for."""
    if weight is None:
        return x.new_empty(0)
    if sums is None:
        return torch.zeros_like(weight, memory_format=torch.contiguous_format)
    return by_degree(sums).to(weight.dtype)


def _times(x: Tensor, weight: Tensor | None) -> Tensor:
    return x if weight is None else x * weight


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _cast(weights: Weights, tables: list[Tensor]) -> Weights:
    w1, w2, w3 = (None if w is None else w.to(tables[0].dtype).contiguous() for w in weights)
    return w1, w2, w3


def _without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Let no matrix product inside of the operation run in half precision."""
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def _check(x: Tensor, other: Tensor, name: str) -> None:
    """Raise unless two operands have the layout, batch, channels, dtype and device of each other.

    Coefficients are not checked: the tables are made for them.
    """
    if x.ndim != 3 or other.ndim != 3 or x.shape[::2] != other.shape[::2]:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and {name} {tuple(other.shape)}; "
            "expected (batch, coeffs, channels) with the same batch and channels"
        )
    if x.dtype != other.dtype or x.device != other.device:
        raise ValueError(
            f"x is {x.dtype} on {x.device} and {name} {other.dtype} on {other.device}; "
            "expected one dtype and one device"
        )
