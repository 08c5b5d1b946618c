"""What lies on the disk: durable files, checkpoints, the folder of a run, generated data."""

from eqlib.models.training.storage.cache import load_or_make
from eqlib.models.training.storage.checkpoint import (
    Checkpoint,
    CheckpointError,
    Weights,
    tensor_sha256,
    write_checkpoint,
)
from eqlib.models.training.storage.files import append_text, explain_failure, write_durably
from eqlib.models.training.storage.folder import (
    check_data,
    check_folder,
    has_more_folds,
    is_finished,
    newest_of_run,
    prepare_folder,
)

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Weights",
    "append_text",
    "check_data",
    "check_folder",
    "explain_failure",
    "has_more_folds",
    "is_finished",
    "load_or_make",
    "newest_of_run",
    "prepare_folder",
    "tensor_sha256",
    "write_checkpoint",
    "write_durably",
]
