"""Layers on graphs that act in their subgraphs."""

from eqlib.subgraph.layers.attention import SubgraphAttention
from eqlib.subgraph.layers.extraction import aggregate, extract
from eqlib.subgraph.layers.layer import SubgraphLayer
from eqlib.subgraph.layers.norm import FeatureBatchNorm, FeatureGraphNorm
from eqlib.subgraph.layers.pointwise import Pointwise
from eqlib.subgraph.layers.pooling import pool

__all__ = [
    "FeatureBatchNorm",
    "FeatureGraphNorm",
    "Pointwise",
    "SubgraphAttention",
    "SubgraphLayer",
    "aggregate",
    "extract",
    "pool",
]
