"""Even grids of directions that changes of signs of the coordinates map to themselves."""

import numpy as np

from eqlib.position_orientation.grids import platonic
from eqlib.position_orientation.grids.orbit_table import SEEDS
from eqlib.position_orientation.grids.repulsion import lowest, repelled
from eqlib.position_orientation.grids.tables import Table, sign_changes, sign_orbit

SAME_AS_PLATONIC = (6, 8, 12, 32)
"""Sizes at which the best sign orbit is a Platonic solid, or the union of two."""


def sign_orbits(size: int) -> Table:
    r"""Orbits of a few seeds under all eight changes of signs, which repel each other.

    A seed inside an octant has eight images, one in a coordinate plane four, and one on an axis
    two. Up to 64 points, seeds and their places are those of lowest Coulomb energy with
    :math:`\sum_k o_k o_k^\top = \frac O3 I`, found by many descents from random starts, so that
    the mean of polynomials up to degree 3 is exact. Their energy is within 1 percent of the lowest
    one without symmetry. Larger grids are minima of the energy alone.

    Args:
        size: an even number from 6 to 64, or a multiple of 8.
    """
    if size in SAME_AS_PLATONIC:
        return platonic.platonic(size)
    if size in SEEDS:
        return sign_orbit(np.array(SEEDS[size]))
    group = np.stack([np.diag(signs) for signs in sign_changes(3, proper=False)])
    return sign_orbit(repelled(_octant(size // 8), group))


def proper_sign_orbits(size: int) -> Table:
    """Orbits of seeds under the four changes of signs of determinant one, which repel each other.

    They are the half turns about the axes. Without mirror planes, points are a little more even
    than those of :func:`sign_orbits`, but opposites are no pairs.

    Args:
        size: a multiple of 4.
    """
    group = np.stack([np.diag(signs) for signs in sign_changes(3, proper=True)])
    return np.concatenate([group @ seed for seed in lowest(size // 4, group)])


def _octant(count: int) -> Table:
    """Nearly even unit vectors in the positive octant."""
    k = np.arange(count) + 0.5
    height = k / count
    azimuth = np.pi / 2 * np.modf((5**0.5 - 1) / 2 * k)[0]
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), height], axis=-1)
