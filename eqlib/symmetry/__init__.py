"""What acts on what, and how to check it: groups, representations, signatures and checks."""

from eqlib.symmetry.axial import Axial
from eqlib.symmetry.elements import Element
from eqlib.symmetry.equivariance import assert_equivariant, equivariance_error
from eqlib.symmetry.euclidean import SE, SO, E, O
from eqlib.symmetry.group import Group, GroupProduct
from eqlib.symmetry.irreps import Irreps
from eqlib.symmetry.linear import GL, Affine, Scaling, Similarity
from eqlib.symmetry.lorentz import Lorentz
from eqlib.symmetry.nodes import BatchIndex, EdgeIndex, NodeOrder
from eqlib.symmetry.parsing import as_group
from eqlib.symmetry.permutations import Permutations
from eqlib.symmetry.report import TOLERANCE, EquivarianceReport
from eqlib.symmetry.representations import (
    Point,
    Pseudoscalar,
    Pseudovector,
    Representation,
    RepresentationProduct,
    Scalar,
    Vector,
)
from eqlib.symmetry.signature import Signature
from eqlib.symmetry.spherical import SphericalTensor
from eqlib.symmetry.structures import Structure

__all__ = [
    "GL",
    "SE",
    "SO",
    "TOLERANCE",
    "Affine",
    "Axial",
    "BatchIndex",
    "E",
    "EdgeIndex",
    "Element",
    "EquivarianceReport",
    "Group",
    "GroupProduct",
    "Irreps",
    "Lorentz",
    "NodeOrder",
    "O",
    "Permutations",
    "Point",
    "Pseudoscalar",
    "Pseudovector",
    "Representation",
    "RepresentationProduct",
    "Scalar",
    "Scaling",
    "Signature",
    "Similarity",
    "SphericalTensor",
    "Structure",
    "Vector",
    "as_group",
    "assert_equivariant",
    "equivariance_error",
]
