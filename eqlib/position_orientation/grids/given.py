"""Checks of grids that a user brings."""

import numpy as np
from torch import Tensor

from eqlib.position_orientation.grids.tables import Table
from eqlib.position_orientation.spaces.space import Space

ROUNDING = 1e-3
"""Largest deviation from unit length, or from a right angle, that is taken for rounding."""


def given_orientations(orientations: Tensor, space: Space) -> Table:
    """Orientations in float64 without their rounding errors.

    Args:
        orientations: unit vectors or rotation matrices.
        space: tells which.

    Raises:
        ValueError: they are neither, or not of one grid.
    """
    space.check_orientations("orientations", orientations)
    if orientations.ndim != 1 + len(space.orientation_shape) or len(orientations) == 0:
        raise ValueError(
            f"orientations: expected one grid of at least one orientation, got shape "
            f"{tuple(orientations.shape)}"
        )
    if space.kind == "positions":
        raise ValueError(f"space: {space.name} has no orientations; expected R3xS2 or such")
    points = orientations.detach().cpu().double().numpy()
    if space.kind == "frames":
        left, stretch, right = np.linalg.svd(points)
        wrong = np.abs(stretch - 1).max() > ROUNDING or np.linalg.det(points).min() < 0
        exact, what = left @ right, "rotation matrices"
    else:
        lengths = np.linalg.norm(points, axis=1, keepdims=True)
        wrong = bool((np.abs(lengths - 1) > ROUNDING).any())
        exact, what = points / np.where(lengths > 0, lengths, 1), "unit vectors"
    if wrong or not np.isfinite(exact).all():
        raise ValueError(f"orientations: {space.name} expects {what}; normalise them first")
    return np.asarray(exact)


def given_weights(weights: Tensor, size: int) -> Table:
    """Weights in float64, of sum one.

    Args:
        weights: numbers of positive sum.
        size: how many they have to be.

    Raises:
        ValueError: there are more or fewer, or their sum is not positive.
    """
    if weights.shape != (size,):
        raise ValueError(f"weights: expected shape ({size},), got {tuple(weights.shape)}")
    values = weights.detach().cpu().double().numpy()
    if not 0 < values.sum() < np.inf:
        raise ValueError(f"weights: expected a positive sum, got {values.sum()}")
    return np.asarray(values / values.sum())
