"""Grids of orientations, and how even they are."""

from eqlib.position_orientation.grids.grid import OrientationGrid
from eqlib.position_orientation.grids.quality import GridQuality, grid_quality

__all__ = ["GridQuality", "OrientationGrid", "grid_quality"]
