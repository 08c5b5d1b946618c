"""Grids of orientations, and how even they are."""

from eqlib.position_orientation.grids.grid import OrientationGrid, as_grid
from eqlib.position_orientation.grids.quality import GridQuality, grid_quality

__all__ = ["GridQuality", "OrientationGrid", "as_grid", "grid_quality"]
