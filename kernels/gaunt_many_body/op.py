"""The operation ``eqlib::gaunt_many_body``: registration, checks and derivatives."""

from collections.abc import Sequence
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from eqlib.kernels.gaunt_many_body import blocked, naive
from eqlib.kernels.gaunt_many_body.terms import SLOTS, decode, derivative
from eqlib.kernels.operation import operation

IMPLEMENTATIONS = ("auto", "naive", "blocked")
_FORWARD = {"naive": naive.forward, "blocked": blocked.forward, "auto": blocked.forward}


@operation("eqlib::gaunt_many_body")
def gaunt_many_body(
    fields: Sequence[Tensor],
    tables: Tensor,
    weights: Tensor,
    terms: Sequence[int],
    outputs: Sequence[int],
    implementation: str,
) -> list[Tensor]:
    r"""Coefficients of polynomials of functions on the sphere, exact on the given grid.

    .. math:: z^{(o)}_a = \sum_g w_g \sum_j E^{(j)}_{ga} \sum_{t \in (o, j)} s_t
              \prod_{(k, i) \in t} \sum_b E^{(i)}_{gb}\, x^{(k)}_b

    Args:
        fields: coefficients (nodes, (L_k + 1)^2, channels) of each function. A field with one
            coefficient is a constant function, and so a weight per node and channel.
        tables: harmonics and their derivatives along two tangents, (3, grid, coeffs); the second
            and third are read only if a term names them.
        weights: quadrature weights (grid,).
        terms: the polynomials, from :func:`~eqlib.kernels.gaunt_many_body.terms.encode`.
        outputs: number of coefficients of each output.
        implementation: "naive" holds all grid values; "blocked" those of a block of rows; "auto"
            is "blocked".

    Returns:
        Coefficients (nodes, outputs[o], channels) of each output.

    Raises:
        ValueError: a shape, a term or the implementation does not fit.
        TypeError: the fields are not floating point, or of different types.

    Note:
        Values and sums are float64 for float64 fields and float32 otherwise. The derivative by a
        field is the same operation with the cotangents as further fields, to every order; tables
        and weights have no derivative.
    """
    _check(fields, tables, outputs, terms, implementation)
    dtype = torch.promote_types(fields[0].dtype, torch.float32)
    with torch.autocast(fields[0].device.type, enabled=False):
        return _FORWARD[implementation](
            [*fields], tables.to(dtype), weights.to(dtype), [*terms], [*outputs]
        )


@gaunt_many_body.register_fake
def _(
    fields: Sequence[Tensor],
    tables: Tensor,
    weights: Tensor,
    terms: Sequence[int],
    outputs: Sequence[int],
    implementation: str,
) -> list[Tensor]:
    _check(fields, tables, outputs, terms, implementation)
    nodes, _, channels = fields[0].shape
    return [fields[0].new_empty(nodes, size, channels) for size in outputs]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    fields, tables, weights, ctx.terms, _, ctx.implementation = inputs
    ctx.save_for_backward(tables, weights, *fields)


def _backward(ctx: Any, cotangents: list[Tensor]) -> tuple[Any, ...]:
    tables, weights, *fields = ctx.saved_tensors
    wanted = tuple(k for k, needed in enumerate(ctx.needs_input_grad[0]) if needed)
    terms = derivative(tuple(ctx.terms), len(fields), wanted)
    sizes = [fields[k].shape[1] for k in wanted]
    found = gaunt_many_body(
        [*fields, *cotangents], tables, weights, terms, sizes, ctx.implementation
    )
    gradients: list[Tensor | None] = [None] * len(fields)
    for k, gradient in zip(wanted, found, strict=True):
        gradients[k] = gradient
    return gradients, None, None, None, None, None


gaunt_many_body.register_autograd(_backward, setup_context=_setup_context)


def _check(
    fields: Sequence[Tensor],
    tables: Tensor,
    outputs: Sequence[int],
    terms: Sequence[int],
    implementation: str,
) -> None:
    """Raise unless the arguments fit each other."""
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation: got {implementation!r}; expected one of {', '.join(IMPLEMENTATIONS)}"
        )
    if not fields:
        raise ValueError("fields: got none; expected at least one tensor (nodes, coeffs, channels)")
    first = fields[0]
    for k, x in enumerate(fields):
        if not x.is_floating_point() or x.dtype != first.dtype:
            raise TypeError(
                f"fields[{k}]: got {x.dtype}; expected the floating-point type of all fields, "
                f"that of fields[0] is {first.dtype}: convert with .to()"
            )
        if x.ndim != 3 or x.shape[0] != first.shape[0] or x.shape[2] != first.shape[2]:
            raise ValueError(
                f"fields[{k}]: got shape {tuple(x.shape)}; expected (nodes, coeffs, channels) with "
                f"the nodes and channels of fields[0], {tuple(first.shape)}"
            )
    for name, sizes in (("fields", [x.shape[1] for x in fields]), ("outputs", outputs)):
        for size in sizes:
            if isqrt(size) ** 2 != size or not 1 <= size <= tables.shape[2]:
                raise ValueError(
                    f"{name}: {size} coefficients; expected a square up to the "
                    f"{tables.shape[2]} of the tables: (L + 1)^2 for degrees up to L"
                )
    for _, output, factors in decode(tuple(terms)):
        if output >= SLOTS * len(outputs) or max(factors) >= SLOTS * len(fields):
            raise ValueError(
                f"terms: output {output} with factors {factors}; expected numbers below "
                f"{SLOTS * len(outputs)} and {SLOTS * len(fields)}"
            )
