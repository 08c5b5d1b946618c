"""The one table of tolerances: relative equivariance errors by dtype."""

from eqlib.symmetry import TOLERANCE

EQUIVARIANCE = TOLERANCE
