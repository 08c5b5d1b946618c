"""Sets of graphs: what they are, where their files lie and how they are read."""

from eqlib.models.graphs.data.collection import (
    COLLECTIONS,
    Collection,
    fold_splits,
    load_collection,
)
from eqlib.models.graphs.data.graph6 import decode_graph6, encode_graph6, read_graph6
from eqlib.models.graphs.data.options import BREC, EXP, DataOptions
from eqlib.models.graphs.data.public import read_public
from eqlib.models.graphs.data.ragged import Graphs, Selection, relabel, relabellings
from eqlib.models.graphs.data.sets import COPIES, SOURCES, data_folder, exp_classify, load
from eqlib.models.graphs.data.tu import read_folds, read_tu

__all__ = [
    "BREC",
    "COLLECTIONS",
    "COPIES",
    "EXP",
    "SOURCES",
    "Collection",
    "DataOptions",
    "Graphs",
    "Selection",
    "data_folder",
    "decode_graph6",
    "encode_graph6",
    "exp_classify",
    "fold_splits",
    "load",
    "load_collection",
    "read_folds",
    "read_graph6",
    "read_public",
    "read_tu",
    "relabel",
    "relabellings",
]
