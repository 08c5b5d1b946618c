"""SE(n) weight sharing on positions and orientations."""

from eqlib.position_orientation.calibration import calibrate
from eqlib.position_orientation.convolution.block import ConvNeXtBlock, InteractionLayer
from eqlib.position_orientation.convolution.conv import PositionOrientationConv
from eqlib.position_orientation.convolution.kernel_network import Kernels
from eqlib.position_orientation.edges.geometry import Geometry, make_geometry
from eqlib.position_orientation.exact import GridTurns
from eqlib.position_orientation.fields.distribution import OrientationDistribution
from eqlib.position_orientation.fields.lift import (
    lift_harmonics,
    lift_matrices,
    lift_scalars,
    lift_vectors,
)
from eqlib.position_orientation.fields.readout import (
    read_harmonics,
    read_matrices,
    read_scalars,
    read_vectors,
)
from eqlib.position_orientation.graphs import graph_inputs
from eqlib.position_orientation.grids import GridQuality, OrientationGrid, grid_quality
from eqlib.position_orientation.net import Encoding, PositionOrientationNet, Prediction
from eqlib.position_orientation.options import EdgeOptions, KernelOptions, TurnOptions
from eqlib.position_orientation.spaces.features import GaussianDistances, RandomFourierFeatures
from eqlib.position_orientation.spaces.invariants import count_invariants, pair_invariants
from eqlib.position_orientation.spaces.space import Space, as_space
from eqlib.position_orientation.spaces.windows import polynomial_window

__all__ = [
    "ConvNeXtBlock",
    "EdgeOptions",
    "Encoding",
    "GaussianDistances",
    "Geometry",
    "GridQuality",
    "GridTurns",
    "InteractionLayer",
    "KernelOptions",
    "Kernels",
    "OrientationDistribution",
    "OrientationGrid",
    "PositionOrientationConv",
    "PositionOrientationNet",
    "Prediction",
    "RandomFourierFeatures",
    "Space",
    "TurnOptions",
    "as_space",
    "calibrate",
    "count_invariants",
    "graph_inputs",
    "grid_quality",
    "lift_harmonics",
    "lift_matrices",
    "lift_scalars",
    "lift_vectors",
    "make_geometry",
    "pair_invariants",
    "polynomial_window",
    "read_harmonics",
    "read_matrices",
    "read_scalars",
    "read_vectors",
]
