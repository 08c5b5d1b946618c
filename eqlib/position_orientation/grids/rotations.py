"""Grids of rotations, most of which the half turns about the coordinate axes map to themselves."""

import numpy as np

from eqlib.position_orientation.grids.fibonacci import fibonacci_quaternions
from eqlib.position_orientation.grids.platonic import GOLDEN
from eqlib.position_orientation.grids.repulsion import lowest
from eqlib.position_orientation.grids.tables import Table, distinct

GROUP_SIZES = (12, 24, 60)


def rotation_group(size: int) -> Table:
    """The rotations of a Platonic solid: a grid that all of its elements map to itself.

    The half turns about the coordinate axes are among them. The largest degree up to which the
    mean over the group is that over all rotations is 2 for the tetrahedron, 3 for the octahedron
    and 5 for the icosahedron.

    Args:
        size: 12 (tetrahedron), 24 (octahedron and cube) or 60 (icosahedron and dodecahedron).
    """
    third = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    half = np.diag([1.0, -1, -1])
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    # A fifth of a turn about the corner (0, 1, golden) of the icosahedron.
    fifth = 0.5 * np.array(
        [[GOLDEN - 1, -GOLDEN, 1], [GOLDEN, 1, GOLDEN - 1], [-1, GOLDEN - 1, GOLDEN]]
    )
    generators = {12: [third, half], 24: [third, quarter], 60: [third, half, fifth]}[size]
    return _generated(generators)


def half_turn_orbits(size: int) -> Table:
    """Orbits of rotations under the half turns about the coordinate axes, which repel each other.

    Rotations are quaternions up to sign, points of a sphere in four dimensions; there both signs of
    all rotations take part in the repulsion.

    Args:
        size: a multiple of 4.
    """
    units = np.stack([_products(row) for row in np.eye(4)])
    group = np.concatenate([units, -units])
    seeds = lowest(size // 4, group)
    return rotation_matrices((units[:, None] @ seeds[..., None])[..., 0].reshape(-1, 4))


def repelled_rotations(size: int) -> Table:
    """Rotations that repel each other as quaternions up to sign.

    Args:
        size: their number.
    """
    return rotation_matrices(lowest(size, np.stack([np.eye(4), -np.eye(4)])))


def spiral_rotations(size: int) -> Table:
    """Rotations along the super-Fibonacci spiral.

    Args:
        size: their number.
    """
    return rotation_matrices(fibonacci_quaternions(size))


def rotation_matrices(quaternions: Table) -> Table:
    """Rotation matrices (..., 3, 3) of unit quaternions, the scalar part first.

    Args:
        quaternions: of shape (..., 4); their sign does not matter.
    """
    w, x, y, z = np.moveaxis(quaternions, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _products(quaternion: Table) -> Table:
    """The matrix that multiplies quaternions by one from the left."""
    w, x, y, z = quaternion
    return np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]]) + 0.0


def _generated(generators: list[Table]) -> Table:
    """All products of some rotations."""
    elements = np.eye(3)[None]
    while True:
        products = [elements, *(elements @ generator for generator in generators)]
        larger = distinct(np.concatenate(products))
        if len(larger) == len(elements):
            return elements + 0.0
        elements = larger
