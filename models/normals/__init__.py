"""Normals of point clouds: solids sampled with exact normals, and networks that estimate them."""

from eqlib.models.normals.data import DataOptions, solids
from eqlib.models.normals.networks import (
    DGCNN,
    FADGCNN,
    FAPointNet,
    LocalFADGCNN,
    LocalFAPointNet,
    Plane,
    PointNet,
)
from eqlib.models.normals.task import Normals

__all__ = [
    "DGCNN",
    "FADGCNN",
    "DataOptions",
    "FAPointNet",
    "LocalFADGCNN",
    "LocalFAPointNet",
    "Normals",
    "Plane",
    "PointNet",
    "solids",
]
