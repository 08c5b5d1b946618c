"""Which grid a space, a size and a kind stand for."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from eqlib.position_orientation.grids import circle, platonic, rotations, sign_orbits
from eqlib.position_orientation.grids.fibonacci import fibonacci
from eqlib.position_orientation.grids.repulsion import repelled_points
from eqlib.position_orientation.grids.tables import Table
from eqlib.position_orientation.spaces.space import Space

MOST_REPELLED = 256
"""Above this number of points, descents take tens of seconds."""


class Family(NamedTuple):
    """Grids of one kind.

    Attributes:
        points: the grid of a size.
        has: whether there is one of this size.
        sizes: the same in words.
    """

    points: Callable[[int], Table]
    has: Callable[[int], bool]
    sizes: str


def _any(size: int) -> bool:
    return size >= 1


def _few(size: int) -> bool:
    return 1 <= size <= MOST_REPELLED


def _multiple_of_4(size: int) -> bool:
    return _few(size) and size % 4 == 0


def _sign_orbit(size: int) -> bool:
    return _few(size) and (size % 8 == 0 or (size % 2 == 0 and 6 <= size <= 64))


_EVERY = "any size"
_FEW_SIZES = f"any size up to {MOST_REPELLED}"
_UNIFORM = Family(circle.uniform, _any, _EVERY)
_PLATONIC = Family(platonic.platonic, platonic.SIZES.__contains__, "4, 6, 8, 12, 20 and 32")
_SIGN_ORBITS = Family(
    sign_orbits.sign_orbits,
    _sign_orbit,
    f"even sizes from 6 to 64 and multiples of 8 up to {MOST_REPELLED}",
)
_FOURS = f"multiples of 4 up to {MOST_REPELLED}"
_GROUPS = Family(rotations.rotation_group, rotations.GROUP_SIZES.__contains__, "12, 24 and 60")
_TURN_ORBITS = Family(rotations.half_turn_orbits, _multiple_of_4, _FOURS)

FAMILIES: dict[tuple[str, int], dict[str, Family]] = {
    ("directions", 2): {"uniform": _UNIFORM},
    ("directions", 3): {
        "platonic": _PLATONIC,
        "sign_orbit": _SIGN_ORBITS,
        "proper_orbit": Family(sign_orbits.proper_sign_orbits, _multiple_of_4, _FOURS),
        "repulsion": Family(repelled_points, _few, _FEW_SIZES),
        "fibonacci": Family(fibonacci, _any, _EVERY),
    },
    ("frames", 3): {
        "platonic": _GROUPS,
        "proper_orbit": _TURN_ORBITS,
        "repulsion": Family(rotations.repelled_rotations, _few, _FEW_SIZES),
        "fibonacci": Family(rotations.spiral_rotations, _any, _EVERY),
    },
}
"""By what orientations are and the dimension, then by the kind of grid."""
SYMMETRIC = {
    ("directions", 2): (Family(circle.uniform, lambda size: size % 2 == 0, "even sizes"),),
    ("directions", 3): (_PLATONIC, _SIGN_ORBITS),
    ("frames", 3): (_GROUPS, _TURN_ORBITS),
}
"""Families that changes of signs map to themselves, the best one first."""


def build(space: Space, size: int, kind: str) -> Table:
    """The orientations of a grid.

    Args:
        space: tells what orientations are.
        size: their number.
        kind: the family, or "auto".

    Raises:
        ValueError: there is no grid of this kind and size.
    """
    if space.kind == "positions":
        return _nothing(space, size, kind)
    families = FAMILIES[space.kind, space.dimension]
    if kind != "auto" and kind not in families:
        raise ValueError(
            f"kind: {space.name} has the grids 'auto', {', '.join(map(repr, families))}; "
            f"got {kind!r}"
        )
    choices = SYMMETRIC[space.kind, space.dimension] if kind == "auto" else (families[kind],)
    for family in choices:
        if size >= 1 and family.has(size):
            return family.points(size)
    sizes = " and ".join(family.sizes for family in choices)
    free = next(reversed(families))
    mend = f"; kind={free!r} has any size" if kind != free else ""
    raise ValueError(f"size: kind={kind!r} has {sizes} for {space.name}, got {size}{mend}")


def _nothing(space: Space, size: int, kind: str) -> Table:
    """The one orientation without components."""
    if size != 1 or kind != "auto":
        raise ValueError(
            f"size: {space.name} has no orientations, which counts as one; expected size=1 and "
            f"kind='auto', got size={size} and kind={kind!r}"
        )
    return np.zeros((1, 0))
