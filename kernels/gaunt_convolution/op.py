r"""The operation ``eqlib::gaunt_convolution``, closed under differentiation."""

from math import isqrt
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from eqlib.kernels.gaunt_convolution import blocked, compiled, naive
from eqlib.kernels.operation import operation

IMPLEMENTATIONS = {"naive": naive, "blocked": blocked, "compiled": compiled}


@operation("eqlib::gaunt_convolution")
def gaunt_convolution(
    x: Tensor,
    harmonics: Tensor,
    radial: Tensor,
    table: Tensor,
    source: Tensor,
    target: Tensor,
    num_targets: int,
    lmax_out: int,
    odd: bool,
    implementation: str,
) -> Tensor:
    r"""Products of node features with a filter on each edge, summed over the edges into a node.

    .. math::
        z_{i k o c} = \sum_{e:\,t_e = i} \sum_{a b} K_{a b o}\, x_{s_e k a c}
            \sum_t Y_{e t b}\, R_{e t\, l(b)\, c}

    where K is the integral of three real spherical harmonics, or of :math:`\{Y_a, Y_b\}\, Y_o` for
    odd paths: it is symmetric or antisymmetric in all three indices, which makes the derivatives
    by x this operation with source and target exchanged.

    Args:
        x: features of the source nodes, (nodes, copies, (L1+1)^2, channels); copies share a filter.
        harmonics: Y, (edges, terms, (L2+1)^2); one term, but derivatives have more.
        radial: R, (edges, terms, L2+1, channels).
        table: in the dtype to compute in, for degrees up to the largest of the three or higher.
            For "naive" K; for the others a grid, (1, points, coeffs): the harmonics times the real
            cube root of the quadrature weights. With ``odd`` it is (3, points, coeffs): these,
            then the derivatives along two tangents :math:`e_1, e_2` with
            :math:`e_1 \times e_2` outwards. The quadrature must be exact for the product of three
            harmonics.
        source: node that each edge leaves.
        target: node that each edge enters.
        num_targets: number of target nodes.
        lmax_out: largest degree of the result.
        odd: odd paths, by the Poisson bracket, instead of the even ones.
        implementation: "naive", "blocked", "compiled", or "auto": "compiled" on a CPU where there
            is a C compiler, otherwise "blocked".

    Returns:
        (num_targets, copies, (lmax_out+1)^2, channels), in the dtype of ``x``.
    """
    size, dense = (num_targets, (lmax_out + 1) ** 2), implementation == "naive"
    _check(x, size, (harmonics, radial, source, target), table, dense)
    return _load(implementation, x.device).convolve(
        x, harmonics, radial, table, source, target, num_targets, lmax_out, odd
    )


@operation("eqlib::gaunt_convolution_filter")
def gaunt_convolution_filter(
    x: Tensor,
    z: Tensor,
    harmonics: Tensor,
    radial: Tensor,
    table: Tensor,
    source: Tensor,
    target: Tensor,
    odd: bool,
    wants_harmonics: bool,
    wants_radial: bool,
    implementation: str,
) -> tuple[Tensor, Tensor]:
    r"""Derivatives of the inner product of z and the convolution by harmonics and radial.

    .. math::
        \sum_{k a b o c} K_{a b o}\, x_{s_e k a c}\, z_{t_e k o c}\, R_{e t\, l(b)\, c}
        \quad\text{and}\quad
        \sum_{k a o} \sum_{b \in l} K_{a b o}\, x_{s_e k a c}\, z_{t_e k o c}\, Y_{e t b}

    Args:
        x: features of the source nodes.
        z: features of the target nodes, (nodes, copies, (Lo+1)^2, channels).
        harmonics: as in :func:`gaunt_convolution`.
        radial: as in :func:`gaunt_convolution`.
        table: as in :func:`gaunt_convolution`.
        source: as in :func:`gaunt_convolution`.
        target: as in :func:`gaunt_convolution`.
        odd: as in :func:`gaunt_convolution`.
        wants_harmonics: whether to compute the first; otherwise it is empty.
        wants_radial: whether to compute the second; otherwise it is empty.
        implementation: as in :func:`gaunt_convolution`.

    Returns:
        Tensors of the shapes of ``harmonics`` and ``radial``.
    """
    size, dense = (z.shape[0], z.shape[2]), implementation == "naive"
    _check(x, size, (harmonics, radial, source, target), table, dense)
    return _load(implementation, x.device).convolve_filter(
        x, z, harmonics, radial, table, source, target, odd, wants_harmonics, wants_radial
    )


