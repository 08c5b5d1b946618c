"""BREC: 400 pairs of graphs, each judged by a network trained to tell them apart."""

from eqlib.models.graphs.brec.pairs import CATEGORIES, PAIRS, read_brec
from eqlib.models.graphs.brec.procedure import run_brec
from eqlib.models.graphs.brec.protocol import Schedule, Verdict, answer, judge
from eqlib.models.graphs.brec.run import run_pairs, summarise
from eqlib.models.graphs.brec.statistic import Statistic, paired_statistic, threshold

__all__ = [
    "CATEGORIES",
    "PAIRS",
    "Schedule",
    "Statistic",
    "Verdict",
    "answer",
    "judge",
    "paired_statistic",
    "read_brec",
    "run_brec",
    "run_pairs",
    "summarise",
    "threshold",
]
