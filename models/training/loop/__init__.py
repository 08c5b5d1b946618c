"""The training loop: batches, steps, evaluations, on one process or many."""

from eqlib.models.training.loop.batches import InMemory, derive_seed, to_device
from eqlib.models.training.loop.distributed import Processes, join_processes
from eqlib.models.training.loop.memory import kept_bytes, saved_bytes
from eqlib.models.training.loop.trainer import Trainer, evaluate_split, float_dtype

__all__ = [
    "InMemory",
    "Processes",
    "Trainer",
    "derive_seed",
    "evaluate_split",
    "float_dtype",
    "join_processes",
    "kept_bytes",
    "saved_bytes",
    "to_device",
]
