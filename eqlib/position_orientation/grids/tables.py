"""What the grids share: float64 arrays, and the matrices that change signs of coordinates."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]


def sign_changes(dimension: int, proper: bool) -> Table:
    r"""The diagonals of all matrices :math:`\mathrm{diag}(\pm 1, \ldots, \pm 1)`.

    Args:
        dimension: n.
        proper: only those of determinant one: 2^(n-1) of the 2^n.
    """
    signs = np.array(list(product((1.0, -1.0), repeat=dimension)))
    return signs[signs.prod(axis=1) > 0] if proper else signs


def distinct(points: Table, tolerance: float = 1e-9) -> Table:
    """Points without repetitions, each where it stands first.

    Args:
        points: arrays of one shape along the first axis.
        tolerance: largest difference of entries that counts as none.
    """
    kept: list[Table] = []
    for point in points:
        if all(np.abs(point - other).max() > tolerance for other in kept):
            kept.append(point)
    return np.stack(kept)


def sign_orbit(seeds: Table, proper: bool = False) -> Table:
    """All points that sign changes of coordinates make from seeds, orbit by orbit.

    Args:
        seeds: points with a row each; zeros stay zeros, and give smaller orbits.
        proper: only sign changes of determinant one.
    """
    signs = sign_changes(seeds.shape[1], proper)
    return np.concatenate([distinct(signs * seed + 0.0) for seed in seeds])
