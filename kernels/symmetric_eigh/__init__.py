"""Eigendecomposition of symmetric matrices, with derivatives that stay finite where it has none."""

from eqlib.kernels.symmetric_eigh.implementations import NAMES, pick, whynot
from eqlib.kernels.symmetric_eigh.op import symmetric_eigh, symmetric_eigh_gradient
from eqlib.kernels.symmetric_eigh.transforms import decompose

__all__ = ["NAMES", "decompose", "pick", "symmetric_eigh", "symmetric_eigh_gradient", "whynot"]
