"""Networks that classify or embed graphs."""

from eqlib.models.graphs.networks.framed import FAGIN, FAMLP, GAGIN, FrameAveraged
from eqlib.models.graphs.networks.gin import GIN, IdentifiedGIN
from eqlib.models.graphs.networks.mlp import MLP

__all__ = ["FAGIN", "FAMLP", "GAGIN", "GIN", "MLP", "FrameAveraged", "IdentifiedGIN"]
