"""Even grids of directions in the plane."""

import numpy as np

from eqlib.position_orientation.grids.tables import Table


def uniform(size: int) -> Table:
    r"""Directions at the angles :math:`2 \pi k / O`.

    Built from one octant by reflections as far as the symmetry of the grid goes, so that opposite
    directions, and those of the coordinate axes, are so exactly.

    Args:
        size: number O of directions.
    """
    eighths = 8 * np.arange(size)  # angles in units of a turn / (8 O)
    octant, rest = np.divmod(eighths, size)
    odd = octant % 2 == 1
    part = np.where(odd, size - rest, rest)
    angle = part * (np.pi / (4 * size))
    cosine = np.cos(angle)
    sine = np.where(part == size, cosine, np.sin(angle))  # at the diagonal, both to the last digit
    # The octants swap and negate the coordinates of the first one.
    swap = np.isin(octant, (1, 2, 5, 6))
    x, y = np.where(swap, sine, cosine), np.where(swap, cosine, sine)
    return np.stack(
        [np.where(np.isin(octant, (2, 3, 4, 5)), -x, x), np.where(octant >= 4, -y, y)], axis=-1
    )
