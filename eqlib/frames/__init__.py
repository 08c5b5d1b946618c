"""Frame averaging: exact equivariance for any network."""

from eqlib.frames.average import FrameAverage
from eqlib.frames.express import from_frames, to_frames
from eqlib.frames.pca import PCAFrames, pca_frames

__all__ = ["FrameAverage", "PCAFrames", "from_frames", "pca_frames", "to_frames"]
