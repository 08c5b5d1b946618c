"""Convolutions on positions and orientations, with kernels that a small network gives."""

from eqlib.kernels.position_orientation_conv.arguments import ATTRIBUTES, Arguments
from eqlib.kernels.position_orientation_conv.attributes import count_monomials
from eqlib.kernels.position_orientation_conv.implementations import NAMES, pick, whynot
from eqlib.kernels.position_orientation_conv.op import (
    position_orientation_conv,
    position_orientation_conv_backward,
)

__all__ = [
    "ATTRIBUTES",
    "NAMES",
    "Arguments",
    "count_monomials",
    "pick",
    "position_orientation_conv",
    "position_orientation_conv_backward",
    "whynot",
]
