"""Products of matrices, one for every channel."""

from eqlib.kernels.channelwise_matmul.op import NAMES, channelwise_matmul, pick

__all__ = ["NAMES", "channelwise_matmul", "pick"]
