"""Frame averaging: exact equivariance for any network."""

from eqlib.frames.average import FrameAverage
from eqlib.frames.constructions.affine import affine_frames
from eqlib.frames.constructions.axial import axial_frames
from eqlib.frames.constructions.lorentz import lorentz_frames
from eqlib.frames.constructions.minimal import minimal_frames
from eqlib.frames.constructions.pca import pca_frames, scaling_frames
from eqlib.frames.constructions.weighted import weighted_frames
from eqlib.frames.folding.express import from_frames, to_frames
from eqlib.frames.latent import LatentFrames
from eqlib.frames.local.average import LocalFrameAverage
from eqlib.frames.local.frames import local_frames
from eqlib.frames.local.patches import Patches, nearest_patches, patches_of_edges
from eqlib.frames.permutations.agreement import RelabellingAgreement, relabelling_agreement
from eqlib.frames.permutations.classes import NodeClasses, node_classes, row_classes
from eqlib.frames.permutations.frames import (
    PermutationFrames,
    class_frames,
    permutation_frames,
    sample_orders,
)
from eqlib.frames.permutations.search import search_frames
from eqlib.frames.piecewise.average import PiecewiseFrameAverage
from eqlib.frames.piecewise.straddling import Straddling, piecewise_errors, straddling
from eqlib.frames.types import Frames, RaggedFrames
from eqlib.frames.variance import frame_variance

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
