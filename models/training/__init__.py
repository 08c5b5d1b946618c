"""The one training loop of the reference models.

A task says what its data, losses and measures are (`Task`); a configuration says what to train
(`RunConfig`); `train` does the rest and leaves a run's folder behind. This package knows nothing
of any particular task. ``docs/training.md`` says what is where.
"""

from eqlib.models.training.configuration import RunConfig, TrainingConfig
from eqlib.models.training.loop import InMemory, to_device
from eqlib.models.training.run import LoadedRun, evaluate, load_model, train
from eqlib.models.training.storage import CheckpointError
from eqlib.models.training.task import Batch, Dataset, Splits, Task

__all__ = [
    "Batch",
    "CheckpointError",
    "Dataset",
    "InMemory",
    "LoadedRun",
    "RunConfig",
    "Splits",
    "Task",
    "TrainingConfig",
    "evaluate",
    "load_model",
    "to_device",
    "train",
]
