"""Networks that estimate the normals of point clouds."""

from eqlib.models.normals.networks.dgcnn import DGCNN
from eqlib.models.normals.networks.frame_averaged import FADGCNN, FAPointNet
from eqlib.models.normals.networks.local import LocalFADGCNN, LocalFAPointNet
from eqlib.models.normals.networks.plane import Plane
from eqlib.models.normals.networks.pointnet import PointNet

__all__ = [
    "DGCNN",
    "FADGCNN",
    "FAPointNet",
    "LocalFADGCNN",
    "LocalFAPointNet",
    "Plane",
    "PointNet",
]
