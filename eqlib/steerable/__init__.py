"""Linear maps, gates, norms and radial bases for spherical tensors (..., (L+1)^2, channels)."""

from eqlib.steerable.gate import Gate
from eqlib.steerable.linear import EquivariantLinear
from eqlib.steerable.norm import EquivariantLayerNorm
from eqlib.steerable.radial import BesselBasis, GaussianBasis, cosine_cutoff, polynomial_cutoff

__all__ = [
    "BesselBasis",
    "EquivariantLayerNorm",
    "EquivariantLinear",
    "Gate",
    "GaussianBasis",
    "cosine_cutoff",
    "polynomial_cutoff",
]
