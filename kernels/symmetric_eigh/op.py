r"""The operation ``eqlib::symmetric_eigh``, closed under differentiation.

Contract of the implementations, all of which have these two functions::

    decompose(matrices) -> values, vectors
    differentiate(grad_values, grad_vectors, values, vectors, guard) -> grad_matrices

* matrices, vectors and their gradients (n, d, d), values (n, d), with n and d positive, contiguous,
  float32 or float64. Results are new contiguous tensors.
* ``decompose`` reads the lower triangle. Eigenvalues ascend, eigenvectors are columns. A matrix
  with an entry that is not finite, also above the diagonal, gets NaN and nothing else does.
* ``differentiate`` is the guarded gradient of ``derivatives.py``: a symmetric matrix, zero where
  the eigenvalues are NaN.
"""

from typing import Any

import torch
from torch import Tensor

from eqlib.kernels.autocast import without_autocast
from eqlib.kernels.symmetric_eigh.derivatives import differentiate_gradient
from eqlib.kernels.symmetric_eigh.implementations import load


@torch.library.custom_op("eqlib::symmetric_eigh", mutates_args=())
def symmetric_eigh(matrices: Tensor, guard: float, implementation: str) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors.

    Args:
        matrices: (..., d, d).
        guard: of the derivative.
        implementation: "auto" or one of ``NAMES``.
    """
    if matrices.numel() == 0:
        return matrices.new_empty(matrices.shape[:-1]), matrices.new_empty(matrices.shape)
    how = load(implementation, matrices.device, matrices.dtype, matrices.shape[-1])
    with without_autocast(matrices.device.type):
        values, vectors = how.decompose(_as_list(matrices, 2))
    return values.view(matrices.shape[:-1]), vectors.view(matrices.shape)


@symmetric_eigh.register_fake
def _(matrices: Tensor, guard: float, implementation: str) -> tuple[Tensor, Tensor]:
    return matrices.new_empty(matrices.shape[:-1]), matrices.new_empty(matrices.shape)


@torch.library.custom_op("eqlib::symmetric_eigh_gradient", mutates_args=())
def symmetric_eigh_gradient(
    grad_values: Tensor,
    grad_vectors: Tensor,
    values: Tensor,
    vectors: Tensor,
    guard: float,
    implementation: str,
) -> Tensor:
    """Return the guarded gradient of the matrices, symmetric.

    Args:
        grad_values: cotangent of the eigenvalues, (..., d).
        grad_vectors: cotangent of the eigenvectors, (..., d, d).
        values: eigenvalues, ascending.
        vectors: eigenvectors.
        guard: distance of two eigenvalues, relative to the largest, where damping sets in.
        implementation: as in :func:`symmetric_eigh`.
    """
    if vectors.numel() == 0:
        return vectors.new_empty(vectors.shape)
    how = load(implementation, vectors.device, vectors.dtype, vectors.shape[-1])
    g, G = _as_list(grad_values, 1), _as_list(grad_vectors, 2)
    with without_autocast(vectors.device.type):
        gradient = how.differentiate(g, G, _as_list(values, 1), _as_list(vectors, 2), guard)
    return gradient.view(vectors.shape)


@symmetric_eigh_gradient.register_fake
def _(
    grad_values: Tensor,
    grad_vectors: Tensor,
    values: Tensor,
    vectors: Tensor,
    guard: float,
    implementation: str,
) -> Tensor:
    return vectors.new_empty(vectors.shape)


def _as_list(tensor: Tensor, axes: int) -> Tensor:
    """Merge the axes of the batch, also where there is none."""
    kept = tensor.shape[tensor.ndim - axes :]
    return tensor.reshape(-1, *kept).contiguous()


def _save(ctx: Any, inputs: tuple[Tensor, float, str], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*output)
    ctx.settings = inputs[1:]


def _backward(ctx: Any, grad_values: Tensor, grad_vectors: Tensor) -> tuple[Tensor, None, None]:
    gradient = symmetric_eigh_gradient(grad_values, grad_vectors, *ctx.saved_tensors, *ctx.settings)
    return gradient, None, None


def _save_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.guard = inputs[4]


def _gradient_backward(ctx: Any, seed: Tensor) -> tuple[Tensor | None, ...]:
    with without_autocast(seed.device.type):
        found = differentiate_gradient(seed, ctx.saved_tensors, ctx.guard)
    return (*found, None, None)


def decompose_many(
    info: Any, in_dims: tuple[Any, ...], matrices: Tensor, guard: float, implementation: str
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    """Decompose under vmap, whose axis is one more of the batch."""
    return symmetric_eigh(matrices.movedim(in_dims[0], 0), guard, implementation), (0, 0)


def differentiate_many(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Tensor, int]:
    """Differentiate under vmap, likewise."""
    operands = in_front(info, in_dims, arguments[:4])
    return symmetric_eigh_gradient(*operands, *arguments[4:]), 0


def in_front(
    info: Any, in_dims: tuple[int | None, ...], tensors: tuple[Tensor, ...]
) -> list[Tensor]:
    """Bring the axis of vmap, or copies where there is none, to the front."""
    return [
        tensor.expand(info.batch_size, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
        for tensor, axis in zip(tensors, in_dims, strict=False)
    ]


symmetric_eigh.register_autograd(_backward, setup_context=_save)
symmetric_eigh_gradient.register_autograd(_gradient_backward, setup_context=_save_gradient)
symmetric_eigh.register_vmap(decompose_many)
symmetric_eigh_gradient.register_vmap(differentiate_many)
