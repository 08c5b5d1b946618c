"""Groups that change lengths: scalings, similarities, linear and affine maps."""

import torch
from torch import Tensor

from eqlib.symmetry.matrix import MatrixGroup
from eqlib.symmetry.sampling import log_uniform, orthogonal_matrices

LARGEST_SCALE = 2.0
LARGEST_CONDITION = 10.0


class ConformalGroup(MatrixGroup):
    """Maps that keep angles: their matrix is a number times an orthogonal one."""

    preserves = "angles"
    stretching = "scaling"

    def _draw_stretchings(self, generator: torch.Generator, samples: int) -> Tensor:
        scale = log_uniform(generator, samples, 1, 1, largest=LARGEST_SCALE)
        return scale * torch.eye(self.dimension, dtype=scale.dtype, device=scale.device)

    def _inverse(self, matrix: Tensor) -> Tensor:
        return matrix.mT / matrix.square().sum((-2, -1), keepdim=True) * self.dimension


class Scaling(ConformalGroup):
    r"""Scalings :math:`x \mapsto s x` by one positive number, about the origin.

    Samples have a scale s between 1/2 and 2, with a uniform logarithm.

    Args:
        dimension: that of the space, at least 2.

    Raises:
        ValueError: ``dimension`` is not an integer of at least 2.
    """

    @property
    def turns(self) -> tuple[str, ...]:
        """None."""
        return ()


class Similarity(ConformalGroup):
    r"""Similarities :math:`x \mapsto s R x + t`, with :math:`s > 0` and reflections.

    The matrix of an element is :math:`s R`. Samples have a scale s between 1/2 and 2, with a
    uniform logarithm.

    Args:
        dimension: that of the space, at least 2.

    Raises:
        ValueError: ``dimension`` is not an integer of at least 2.
    """

    reflections = True
    translations = True


class LinearGroup(MatrixGroup):
    """Maps by any invertible matrix, which keep nothing but straight lines."""

    preserves = "lines"
    reflections = True
    stretching = "stretch"

    def _draw_stretchings(self, generator: torch.Generator, samples: int) -> Tensor:
        size = log_uniform(generator, samples, self.dimension, largest=LARGEST_CONDITION**0.5)
        proper = torch.zeros(samples, dtype=torch.bool, device=generator.device)
        axes = orthogonal_matrices(generator, samples, self.dimension, proper)
        stretch = axes * size[:, None] @ axes.mT
        return (stretch + stretch.mT) / 2  # symmetric to the last digit

    def _inverse(self, matrix: Tensor) -> Tensor:
        return torch.linalg.inv(matrix)


class GL(LinearGroup):
    r"""Linear maps :math:`x \mapsto M x` by any invertible matrix.

    By its polar decomposition, a matrix is a stretch (symmetric and positive) followed by a
    rotation or a reflection. Samples stretch by factors between :math:`10^{-1/2}` and
    :math:`10^{1/2}`, so that their condition number is at most 10.

    Args:
        dimension: that of the space, at least 2.

    Raises:
        ValueError: ``dimension`` is not an integer of at least 2.
    """


class Affine(LinearGroup):
    r"""Affine maps :math:`x \mapsto M x + t`, where :math:`M` is as in :class:`GL`.

    Args:
        dimension: that of the space, at least 2.

    Raises:
        ValueError: ``dimension`` is not an integer of at least 2.
    """

    translations = True
