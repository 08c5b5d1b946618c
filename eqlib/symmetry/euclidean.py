"""The isometries of n-dimensional space and their subgroups SO, O and SE."""

from torch import Tensor

from eqlib.symmetry.matrix import MatrixGroup


class EuclideanGroup(MatrixGroup):
    r"""Isometries :math:`x \mapsto R x + t` of n-dimensional space.

    Args:
        dimension: n, at least 2.

    Raises:
        ValueError: ``dimension`` is not an integer of at least 2.
    """

    def _inverse(self, matrix: Tensor) -> Tensor:
        return matrix.mT


class SO(EuclideanGroup):
    """Rotations about the origin of n-dimensional space."""


class O(EuclideanGroup):  # noqa: E742 - the name of this group
    """Rotations and reflections that fix the origin of n-dimensional space."""

    reflections = True


class SE(EuclideanGroup):
    """Rotations and translations of n-dimensional space: the rigid motions."""

    translations = True


class E(EuclideanGroup):
    """Rotations, reflections and translations of n-dimensional space: all isometries."""

    reflections = True
    translations = True
