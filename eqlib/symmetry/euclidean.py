"""The isometries of n-dimensional space and their subgroups SO, O and SE."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.symmetry.elements import Element
from eqlib.symmetry.group import Group


@dataclass(frozen=True, repr=False)
class EuclideanGroup(Group):
    r"""Isometries :math:`x \mapsto R x + t` of n-dimensional space.

    Args:
        dimension: n, at least 2.

    Raises:
        ValueError: ``dimension`` is not an integer of at least 2.
    """

    dimension: int

    def __post_init__(self) -> None:
        if not isinstance(self.dimension, int) or self.dimension < 2:
            raise ValueError(f"dimension: expected an integer of at least 2, got {self.dimension}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dimension})"

    @property
    def pure_kinds(self) -> tuple[str, ...]:
        """Rotation, and reflection and translation where the group has them."""
        return (*self._turns(), *(("translation",) if self.translations else ()))

    @property
    def full_kinds(self) -> tuple[str, ...]:
        """Rotation or reflection, followed by a translation where the group has them."""
        return tuple(
            f"{turn} + translation" if self.translations else turn for turn in self._turns()
        )

    def identity(self, nodes: int = 0) -> Element:
        """The element that moves nothing."""
        rotation = torch.eye(self.dimension, dtype=torch.float64, device="cpu")
        return Element(rotation, torch.zeros_like(rotation[0]) if self.translations else None)

    def compose(self, first: Element, second: Element) -> Element:
        r"""The product :math:`(R_1 R_2,\; R_1 t_2 + t_1)`."""
        rotation, translation = self._parts(first)
        inner_rotation, inner_translation = self._parts(second)
        if translation is None or inner_translation is None:
            return Element(rotation @ inner_rotation)
        return Element(rotation @ inner_rotation, _times(rotation, inner_translation) + translation)

    def inverse(self, element: Element) -> Element:
        r"""The inverse :math:`(R^\top,\; -R^\top t)`."""
        rotation, translation = self._parts(element)
        if translation is None:
            return Element(rotation.mT)
        return Element(rotation.mT, -_times(rotation.mT, translation))

    def _turns(self) -> tuple[str, ...]:
        return ("rotation", "reflection") if self.reflections else ("rotation",)

    def _parts(self, element: Element) -> tuple[Tensor, Tensor | None]:
        if element.matrix is None or (self.translations and element.translation is None):
            missing = "rotation" if element.matrix is None else "translation"
            raise ValueError(f"element: it has no {missing}, so it is not one of {self!r}")
        return element.matrix, element.translation if self.translations else None

    def _draw(
        self,
        generator: torch.Generator,
        labels: Sequence[frozenset[str]],
        reach: float,
        batch: Tensor | None,
    ) -> Element:
        def flags(*names: str) -> Tensor:
            chosen = [not label.isdisjoint(names) for label in labels]
            return torch.tensor(chosen, dtype=torch.bool, device=generator.device)

        rotation = _haar(generator, len(labels), self.dimension, flags("reflection"))
        still = torch.eye(self.dimension, dtype=torch.float64, device=generator.device)
        turned = flags("rotation", "reflection")
        rotation = torch.where(turned[:, None, None], rotation, still)
        if not self.translations:
            return Element(rotation)
        translation = reach * _uniform_in_ball(generator, len(labels), self.dimension)
        return Element(rotation, translation * flags("translation")[:, None])


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


def _haar(
    generator: torch.Generator, samples: int, dimension: int, mirrored: Tensor
) -> Float[Tensor, "samples d d"]:
    """Haar-uniform orthogonal matrices, of determinant -1 where ``mirrored``.

    Source:
        Mezzadri, How to generate random matrices from the classical compact groups, 2007: the Q of
        a Gaussian matrix is uniform once the signs make the diagonal of its R positive.
    """
    gaussian = _normal(generator, samples, dimension, dimension)
    Q, R = torch.linalg.qr(gaussian)
    Q = Q * R.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    flip = (torch.linalg.det(Q) < 0) != mirrored
    sign = torch.ones_like(Q[:, 0])
    sign[:, 0] = torch.where(flip, -1.0, 1.0)
    return Q * sign.unsqueeze(-2)


def _uniform_in_ball(
    generator: torch.Generator, samples: int, dimension: int
) -> Float[Tensor, "samples d"]:
    """Points uniform in the unit ball."""
    direction = torch.nn.functional.normalize(_normal(generator, samples, dimension), dim=-1)
    volume = torch.rand(
        samples, 1, generator=generator, dtype=torch.float64, device=generator.device
    )
    return direction * volume ** (1 / dimension)


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)
