"""Linear maps of the pairs of ragged subgraphs, and sums and broadcasts between pairs and nodes."""

from eqlib.kernels.pair_linear.arguments import Pairs
from eqlib.kernels.pair_linear.implementations import NAMES, pick, whynot
from eqlib.kernels.pair_linear.mix import pair_mix
from eqlib.kernels.pair_linear.mix import whynot as whynot_mix
from eqlib.kernels.pair_linear.op import pair_linear, pair_reduce, pair_weight_gradient

__all__ = [
    "NAMES",
    "Pairs",
    "pair_linear",
    "pair_mix",
    "pair_reduce",
    "pair_weight_gradient",
    "pick",
    "whynot",
    "whynot_mix",
]
