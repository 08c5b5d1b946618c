"""Products of functions on the sphere, in coefficients of spherical harmonics."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.gaunt._arguments import check_operands, check_weights, known
from eqlib.gaunt.tables import plan
from eqlib.kernels.autocast import is_autocasting
from eqlib.kernels.gaunt_product import product

Weights = Sequence[Float[Tensor, "_ #channels"] | None]


def gaunt_product(
    x: Float[Tensor, "*#batch coeffs1 #channels"],
    y: Float[Tensor, "*#batch coeffs2 #channels"],
    lmax_out: int,
    weights: Weights | None = None,
    implementation: str = "auto",
) -> Float[Tensor, "*#batch coeffs3 #channels"]:
    r"""Product of two functions on the sphere, channel by channel, up to degree ``lmax_out``.

    .. math::
        z_c = w^{(3)}_{l_c} \sum_{ab} G_{abc}\, w^{(1)}_{l_a} x_a\, w^{(2)}_{l_b} y_b, \qquad
        G_{abc} = \int Y_a Y_b Y_c

    The coefficients are those of orthonormal real harmonics, (L + 1)^2 of them on the axis before
    the channels. These are the Clebsch-Gordan paths with even :math:`l_1 + l_2 + l_3`, each with a
    positive constant; :func:`poisson_product` has the others. Differentiable in all tensors, to any
    order: every derivative is this operation again.

    Args:
        x: coefficients of one function, degree :math:`L_1`.
        y: coefficients of the other, degree :math:`L_2`. Batch axes broadcast, as does one channel.
        lmax_out: largest degree of the result. The product has none above :math:`L_1 + L_2`, so the
            coefficients there are zero; below, it is cut off.
        weights: three tensors (degrees, channels), for x, y and the result, of :math:`L_1 + 1`,
            :math:`L_2 + 1` and ``lmax_out + 1`` degrees; None stands for ones.
        implementation: ``"auto"``, or one of ``"naive"``, ``"fourier"``, ``"blocked"``,
            ``"compiled"``, ``"separable"`` and ``"triton"``; see
            ``kernels/gaunt_product/README.md``.

    Returns:
        Coefficients of the product, of the dtype of the operands. Half and bfloat16 are computed in
        float32 and rounded once. Under autocast nothing runs in a lower precision, and operands of
        two dtypes give the wider one.

    Raises:
        TypeError: an operand or a weight is not of floating point, or ``lmax_out`` no whole number.
        ValueError: the shapes, dtypes or devices of the operands and weights do not fit each other;
            a degree is above that of the tables, 30; the implementation does not exist, or cannot
            run on this device, dtype or degree.

    Note:
        Exact up to rounding. A row with NaN or infinity leaves all other rows untouched.

    Source:
        Luo, Chen, Krishnapriyan, Enabling Efficient Equivariant Operations in the Fourier Basis
        via Gaunt Tensor Products, ICLR 2024. Here on grids of the sphere or by coefficients;
        ``"fourier"`` is the paper's algorithm.
    """
    return _product(x, y, lmax_out, weights, implementation, odd=False)


def poisson_product(
    x: Float[Tensor, "*#batch coeffs1 #channels"],
    y: Float[Tensor, "*#batch coeffs2 #channels"],
    lmax_out: int,
    weights: Weights | None = None,
    implementation: str = "auto",
) -> Float[Tensor, "*#batch coeffs3 #channels"]:
    r"""Poisson bracket of two functions on the sphere, channel by channel, up to ``lmax_out``.

    .. math::
        z_c = w^{(3)}_{l_c} \sum_{ab} B_{abc}\, w^{(1)}_{l_a} x_a\, w^{(2)}_{l_b} y_b, \qquad
        B_{abc} = \int \{Y_a, Y_b\} Y_c, \quad
        \{f, h\} = \hat r \cdot (\nabla f \times \nabla h)

    These are the Clebsch-Gordan paths with **odd** :math:`l_1 + l_2 + l_3`, such as the cross
    product of two vectors, each with a positive constant. Antisymmetric: the bracket of a function
    with itself is zero, and so is that with a constant, degree 0.

    Args:
        x: coefficients of one function, degree :math:`L_1`.
        y: coefficients of the other, degree :math:`L_2`. Batch axes broadcast, as does one channel.
        lmax_out: largest degree of the result; the bracket has none above :math:`L_1 + L_2 - 1`.
        weights: as in :func:`gaunt_product`.
        implementation: as in :func:`gaunt_product`.

    Returns:
        Coefficients of the bracket, of the dtype of the operands, computed as in
        :func:`gaunt_product`.

    Raises:
        TypeError: as in :func:`gaunt_product`.
        ValueError: as in :func:`gaunt_product`.

    Note:
        Under reflections the result is a pseudo-function: from two operands of natural parity
        :math:`(-1)^l` it has the parity :math:`-(-1)^l`.
    """
    return _product(x, y, lmax_out, weights, implementation, odd=True)


def _product(
    x: Tensor, y: Tensor, lmax_out: int, weights: Weights | None, implementation: str, odd: bool
) -> Tensor:
    lmaxes = (*check_operands(x, y), known(lmax_out, "lmax_out"))
    if is_autocasting(x.device.type):
        dtype = torch.promote_types(x.dtype, y.dtype)
        x, y = x.to(dtype), y.to(dtype)
    name, tables = plan(implementation, x.device, x.dtype, lmaxes, odd)
    batch, channels = x.shape[:-2], x.shape[-1]
    if x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-1]:
        batch = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        channels = y.shape[-1] if channels == 1 else channels
        x, y = (t.expand(*batch, t.shape[-2], channels) for t in (x, y))
    w1, w2, w3 = (None, None, None) if weights is None else check_weights(weights, lmaxes, x)
    if len(batch) != 1:
        x, y = (t.reshape(math.prod(batch), *t.shape[-2:]) for t in (x, y))
    z = product(x, y, w1, w2, w3, tables, lmaxes[2], odd, name)
    return z if len(batch) == 1 else z.reshape(*batch, *z.shape[1:])
