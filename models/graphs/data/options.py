"""Which data to train on."""

from dataclasses import dataclass, fields

from eqlib.models.graphs.data.collection import COLLECTIONS
from eqlib.models.graphs.data.sets import SOURCES
from eqlib.models.training.folds import FoldOptions, check_folds
from eqlib.usage import UsageError, unknown

EXP, BREC = "exp_classify", "brec"
DATASETS = (EXP, *COLLECTIONS, BREC)


@dataclass
class DataOptions(FoldOptions):
    """Which data to train on.

    Args:
        dataset: exp_classify, the 1200 graphs of EXP with their labels; mutag, ptc, proteins, nci1,
            nci109, imdb_binary or imdb_multi, with ten folds; brec, 400 pairs to tell apart.
        fold: the fold of a single run, 1 to 10, where folds is null.
        folds: train on folds 1 to this number, one after the other; null trains on one.
        protocol: nested holds out a tenth of the training graphs, which select the epoch; published
            trains on all of them and averages the test accuracy of the last ten epochs; both does
            both with folds, and is nested in a single run.
        download: whether a missing set with folds may be downloaded, by PyG's TUDataset.
    """

    dataset: str = EXP
    download: bool = False

    def __post_init__(self) -> None:
        if self.dataset in SOURCES:
            raise UsageError(
                f"dataset: {self.dataset} is not for training but counts the pairs that untrained "
                f"networks separate: python -m eqlib.models.graphs.separation --dataset "
                f"{self.dataset}; train on exp_classify"
            )
        if self.dataset not in DATASETS:
            raise unknown("dataset", self.dataset, DATASETS)
        check_folds(self)
        if self.dataset in COLLECTIONS:
            return
        for option in fields(self):
            if option.name != "dataset" and getattr(self, option.name) != option.default:
                raise UsageError(
                    f"{option.name}: is for sets with folds, and {self.dataset} has none; choose "
                    f"one by --dataset: {', '.join(COLLECTIONS)}"
                )
