"""The definition: the hidden layer of all rows in memory."""

from collections.abc import Sequence
from math import pi, sqrt

from torch import Tensor
from torch.func import vjp
from torch.nn.functional import gelu, layer_norm, linear
from torch.special import ndtr


def mix(x: Tensor, tensors: Sequence[Tensor], epsilon: float) -> Tensor:
    """Return the block; torch can differentiate this function.

    Args:
        x: rows to add to.
        tensors: z, norm_weight, norm_bias, w1, b1, w2, b2, scale.
        epsilon: of the normalisation.
    """
    z, norm_weight, norm_bias, w1, b1, w2, b2, scale = tensors
    normal = layer_norm(z, z.shape[1:], norm_weight, norm_bias, epsilon)
    mixed = linear(gelu(linear(normal, w1, b1)), w2, b2)
    return x + (mixed * scale if len(scale) else mixed)


def differentiate(
    grad_y: Tensor, tensors: Sequence[Tensor], epsilon: float, wants_weights: bool
) -> tuple[Tensor, ...]:
    """Return the gradients by the tensors of :func:`mix`; see ``op.py``."""
    z, norm_weight, norm_bias, w1, b1, w2, b2, scale = tensors
    centred = z - z.mean(1, keepdim=True)
    inverse = (centred.square().mean(1, keepdim=True) + epsilon).rsqrt()
    normal = centred * inverse
    first = linear(normal * norm_weight + norm_bias, w1, b1)
    by_mixed = grad_y * scale if len(scale) else grad_y
    by_first = by_mixed @ w2 * (ndtr(first) + first * (-first.square() / 2).exp() / sqrt(2 * pi))
    by_affine = by_first @ w1
    by_normal = by_affine * norm_weight
    along = (by_normal * normal).mean(1, keepdim=True)
    by_z = (by_normal - by_normal.mean(1, keepdim=True) - along * normal) * inverse
    if not wants_weights:
        return by_z, *(z.new_empty(0) for _ in tensors[1:])
    hidden = gelu(first)
    by_norm = (by_affine * normal).sum(0), by_affine.sum(0)
    by_w1, by_w2 = by_first.mT @ (normal * norm_weight + norm_bias), by_mixed.mT @ hidden
    by_scale = (grad_y * linear(hidden, w2, b2)).sum(0) if len(scale) else scale.new_empty(0)
    return by_z, *by_norm, by_w1, by_first.sum(0), by_w2, by_mixed.sum(0), by_scale


def differentiate_twice(
    seeds: Sequence[Tensor], grad_y: Tensor, tensors: Sequence[Tensor], epsilon: float
) -> tuple[Tensor, ...]:
    """Return the gradients of the inner product of seeds and gradients.

    Args:
        seeds: one for each of the tensors.
        grad_y: as in :func:`differentiate`.
        tensors: as in :func:`mix`.
        epsilon: as in :func:`mix`.
    """

    def gradients(grad_y: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        return differentiate(grad_y, given, epsilon, True)

    found: tuple[Tensor, ...] = vjp(gradients, grad_y, *tensors)[1](tuple(seeds))
    return found
