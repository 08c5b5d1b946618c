"""Linear maps of the pairs of ragged subgraphs, and sums and broadcasts between pairs and nodes."""

from eqlib.kernels.pair_linear.arguments import Pairs
from eqlib.kernels.pair_linear.implementations import NAMES, pick, whynot
from eqlib.kernels.pair_linear.layer import Nodes, Settings, pair_layer, pair_layer_gradient
from eqlib.kernels.pair_linear.layer_library import whynot as whynot_layer
from eqlib.kernels.pair_linear.op import pair_linear, pair_reduce, pair_weight_gradient

__all__ = [
    "NAMES",
    "Nodes",
    "Pairs",
    "Settings",
    "pair_layer",
    "pair_layer_gradient",
    "pair_linear",
    "pair_reduce",
    "pair_weight_gradient",
    "pick",
    "whynot",
    "whynot_layer",
]