@gaunt_convolution.register_definition
def _(*inputs: Any) -> Tensor:
    x, harmonics, radial, table, *rest, odd, implementation = inputs
    if implementation != "naive":
        table = naive.coefficients(table, odd)
    z: Tensor = gaunt_convolution.body(x, harmonics, radial, table, *rest, odd, "naive")
    return z


@gaunt_convolution_filter.register_definition
def _(*inputs: Any) -> tuple[Tensor, Tensor]:
    x, z, harmonics, radial, table, source, target, odd, *wants, implementation = inputs
    if implementation != "naive":
        table = naive.coefficients(table, odd)
    found: tuple[Tensor, Tensor] = gaunt_convolution_filter.body(
        x, z, harmonics, radial, table, source, target, odd, *wants, "naive"
    )
    return found


@gaunt_convolution.register_fake
def _(
    x: Tensor,
    harmonics: Tensor,
    radial: Tensor,
    table: Tensor,
    source: Tensor,
    target: Tensor,
    num_targets: int,
    lmax_out: int,
    odd: bool,
    implementation: str,
) -> Tensor:
    return x.new_empty(num_targets, x.shape[1], (lmax_out + 1) ** 2, x.shape[3])


@gaunt_convolution_filter.register_fake
def _(
    x: Tensor,
    z: Tensor,
    harmonics: Tensor,
    radial: Tensor,
    table: Tensor,
    source: Tensor,
    target: Tensor,
    odd: bool,
    wants_harmonics: bool,
    wants_radial: bool,
    implementation: str,
) -> tuple[Tensor, Tensor]:
    by_harmonics = harmonics.new_empty(harmonics.shape if wants_harmonics else 0)
    return by_harmonics, radial.new_empty(radial.shape if wants_radial else 0)


def _check(
    x: Tensor, z_size: tuple[int, int], edges: tuple[Tensor, ...], table: Tensor, dense: bool
) -> None:
    """Raise unless shapes and indices fit: an implementation may read memory without looking.

    Args:
        x: features of the source nodes.
        z_size: number of target nodes, and of coefficients there.
        edges: harmonics, radial, source and target.
        table: of the implementation.
        dense: whether it holds coefficients.
    """
    harmonics, radial, source, target = edges
    degrees = isqrt(harmonics.shape[2])
    expected = (len(source), harmonics.shape[1], degrees, x.shape[3])
    if degrees**2 != harmonics.shape[2] or radial.shape != expected:
        raise ValueError(
            f"radial: expected shape {expected} beside harmonics {tuple(harmonics.shape)}, "
            f"got {tuple(radial.shape)}"
        )
    if len(harmonics) != len(source) or target.shape != source.shape:
        raise ValueError(
            f"harmonics, source, target: expected one entry per edge, got {len(harmonics)}, "
            f"{len(source)} and {len(target)}"
        )
    largest = max(x.shape[2], harmonics.shape[2], z_size[1])
    if table.ndim != 3 or table.shape[2] < largest or (dense and min(table.shape) < largest):
        raise ValueError(
            f"table: expected one for {largest} coefficients, got shape {tuple(table.shape)}"
        )
    if not x.is_cuda and len(source):  # on CUDA the kernels stop on an index out of range
        for name, index, size in (("source", source, len(x)), ("target", target, z_size[0])):
            low, high = (int(bound) for bound in index.aminmax())
            if low < 0 or high >= size:
                raise ValueError(f"{name}: expected 0 <= {name} < {size}, got {low} to {high}")


