"""Spaces of positions with orientations, on which rigid motions act."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.symmetry import SE, E, as_group
from eqlib.symmetry.group import Group


@dataclass(frozen=True)
class Space:
    r"""A space of pairs of a position and an orientation.

    A rigid motion :math:`x \mapsto R x + t` takes the position p to :math:`R p + t` and the
    orientation o, a unit vector or a rotation matrix, to :math:`R o`.

    Attributes:
        name: such as "R3xS2".
        dimension: n, that of the positions.
        kind: what an orientation is: nothing ("positions"), a unit vector ("directions") or a
            rotation matrix ("frames"). In the plane a unit vector is a rotation.
    """

    name: str
    dimension: int
    kind: str

    @property
    def orientation_shape(self) -> tuple[int, ...]:
        """Shape of one orientation: (0,) where there is none, (n,) or (n, n)."""
        n = self.dimension
        return {"positions": (0,), "directions": (n,), "frames": (n, n)}[self.kind]

    def group(self, group: str | Group | None = None) -> Group:
        """The group that acts on the space.

        Args:
            group: rigid motions, such as "SE(3)", or with reflections, "E(3)"; by default without.

        Raises:
            ValueError: the group is another, or it reflects and orientations are rotations.
            TypeError: ``group`` is neither a name nor a group.
        """
        if group is None:
            return _GROUPS[f"SE({self.dimension})"]
        # Names that need no parsing, which compilers would not trace.
        known = _GROUPS[group] if isinstance(group, str) and group in _GROUPS else as_group(group)
        if type(known) not in (SE, E) or known.dimension != self.dimension:
            raise ValueError(
                f"group: {self.name} has SE({self.dimension}) and E({self.dimension}), "
                f"got {known!r}"
            )
        if known.reflections and self.kind == "frames":
            raise ValueError(
                f"group: reflections take the rotations of {self.name} to no rotations; "
                f"use SE({self.dimension}), or R3xS2"
            )
        return known

    def attributes(self, group: str | Group | None = None) -> str:
        """What a layer knows about an offset, seen from an orientation.

        Args:
            group: as in :meth:`group`.

        Returns:
            "axes": coordinates along axes of the orientation, a complete set of invariants;
            "perpendicular": the coordinate along the orientation and the distance from its line;
            "distance": the length of the offset.

        Raises:
            ValueError: the group does not act on the space.
            TypeError: ``group`` is neither a name nor a group.
        """
        reflections = self.group(group).reflections
        if self.kind == "positions":
            return "distance"
        if self.kind == "directions" and (self.dimension == 3 or reflections):
            return "perpendicular"
        return "axes"

    def axes(
        self, orientations: Float[Tensor, "*shape"], group: str | Group | None = None
    ) -> Float[Tensor, "*batch grid axes n"]:
        r"""Axes of orientations: rows of the matrix A in the attributes :math:`A r`.

        Args:
            orientations: unit vectors (..., grid, n), rotations (..., grid, n, n), or without any
                orientation (..., 1, 0).
            group: as in :meth:`group`.

        Returns:
            One row, o, for the attributes "perpendicular"; two, o and o turned by a right angle,
            under rotations of the plane; three, the columns of the rotation, for frames; none
            without orientations.

        Raises:
            ValueError: the shape does not fit, or the group does not act on the space.
            TypeError: ``group`` is neither a name nor a group.
        """
        attributes = self.attributes(group)
        self.check_orientations("orientations", orientations)
        if self.kind == "frames":
            return orientations.mT
        if self.kind == "positions":
            return orientations.new_empty(*orientations.shape[:-1], 0, self.dimension)
        if attributes == "perpendicular":
            return orientations.unsqueeze(-2)
        return torch.stack([orientations, quarter_turn(orientations)], dim=-2)

    def fibre_invariants(
        self,
        first: Float[Tensor, "*first"],
        second: Float[Tensor, "*second"],
        group: str | Group | None = None,
    ) -> Float[Tensor, "*batch grid others invariants"]:
        r"""Invariants of all pairs of orientations at one position.

        Directions have their cosine :math:`o \cdot p`, under rotations of the plane followed by
        the sine :math:`o \times p`; rotations have the nine entries of :math:`R_o^\top R_p`.

        Args:
            first: orientations o, as in :meth:`axes`.
            second: orientations p, of as many leading axes.
            group: as in :meth:`group`.

        Returns:
            Entry (o, p) of the two last axes but one; no invariant without orientations.

        Raises:
            ValueError: a shape does not fit, or the group does not act on the space.
            TypeError: ``group`` is neither a name nor a group.
        """
        attributes = self.attributes(group)
        self.check_orientations("first", first)
        self.check_orientations("second", second)
        if self.kind == "positions":
            batch = torch.broadcast_shapes(first.shape[:-2], second.shape[:-2])
            return first.new_empty(*batch, first.shape[-2], second.shape[-2], 0)
        if self.kind == "frames":
            return (first.mT.unsqueeze(-3) @ second.unsqueeze(-4)).flatten(-2)
        cosine = first @ second.mT
        if attributes == "perpendicular":
            return cosine.unsqueeze(-1)
        return torch.stack([cosine, quarter_turn(first) @ second.mT], dim=-1)

    def check_orientations(self, name: str, orientations: Tensor) -> None:
        """Raise unless a tensor has the shape of a grid of orientations.

        Args:
            name: that of the argument, for the message.
            orientations: what has to be of shape (..., grid) and :attr:`orientation_shape`.

        Raises:
            ValueError: the shape is another.
        """
        tail = self.orientation_shape
        if orientations.ndim <= len(tail) or orientations.shape[-len(tail) :] != tail:
            raise ValueError(
                f"{name}: {self.name} expects shape (..., grid, {', '.join(map(str, tail))}), "
                f"{_NAMES[self.kind]}; got {tuple(orientations.shape)}"
            )


_GROUPS: dict[str, Group] = {repr(group): group for group in (SE(2), E(2), SE(3), E(3))}
_NAMES = {
    "positions": "orientations without components",
    "directions": "unit vectors",
    "frames": "rotation matrices",
}
SPACES = {
    space.name: space
    for space in (
        Space("R2", 2, "positions"),
        Space("R3", 3, "positions"),
        Space("R2xS1", 2, "directions"),
        Space("R3xS2", 3, "directions"),
        Space("SE2", 2, "directions"),
        Space("SE3", 3, "frames"),
    )
}


def as_space(space: str | Space) -> Space:
    """Read a space from its name.

    Args:
        space: "R2", "R3", "R2xS1", "R3xS2", "SE2" (which is R2xS1) or "SE3"; a space is returned
            unchanged.

    Raises:
        ValueError: there is no space of this name.
        TypeError: ``space`` is neither a name nor a space.
    """
    if isinstance(space, Space):
        return space
    if not isinstance(space, str):
        raise TypeError(f"space: expected a name such as 'R3xS2', got {space!r}")
    if space not in SPACES:
        raise ValueError(f"space: there is no {space!r}; the spaces are {', '.join(SPACES)}")
    return SPACES[space]


def quarter_turn(vectors: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
    r"""Vectors of the plane turned by a right angle, :math:`(x, y) \mapsto (-y, x)`.

    The cross product is :math:`a \times b = \text{quarter\_turn}(a) \cdot b`.

    Args:
        vectors: of any length, in any unit.
    """
    x, y = vectors.unbind(-1)
    return torch.stack([-y, x], dim=-1)
