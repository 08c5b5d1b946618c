"""How well a mean over a grid of orientations stands for the mean over all of them."""

from collections.abc import Iterator

import numpy as np
import torch

from eqlib.harmonics import spherical_harmonics, wigner_d
from eqlib.position_orientation.grids.tables import Table
from eqlib.position_orientation.spaces.space import Space

HIGHEST_DEGREE = 12
"""Degrees beyond it are not looked for on the sphere and among rotations."""
EXACT = 1e-12
"""Largest mean of a function of unit mean square that counts as zero."""
SMALLEST_WEIGHT = 0.5
"""Of all weights, over that of equal ones: smaller ones would waste orientations."""


def strength(orientations: Table, weights: Table, space: Space) -> int:
    r"""The largest degree up to which the weighted mean over a grid is exact.

    .. math:: \sum_{ij} w_i w_j P_l(o_i \cdot o_j) = 0 \qquad l = 1, \ldots, t

    for directions in space; for those of the plane with the cosine of l times the angle, and for
    rotations with the character of degree l, in place of the Legendre polynomial.

    Args:
        orientations: the grid.
        weights: of sum one.
        space: tells what orientations are.

    Returns:
        t, for directions in space and rotations at most :data:`HIGHEST_DEGREE`.
    """
    degree = 0
    for functions in harmonics_by_degree(orientations, space):
        if np.abs(weights @ functions).max() > EXACT:
            break
        degree += 1
    return degree


def quadrature_weights(orientations: Table, space: Space) -> Table:
    r"""The weights nearest to equal ones with the highest exact degree.

    .. math::
        \min_w \sum_i (w_i - \tfrac1O)^2 \quad\text{with}\quad
        \sum_i w_i f(o_i) = \langle f \rangle \ \text{for all } f \text{ of degree up to } t

    where t is the last degree, from 1 on, for which all weights are at least half of the mean.

    Args:
        orientations: the grid.
        space: tells what orientations are.

    Returns:
        Positive weights of sum one; equal ones where these are best, as for Platonic solids.
    """
    size = len(orientations)
    equal = np.full(size, 1 / size)
    best, columns = equal, [np.ones((size, 1))]
    for functions in harmonics_by_degree(orientations, space):
        columns.append(functions)
        if np.abs(best @ functions).max() <= EXACT:
            continue
        weights = _nearest_exact(equal, np.concatenate(columns, axis=1))
        if weights is None or weights.min() * size < SMALLEST_WEIGHT:
            break
        best = weights
    return best


def harmonics_by_degree(orientations: Table, space: Space) -> Iterator[Table]:
    """All harmonic functions of degree 1, 2, ... at orientations, of unit mean square.

    Args:
        orientations: the grid.
        space: tells what orientations are.

    Yields:
        (grid, functions) of one degree: cosine and sine of the multiple angle, the spherical
        harmonics, or the entries of Wigner matrices.
    """
    if space.kind == "directions" and space.dimension == 2:
        angle = np.arctan2(orientations[:, 1], orientations[:, 0])
        for degree in range(1, len(orientations) + 1):
            yield 2**0.5 * np.stack([np.cos(degree * angle), np.sin(degree * angle)], axis=-1)
    elif space.kind == "directions":
        with torch.device("cpu"):  # whatever the default device
            points = torch.from_numpy(np.ascontiguousarray(orientations))
            values = spherical_harmonics(points, HIGHEST_DEGREE).numpy() * (4 * np.pi) ** 0.5
        for degree in range(1, HIGHEST_DEGREE + 1):
            yield values[:, degree**2 : (degree + 1) ** 2]
    elif space.kind == "frames":
        with torch.device("cpu"):
            rotations = torch.from_numpy(np.ascontiguousarray(orientations))
            matrices = wigner_d(rotations, HIGHEST_DEGREE)
        for degree in range(1, HIGHEST_DEGREE + 1):
            yield matrices[degree].numpy().reshape(len(orientations), -1) * (2 * degree + 1) ** 0.5


def _nearest_exact(equal: Table, functions: Table) -> Table | None:
    """Weights near equal ones whose sum is one and under which all other functions have mean 0."""
    size, count = functions.shape
    goal = np.zeros(count)
    goal[0] = 1
    if count > size:
        inverse = np.linalg.pinv(functions.T, rcond=1e-9)
    else:  # by normal equations, which are smaller
        inverse = functions @ np.linalg.pinv(functions.T @ functions, rcond=1e-12, hermitian=True)
    weights = equal
    for _ in range(3):  # the later steps take the rounding errors of the first away
        weights = weights + inverse @ (goal - weights @ functions)
    exact = np.abs(weights @ functions - goal).max() <= EXACT
    return weights if exact else None
