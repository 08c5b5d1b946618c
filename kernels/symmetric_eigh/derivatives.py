r"""The guarded derivative of eigenvalues and eigenvectors, and its own derivative, in torch.

With :math:`A = V \Lambda V^\top`, cotangents :math:`\bar\lambda, \bar V` and :math:`\Delta_{ij} =
\lambda_j - \lambda_i`, the gradient is

.. math::
    G = V S V^\top, \qquad
    S = \operatorname{diag}\bar\lambda + \tfrac12 K \circ (P - P^\top), \qquad
    P = V^\top \bar V, \qquad
    K_{ij} = \frac{\Delta_{ij}}{\Delta_{ij}^2 + \varepsilon^2},

with :math:`\varepsilon` the guard times the largest :math:`|\lambda|`, which counts as a constant.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def differentiate(
    grad_values: Tensor, grad_vectors: Tensor, values: Tensor, vectors: Tensor, guard: float
) -> Tensor:
    """Return the gradient G, symmetric; where the eigenvalues are NaN it is zero."""
    grad_values, grad_vectors, values, vectors = _without_nan(
        values, grad_values, grad_vectors, values, vectors
    )
    inverse, _ = _inverse_gaps(values, guard)
    product = vectors.mT @ grad_vectors
    inner = torch.diag_embed(grad_values) + inverse * (product - product.mT) / 2
    gradient = vectors @ inner @ vectors.mT
    return (gradient + gradient.mT) / 2


def differentiate_gradient(
    seed: Tensor, operands: Sequence[Tensor], guard: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Differentiate the inner product of a seed H and the gradient G by each of its operands.

    With the symmetric part of H, :math:`W = V^\top H V` and :math:`Q = K \circ W`, the inner
    product is :math:`\sum_i W_{ii} \bar\lambda_i + \sum_{ij} Q_{ij} P_{ij}`.
    """
    seed, grad_values, grad_vectors, values, vectors = _without_nan(operands[2], seed, *operands)
    inverse, slope = _inverse_gaps(values, guard)
    turned = (seed + seed.mT) @ vectors / 2
    seen = vectors.mT @ turned
    weighted = inverse * seen
    product = vectors.mT @ grad_vectors
    inner = torch.diag_embed(2 * grad_values) + inverse * (product - product.mT)
    by_gap = seen * product * slope
    return (
        seen.diagonal(dim1=-2, dim2=-1),
        vectors @ weighted,
        by_gap.sum(-2) - by_gap.sum(-1),
        turned @ inner + grad_vectors @ weighted.mT,
    )


def push(tangent: Tensor, values: Tensor, vectors: Tensor, guard: float) -> tuple[Tensor, Tensor]:
    """Return the tangents of eigenvalues and eigenvectors: the transpose of ``differentiate``."""
    tangent, values, vectors = _without_nan(values, tangent, values, vectors)
    inverse, _ = _inverse_gaps(values, guard)
    seen = vectors.mT @ ((tangent + tangent.mT) / 2) @ vectors
    return seen.diagonal(dim1=-2, dim2=-1).contiguous(), vectors @ (inverse * seen)


def push_gradient(tangents: Sequence[Tensor], operands: Sequence[Tensor], guard: float) -> Tensor:
    """Return the tangent of the gradient G, from those of its operands."""
    by_values, by_vectors, by_value, by_vector = _without_nan(operands[2], *tangents)
    grad_values, grad_vectors, values, vectors = _without_nan(operands[2], *operands)
    inverse, slope = _inverse_gaps(values, guard)
    product = vectors.mT @ grad_vectors
    inner = torch.diag_embed(grad_values) + inverse * (product - product.mT) / 2
    change = slope * (by_value[..., None, :] - by_value[..., :, None]) * (product - product.mT)
    product = by_vector.mT @ grad_vectors + vectors.mT @ by_vectors
    change = change + inverse * (product - product.mT)
    turned = by_vector @ inner @ vectors.mT
    moved = vectors @ (torch.diag_embed(by_values) + change / 2) @ vectors.mT
    return turned + turned.mT + (moved + moved.mT) / 2


def _inverse_gaps(values: Tensor, guard: float) -> tuple[Tensor, Tensor]:
    """Return K and its derivative by the gap, both with a diagonal of zeros."""
    scale = values.detach().abs().amax(-1)[..., None, None]
    scale = torch.where(scale > 0, scale, 1.0)
    delta = (values[..., None, :] - values[..., :, None]) / scale
    # One on the diagonal, where delta is zero: without it the slope there would be guard**-2.
    diagonal = torch.eye(values.shape[-1], dtype=values.dtype, device=values.device)
    total = delta.square() + guard**2 + diagonal
    slope = (guard**2 - delta.square()) * (1 - diagonal) / total.square()
    return delta / total / scale, slope / scale / scale


def _without_nan(values: Tensor, *tensors: Tensor) -> list[Tensor]:
    """Set to zero what belongs to matrices whose eigenvalues are NaN."""
    broken = values.isnan().any(-1, keepdim=True)
    return [
        t.masked_fill(broken if t.ndim == values.ndim else broken[..., None], 0.0) for t in tensors
    ]
