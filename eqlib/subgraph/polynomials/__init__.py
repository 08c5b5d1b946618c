"""Equivariant polynomials of matrices: multigraphs, their evaluation, and features of graphs."""

from eqlib.subgraph.polynomials.contraction import Contraction, contraction_order, is_computable
from eqlib.subgraph.polynomials.enumeration import multigraphs
from eqlib.subgraph.polynomials.evaluate import evaluate
from eqlib.subgraph.polynomials.features import polynomial_features
from eqlib.subgraph.polynomials.multigraph import Multigraph

__all__ = [
    "Contraction",
    "Multigraph",
    "contraction_order",
    "evaluate",
    "is_computable",
    "multigraphs",
    "polynomial_features",
]
