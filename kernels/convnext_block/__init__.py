"""A residual block that normalises channels and mixes them in two layers."""

from eqlib.kernels.convnext_block.implementations import NAMES, pick, whynot
from eqlib.kernels.convnext_block.op import convnext_block, convnext_block_backward

__all__ = ["NAMES", "convnext_block", "convnext_block_backward", "pick", "whynot"]
