"""How rigid motions act on orientations."""

from dataclasses import dataclass

from torch import Tensor

from eqlib.position_orientation.spaces.space import Space
from eqlib.symmetry import Element, Vector
from eqlib.symmetry.group import Group
from eqlib.symmetry.representations import Components


@dataclass(frozen=True)
class Orientations(Components):
    """Orientations that turn with space: unit vectors in rows, or rotations, axes in columns.

    Args:
        space: of the orientations.
    """

    space: Space

    def act(self, element: Element, tensor: Tensor) -> Tensor:
        r"""The orientations :math:`M o`."""
        if self.space.kind == "frames":
            return Vector().act(element, tensor.mT).mT
        return Vector().act(element, tensor) if self.space.kind == "directions" else tensor

    def size(self, group: Group) -> int | None:
        """Number of components, that of the dimension."""
        return None if self.space.kind == "positions" else group.dimension
