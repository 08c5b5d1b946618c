"""Frame averaging: exact equivariance for any network."""

from eqlib.frames.affine import affine_frames
from eqlib.frames.average import FrameAverage
from eqlib.frames.axial import axial_frames
from eqlib.frames.express import from_frames, to_frames
from eqlib.frames.latent import LatentFrames
from eqlib.frames.local import LocalFrameAverage, local_frames
from eqlib.frames.lorentz import lorentz_frames
from eqlib.frames.minimal import minimal_frames
from eqlib.frames.patches import Patches, nearest_patches, patches_of_edges
from eqlib.frames.pca import pca_frames, scaling_frames
from eqlib.frames.permutation import (
    PermutationFrames,
    class_frames,
    permutation_frames,
    sample_orders,
)
from eqlib.frames.permutation_agreement import RelabellingAgreement, relabelling_agreement
from eqlib.frames.permutation_classes import NodeClasses, node_classes, row_classes
from eqlib.frames.permutation_search import search_frames
from eqlib.frames.piecewise import PiecewiseFrameAverage
from eqlib.frames.straddling import Straddling, piecewise_errors, straddling
from eqlib.frames.types import Frames, RaggedFrames
from eqlib.frames.variance import frame_variance
from eqlib.frames.weighted import weighted_frames

__all__ = [
    "FrameAverage",
    "Frames",
    "LatentFrames",
    "LocalFrameAverage",
    "NodeClasses",
    "Patches",
    "PermutationFrames",
    "PiecewiseFrameAverage",
    "RaggedFrames",
    "RelabellingAgreement",
    "Straddling",
    "affine_frames",
    "axial_frames",
    "class_frames",
    "frame_variance",
    "from_frames",
    "local_frames",
    "lorentz_frames",
    "minimal_frames",
    "nearest_patches",
    "node_classes",
    "patches_of_edges",
    "pca_frames",
    "permutation_frames",
    "piecewise_errors",
    "relabelling_agreement",
    "row_classes",
    "sample_orders",
    "scaling_frames",
    "search_frames",
    "straddling",
    "to_frames",
    "weighted_frames",
]
