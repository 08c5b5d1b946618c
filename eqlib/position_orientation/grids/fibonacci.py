"""Spirals: nearly even grids of any size, without symmetry."""

import numpy as np

from eqlib.position_orientation.grids.tables import Table

SPIRAL = (2**0.5, 1.533751168755204288118041)
"""The super-Fibonacci spiral's two constants; the second solves psi^4 = psi + 4."""


def fibonacci(size: int) -> Table:
    r"""Fibonacci's spiral: heights :math:`1 - (2k + 1)/O`, azimuths :math:`\pi (1 + \sqrt5) k`.

    Args:
        size: number O of directions, k runs from 1/2 to O - 1/2 in the azimuth.
    """
    k = np.arange(size)
    height = 1 - (2 * k + 1) / size
    azimuth = np.pi * (1 + 5**0.5) * (k + 0.5)
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), height], axis=-1)


def fibonacci_quaternions(size: int) -> Table:
    """Unit quaternions along the super-Fibonacci spiral, a nearly even grid of rotations.

    Args:
        size: their number.

    Source:
        Alexa, Super-Fibonacci Spirals: Fast, Low-Discrepancy Sampling of SO(3), CVPR 2022.
    """
    s = np.arange(size) + 0.5
    alpha, beta = 2 * np.pi * s / SPIRAL[0], 2 * np.pi * s / SPIRAL[1]
    inner, outer = np.sqrt(s / size), np.sqrt(1 - s / size)
    return np.stack(
        [
            inner * np.sin(alpha),
            inner * np.cos(alpha),
            outer * np.sin(beta),
            outer * np.cos(beta),
        ],
        axis=-1,
    )
