"""Classification of graphs, and pairs of graphs that message passing cannot tell apart."""

from eqlib.models.graphs.data import (
    DataOptions,
    Graphs,
    decode_graph6,
    encode_graph6,
    exp_classify,
    load,
    read_folds,
    read_graph6,
    read_tu,
)
from eqlib.models.graphs.networks import FAGIN, FAMLP, GAGIN, GIN, MLP, PPGN, SPEN, FrameAveraged
from eqlib.models.graphs.task import GraphClassification

__all__ = [
    "FAGIN",
    "FAMLP",
    "GAGIN",
    "GIN",
    "MLP",
    "PPGN",
    "SPEN",
    "DataOptions",
    "FrameAveraged",
    "GraphClassification",
    "Graphs",
    "decode_graph6",
    "encode_graph6",
    "exp_classify",
    "load",
    "read_folds",
    "read_graph6",
    "read_tu",
]
