"""The folder of a run: whose it is, and whether a run may begin or continue in it."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from eqlib.models.training.configuration import RunConfig, load_config, save_config, settle
from eqlib.models.training.progress import say
from eqlib.models.training.storage.checkpoint import Checkpoint, newest_checkpoint
from eqlib.models.training.storage.files import explain_failure

FREE_ON_RESUME = (
    "device",
    "threads",
    "workers",
    "compile",
    "checkpoint_every",
    "checkpoint_seconds",
    "tensorboard",
)
"""Training options that say how to compute, not what: they may change when a run continues."""


def is_finished(run: Path) -> bool:
    """Whether the run has left its report."""
    return (run / "report.json").exists()


def check_folder(config: RunConfig, run: Path, resume: bool) -> None:
    """Refuse a folder that holds a run which this one would overwrite or cannot continue.

    Raises:
        FileExistsError: the folder holds a run and ``resume`` is False.
        ValueError: the folder holds a run of another configuration.
    """
    marks = ("config.yaml", "checkpoints", "report.json")
    with _explained(run):
        taken = any((run / name).exists() for name in marks)
    if not taken:
        return
    if not resume:
        raise FileExistsError(
            f"{run} holds a run already: continue it with --resume or choose another --out"
        )
    saved = load_config(run / "config.yaml")
    old, new = (_decisive(c) for c in (saved, settle(config, saved.network)))
    changed = sorted(key for key in old | new if old.get(key) != new.get(key))
    if changed:
        listed = ", ".join(f"{key} ({old.get(key)} -> {new.get(key)})" for key in changed)
        raise ValueError(
            f"{run} holds a run with other settings: {listed}; resume it with its own settings "
            "or choose another --out"
        )


def prepare_folder(config: RunConfig, run: Path) -> None:
    """Make the folder and leave the configuration in it.

    Raises:
        OSError: the folder cannot be written.
    """
    partial = run / ".config.yaml.partial"
    with _explained(run):
        run.mkdir(parents=True, exist_ok=True)
        save_config(config, partial)
        partial.replace(run / "config.yaml")


def newest_of_run(run: Path) -> Checkpoint | None:
    """Return the newest usable checkpoint of a run, after a word on damaged ones.

    Raises:
        CheckpointError: there are checkpoints and all of them are damaged.
    """
    checkpoint, problems = newest_checkpoint(run / "checkpoints")
    for problem in problems:
        say(f"passed over a damaged checkpoint: {problem}")
    return checkpoint


def _explained(run: Path) -> AbstractContextManager[None]:
    return explain_failure(f"the run's folder {run}", "choose another --out")


def _decisive(config: RunConfig) -> dict[str, Any]:
    """Return the settings that decide a run's outcome, by their dotted names."""
    settings = config.to_dict()
    flat = {key: value for key, value in settings.items() if not isinstance(value, dict)}
    for group in ("network", "data", "training"):
        flat |= {
            f"{group}.{name}": value
            for name, value in settings[group].items()
            if group != "training" or name not in FREE_ON_RESUME
        }
    return flat
