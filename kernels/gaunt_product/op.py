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
  contiguous, in the dtype to compute in: float64 for float64 operands, float32 for all others.
  z = w3 P(w1 x, w2 y), gx = w1 P(w2 y, w3 gz) and gy = w2 P(w3 gz, w1 x): each implementation
  applies them at load and store.
* tables: those of the implementation, made for the dtype to compute in. One set serves every
  permutation of the operands, as it is made for the largest of the three degrees, and an operand
  of lower degree uses the leading coefficients.

  ========= =====================================================================================
  naive     [K (S, S, S)]
  compiled  [K (S, S, S)]
  separable [harmonics at azimuth 0 (pairs of nodes, degrees, orders), times roots of weights]
  fourier   see fourier.py
  blocked   [values (k, G, S)]: harmonics on the whole grid, times the real cube root of the
            quadrature weight; k = 1, and k = 3 for the bracket: values, derivatives along e1, e2
  triton    see triton_tables.py; so for triton_tf32 and triton_bf16
  ========= =====================================================================================
* odd: False for Gaunt coefficients, True for the bracket.
"""

import torch
from torch import Tensor

from eqlib.kernels.autocast import without_autocast
from eqlib.kernels.gaunt_product._weight_gradients import all_gradients
from eqlib.kernels.gaunt_product.implementations import load

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
    if x.numel() == 0:
        return x.new_empty(len(x), (lmax_out + 1) ** 2, x.shape[2])
    x, y, weights = x.contiguous(), y.contiguous(), _cast((w1, w2, w3), x)
    with without_autocast(x.device.type):
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
    weights, how = _cast((w1, w2, w3), x), load(implementation)
    operands = (gz.contiguous(), x.contiguous(), y.contiguous())
    given = (w1, w2, w3) if of_weights else (None, None, None)
    g1, g2, g3 = (x.new_empty(0) if w is None else w.new_zeros(w.shape) for w in given)
    with without_autocast(x.device.type):
        if x.numel() == 0:
            gx, gy = torch.empty_like(operands[1]), torch.empty_like(operands[2])
        elif of_weights:
            gx, gy, sums = all_gradients(how, operands, weights, tables, odd)
            g1, g2, g3 = (
                g if s is None else s.to(g.dtype) for g, s in zip((g1, g2, g3), sums, strict=True)
            )
        else:
            gx, gy = how.gradients(*operands, weights, tables, odd)
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


def _cast(weights: Weights, x: Tensor) -> Weights:
    """Return contiguous weights in the dtype to compute in."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    w1, w2, w3 = (None if w is None else w.to(dtype).contiguous() for w in weights)
    return w1, w2, w3


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
