"""The base of all groups that move space: maps by a matrix and a translation."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from eqlib.symmetry.elements import Element
from eqlib.symmetry.group import Group
from eqlib.symmetry.sampling import in_ball, orthogonal_matrices


@dataclass(frozen=True, repr=False)
class MatrixGroup(Group):
    r"""Maps :math:`x \mapsto M x + t` of d-dimensional space, with matrices of one kind.

    Matrices are drawn as a product of a rotation or a reflection, as far as the group has them
    (``turns``), and of a symmetric positive matrix of the kind ``stretching``, if there is one.

    Args:
        dimension: d, at least 2.

    Raises:
        ValueError: ``dimension`` is not an integer of at least 2.
    """

    dimension: int

    stretching = ""

    def __post_init__(self) -> None:
        if not isinstance(self.dimension, int) or self.dimension < 2:
            raise ValueError(f"dimension: expected an integer of at least 2, got {self.dimension}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dimension})"

    @property
    def turns(self) -> tuple[str, ...]:
        """The kinds of orthogonal matrices other than the identity."""
        return ("rotation", "reflection") if self.reflections else ("rotation",)

    @property
    def pure_kinds(self) -> tuple[str, ...]:
        """Rotation, reflection, the kind of stretching and translation, as far as there are any."""
        return (*self.turns, *self._others())

    @property
    def full_kinds(self) -> tuple[str, ...]:
        """Rotation or reflection, followed by all other kinds that the group has."""
        turns: list[tuple[str, ...]] = [(turn,) for turn in self.turns] or [()]
        return tuple(" + ".join((*turn, *self._others())) for turn in turns)

    def identity(self, nodes: int = 0) -> Element:
        """The element that moves nothing."""
        matrix = torch.eye(self.dimension, dtype=torch.float64, device="cpu")
        return Element(matrix, torch.zeros_like(matrix[0]) if self.translations else None)

    def compose(self, first: Element, second: Element) -> Element:
        r"""The product :math:`(M_1 M_2,\; M_1 t_2 + t_1)`."""
        matrix, translation = self._parts(first)
        inner_matrix, inner_translation = self._parts(second)
        if translation is None or inner_translation is None:
            return Element(matrix @ inner_matrix)
        return Element(matrix @ inner_matrix, _times(matrix, inner_translation) + translation)

    def inverse(self, element: Element) -> Element:
        r"""The inverse :math:`(M^{-1},\; -M^{-1} t)`."""
        matrix, translation = self._parts(element)
        inverse = self._inverse(matrix)
        if translation is None:
            return Element(inverse)
        return Element(inverse, -_times(inverse, translation))

    def _others(self) -> tuple[str, ...]:
        translation = "translation" if self.translations else ""
        return tuple(kind for kind in (self.stretching, translation) if kind)

    def _parts(self, element: Element) -> tuple[Tensor, Tensor | None]:
        if element.matrix is None or (self.translations and element.translation is None):
            missing = "matrix" if element.matrix is None else "translation"
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

        matrix = torch.eye(self.dimension, dtype=torch.float64, device=generator.device)
        if self.turns:
            turn = self._draw_turns(generator, len(labels), flags("reflection"))
            matrix = torch.where(flags(*self.turns)[:, None, None], turn, matrix)
        if self.stretching:
            stretch = self._draw_stretchings(generator, len(labels))
            still = torch.eye(self.dimension, dtype=torch.float64, device=generator.device)
            chosen = flags(self.stretching)[:, None, None]
            matrix = matrix @ torch.where(chosen, stretch, still)
        if not self.translations:
            return Element(matrix)
        translation = reach * in_ball(generator, len(labels), self.dimension)
        return Element(matrix, translation * flags("translation")[:, None])

    def _draw_turns(
        self, generator: torch.Generator, samples: int, mirrored: Bool[Tensor, "samples"]
    ) -> Float[Tensor, "samples d d"]:
        """Orthogonal matrices, of determinant -1 where ``mirrored``."""
        return orthogonal_matrices(generator, samples, self.dimension, mirrored)

    def _draw_stretchings(
        self, generator: torch.Generator, samples: int
    ) -> Float[Tensor, "samples d d"]:
        """Symmetric positive matrices of the kind ``stretching``."""
        raise NotImplementedError(f"{self!r} has no stretching")

    @abstractmethod
    def _inverse(self, matrix: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch d d"]:
        """The inverses of matrices of the group."""


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)
