"""The data options of tasks that have folds."""

from dataclasses import dataclass
from typing import Literal

from eqlib.models.training.task import Task
from eqlib.usage import UsageError

FOLDS = 10

Protocol = Literal["nested", "published", "both"]


@dataclass(kw_only=True)
class FoldOptions:
    """Which folds are trained on, and by which rule.

    Args:
        fold: the fold of a single run, from 1; where folds is null.
        folds: train on folds 1 to this number, one after the other; null trains on one.
        protocol: nested holds out a tenth of the training items to select the epoch; published
            trains on all of them and averages the test measure over the last ten epochs; both does
            both, in a cross-validation; a single run with both is a nested one.
    """

    fold: int = 1
    folds: int | None = None
    protocol: Protocol = "both"

    @property
    def is_published(self) -> bool:
        """Whether a run holds out nothing."""
        return self.protocol == "published"

    @property
    def protocols(self) -> tuple[str, ...]:
        """The rules by which each fold is trained."""
        return ("nested", "published") if self.protocol == "both" else (self.protocol,)


def check_folds(options: FoldOptions) -> None:
    """Refuse a fold, or a number of folds, that there is not.

    Raises:
        UsageError: the message says what there is.
    """
    if not 1 <= options.fold <= FOLDS:
        raise UsageError(f"fold: expected 1 to {FOLDS}, got {options.fold}")
    if options.folds is None:
        return
    if not 2 <= options.folds <= FOLDS:
        raise UsageError(
            f"folds: expected 2 to {FOLDS}, got {options.folds}; a single one is --fold N"
        )
    if options.fold != 1:
        raise UsageError("folds: give either --fold N, for a single run, or --folds N")


def wants_folds(task: Task) -> bool:
    """Whether a task's options ask for a cross-validation."""
    return isinstance(task.settings, FoldOptions) and task.settings.folds is not None
