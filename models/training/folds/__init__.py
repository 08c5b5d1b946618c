"""Cross-validation: the same network trained on every fold of a data set, and what comes of it."""

from eqlib.models.training.folds.options import FOLDS, FoldOptions, check_folds, wants_folds
from eqlib.models.training.folds.run import cross_validate
from eqlib.models.training.folds.split import hold_out, stratified_folds

__all__ = [
    "FOLDS",
    "FoldOptions",
    "check_folds",
    "cross_validate",
    "hold_out",
    "stratified_folds",
    "wants_folds",
]