def _load(implementation: str, device: torch.device) -> ModuleType:
    """Return an implementation that can run on this device."""
    reason = compiled.whynot(device) if implementation in ("auto", "compiled") else ""
    if implementation == "auto":
        return blocked if reason else compiled
    if reason:
        raise ValueError(f"implementation {implementation!r} cannot run here: {reason}")
    return IMPLEMENTATIONS[implementation]


def _save_convolution(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.settings = inputs[8:]


def _differentiate_convolution(ctx: Any, by_z: Tensor) -> tuple[Tensor | None, ...]:
    x, harmonics, radial, table, source, target = ctx.saved_tensors
    odd, implementation = ctx.settings
    wants_x, *wants = ctx.needs_input_grad[:3]
    by_x = by_harmonics = by_radial = None
    if wants_x:
        by_x = _backwards(x, by_z, harmonics, radial, table, source, target, odd, implementation)
    if any(wants):
        by_harmonics, by_radial = gaunt_convolution_filter(
            x, by_z, harmonics, radial, table, source, target, odd, *wants, implementation
        )
    wanted = (by_harmonics if wants[0] else None, by_radial if wants[1] else None)
    return by_x, *wanted, None, None, None, None, None, None, None


def _save_filter(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:7])
    ctx.settings = inputs[7:]


def _differentiate_filter(
    ctx: Any, by_harmonics: Tensor, by_radial: Tensor
) -> tuple[Tensor | None, ...]:
    """Differentiate T(x, u, R, z) + T(x, Y, v, z), with u and v the incoming gradients.

    T is the inner product of z and the convolution of x, so both of its terms are one convolution
    with twice as many terms in the filter.
    """
    x, z, harmonics, radial, table, source, target = ctx.saved_tensors
    odd, *computed, implementation = ctx.settings
    u, v = by_harmonics, by_radial
    terms = [(u, radial)] * computed[0] + [(harmonics, v)] * computed[1]
    edges = (torch.cat([a for a, _ in terms], 1), torch.cat([b for _, b in terms], 1))
    wants = ctx.needs_input_grad[:4]
    by_x = by_z = grad_harmonics = grad_radial = None
    if wants[0]:
        by_x = _backwards(x, z, *edges, table, source, target, odd, implementation)
    if wants[1]:
        lmax = isqrt(z.shape[2]) - 1
        by_z = gaunt_convolution(
            x, *edges, table, source, target, z.shape[0], lmax, odd, implementation
        )
    # Y enters with v alone and R with u alone
    wanted = (wants[2] and computed[1], wants[3] and computed[0])
    if any(wanted):
        pair = (u if computed[0] else harmonics, v if computed[1] else radial)
        found = gaunt_convolution_filter(
            x, z, *pair, table, source, target, odd, *wanted, implementation
        )
        grad_harmonics, grad_radial = (
            part if wished else None for part, wished in zip(found, wanted, strict=True)
        )
    return by_x, by_z, grad_harmonics, grad_radial, *[None] * 7


def _backwards(
    x: Tensor,
    z: Tensor,
    harmonics: Tensor,
    radial: Tensor,
    table: Tensor,
    source: Tensor,
    target: Tensor,
    odd: bool,
    implementation: str,
) -> Tensor:
    """Differentiate by x: convolve z against the edges."""
    lmax = isqrt(x.shape[2]) - 1
    result = gaunt_convolution(
        z, harmonics, radial, table, target, source, x.shape[0], lmax, odd, implementation
    )
    return -result if odd else result


gaunt_convolution.register_autograd(_differentiate_convolution, setup_context=_save_convolution)
gaunt_convolution_filter.register_autograd(_differentiate_filter, setup_context=_save_filter)
