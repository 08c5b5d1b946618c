"""How rigid motions act on orientations."""

from dataclasses import dataclass

from torch import Tensor

from eqlib.position_orientation.spaces.space import Space
from eqlib.symmetry import Element, NodeOrder, Representation, Vector
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


@dataclass(frozen=True)
class EdgeScalars(Representation):
    """Invariants of edges: rows in a fixed order, or matrices of clouds of one size.

    Permutations leave rows (edges, s) where they are, as they relabel the nodes of an
    ``edge_index``, and act on both axes of nodes of matrices (clouds, nodes, nodes, s).
    """

    def act(self, element: Element, tensor: Tensor) -> Tensor:
        """The scalars of the same edges after relabelling."""
        if tensor.ndim - len(element.batch_shape) < 4:
            return tensor
        return NodeOrder(-3, -2).act(element, tensor)

    def validate(self, name: str, tensor: Tensor, group: Group) -> None:
        """Refuse all but rows and matrices of scalars."""
        if tensor.ndim not in (2, 4):
            raise ValueError(
                f"{name}: expected shape (edges, s) or (clouds, nodes, nodes, s), "
                f"got {tuple(tensor.shape)}"
            )
