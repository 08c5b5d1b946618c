"""Linear maps between features of pairs, nodes and subgraphs that commute with permutations."""

from eqlib.subgraph.maps.basis import (
    basis_count,
    basis_maps,
    basis_names,
    bias_maps,
    bias_names,
)
from eqlib.subgraph.maps.linear import PermutationLinear

__all__ = [
    "PermutationLinear",
    "basis_count",
    "basis_maps",
    "basis_names",
    "bias_maps",
    "bias_names",
]
