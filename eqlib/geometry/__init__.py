"""Neighbours, segment reductions and small eigenproblems: nothing about learning."""

from eqlib.geometry.eigh import symmetric_eigh
from eqlib.geometry.graphs import complete_graph
from eqlib.geometry.neighbours import Neighbours, edge_vectors, knn_graph, radius_graph
from eqlib.geometry.norms import safe_direction, safe_norm
from eqlib.geometry.segments import (
    gather_nodes,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
)

__all__ = [
    "Neighbours",
    "complete_graph",
    "edge_vectors",
    "gather_nodes",
    "knn_graph",
    "radius_graph",
    "safe_direction",
    "safe_norm",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
    "symmetric_eigh",
]
