"""N-body dynamics: charged particles in R^3, simulated and predicted."""

from eqlib.models.nbody.data import DataOptions, charged5
from eqlib.models.nbody.networks import (
    EGNN,
    FAGNN,
    GNN,
    PNITA,
    PONITA,
    GauntNet,
    Integrator,
    Linear,
)
from eqlib.models.nbody.task import NBody

__all__ = [
    "EGNN",
    "FAGNN",
    "GNN",
    "PNITA",
    "PONITA",
    "DataOptions",
    "GauntNet",
    "Integrator",
    "Linear",
    "NBody",
    "charged5",
]
