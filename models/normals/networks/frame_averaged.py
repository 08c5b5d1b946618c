"""The networks averaged over the principal frames of the whole cloud."""

from typing import Literal

from torch import nn

from eqlib.frames import FrameAverage
from eqlib.models.normals.networks.base import NormalsNetwork, Vectors
from eqlib.models.normals.networks.dgcnn import DGCNNFeatures, Graph
from eqlib.models.normals.networks.pointnet import PointNetFeatures
from eqlib.symmetry import Point, Signature, Vector, as_group

Group = Literal["SE(3)", "E(3)"]
Mode = Literal["full", "stochastic", "minimal"]


class FrameAveraged(NormalsNetwork):
    """A backbone averaged over the principal frames of its cloud.

    The backbone has to give vectors that agree between frames, sign included, lest their average
    vanish: it is trained on outward normals.

    Args:
        backbone: maps clouds (batch, nodes, 3) to vectors.
        group: group of the frames.
        train_mode: frames of a training step.
        eval_mode: frames of an evaluation.
    """

    def __init__(self, backbone: nn.Module, group: str, train_mode: str, eval_mode: str) -> None:
        signature = Signature(as_group(group), inputs={"points": Point()}, outputs=Vector())
        super().__init__(
            FrameAverage(backbone, signature=signature, mode=train_mode, eval_mode=eval_mode)
        )


class FAPointNet(FrameAveraged):
    """PointNet averaged over the four principal frames of the cloud.

    Args:
        width: number of features of a point; the maxima are four times as many.
        group: SE(3) takes right-handed frames; E(3) also left-handed ones, twice as many.
        train_mode: frames of a training step: one drawn for each cloud, or all.
        eval_mode: frames of an evaluation; minimal takes those that the skewness of the cloud
            leaves, between one and all.
    """

    def __init__(
        self,
        width: int = 64,
        group: Group = "SE(3)",
        train_mode: Mode = "stochastic",
        eval_mode: Mode = "full",
    ) -> None:
        backbone = Vectors(PointNetFeatures(3, width), width)
        super().__init__(backbone, group, train_mode, eval_mode)


class FADGCNN(FrameAveraged):
    """DGCNN averaged over the four principal frames of the cloud.

    Args:
        width: number of features of a layer.
        layers: number of edge convolutions.
        neighbours: number of neighbours of each point.
        graph: coordinates or features, in which neighbours are near.
        group: SE(3) takes right-handed frames; E(3) also left-handed ones, twice as many.
        train_mode: frames of a training step: one drawn for each cloud, or all.
        eval_mode: frames of an evaluation; minimal takes those that the skewness of the cloud
            leaves, between one and all.
    """

    def __init__(
        self,
        width: int = 64,
        layers: int = 3,
        neighbours: int = 16,
        graph: Graph = "coordinates",
        group: Group = "SE(3)",
        train_mode: Mode = "stochastic",
        eval_mode: Mode = "full",
    ) -> None:
        backbone = Vectors(DGCNNFeatures(3, width, layers, neighbours, graph), width)
        super().__init__(backbone, group, train_mode, eval_mode)
