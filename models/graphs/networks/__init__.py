"""Networks that classify or embed graphs."""

from eqlib.models.graphs.networks.framed import FAGIN, FAMLP, GAGIN, FrameAveraged
from eqlib.models.graphs.networks.gin import GIN, IdentifiedGIN
from eqlib.models.graphs.networks.mlp import MLP
from eqlib.models.graphs.networks.ppgn import PPGN
from eqlib.models.graphs.networks.spen import SPEN

__all__ = [
    "FAGIN",
    "FAMLP",
    "GAGIN",
    "GIN",
    "MLP",
    "PPGN",
    "SPEN",
    "FrameAveraged",
    "IdentifiedGIN",
]
