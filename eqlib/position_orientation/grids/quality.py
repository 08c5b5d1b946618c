"""How even a grid of orientations is."""

from typing import NamedTuple

import numpy as np

from eqlib.position_orientation.grids.grid import OrientationGrid
from eqlib.position_orientation.grids.tables import Table


class GridQuality(NamedTuple):
    """Figures by which grids are compared.

    Attributes:
        space: such as "R3xS2".
        kind: as the grid was asked for.
        size: number of orientations.
        strength: degree up to which means are exact.
        covering_radius: largest angle from any orientation to the nearest of the grid, in degrees.
        separation: smallest angle between two orientations of the grid, in degrees.
        signs: changes of signs of coordinates that map the grid to itself: "all", those of
            determinant one ("proper"), or "none".
        antipodal: whether it has the opposite of each of its directions.
    """

    space: str
    kind: str
    size: int
    strength: int
    covering_radius: float
    separation: float
    signs: str
    antipodal: bool


def grid_quality(grid: OrientationGrid) -> GridQuality:
    """Figures by which grids are compared.

    Angles between rotations are those of the turn from one to the other.

    Args:
        grid: of directions or rotations.

    Raises:
        ValueError: the space of the grid has positions alone.
    """
    space = grid.space
    if space.kind == "positions":
        raise ValueError(
            f"grid: {space.name} has no orientations to compare; expected a grid of directions or "
            "rotations"
        )
    points = grid.orientations.detach().cpu().numpy()
    # Quaternions of both signs: their angles are half of those of the turns.
    turns = 2 if space.kind == "frames" else 1
    if turns == 2:
        quaternions = _quaternions(points)
        points = np.concatenate([quaternions, -quaternions])
    return GridQuality(
        space=space.name,
        kind=grid.kind,
        size=grid.size,
        strength=grid.strength,
        covering_radius=turns * _covering_radius(points),
        separation=min(180.0, turns * _separation(points)),
        signs=_signs(grid),
        antipodal=len(grid.opposite) > 0,
    )


def _signs(grid: OrientationGrid) -> str:
    if not grid.sign_symmetric():
        return "none"
    if grid.space.kind == "frames":
        return "proper"
    return "all" if grid.sign_symmetric(f"E({grid.space.dimension})") else "proper"


def _covering_radius(points: Table) -> float:
    """Angle from the point of the sphere that is farthest from all points, in degrees.

    The largest empty cap touches the points of a face of their convex hull.
    """
    from scipy.spatial import ConvexHull

    dimension = points.shape[1]
    centred = points - points.mean(axis=0)
    values, directions = np.linalg.svd(centred, full_matrices=False)[1:]
    if (values > 1e-9).sum() == dimension and len(points) > dimension:
        heights = -ConvexHull(points).equations[:, -1]
    else:  # all on one plane, line or point: the cap is centred beyond it
        spanned = directions[values > 1e-9]
        mean = points.mean(axis=0)
        heights = -np.linalg.norm([mean - mean @ spanned.T @ spanned], axis=1)
    return float(np.degrees(np.arccos(np.clip(heights.min(), -1, 1))))


def _separation(points: Table) -> float:
    """Smallest angle between two points, in degrees; 180 for a single one."""
    cosines = points @ points.T
    np.fill_diagonal(cosines, -1)
    return float(np.degrees(np.arccos(np.clip(cosines.max(), -1, 1))))


def _quaternions(rotations: Table) -> Table:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_matrix(rotations).as_quat())
