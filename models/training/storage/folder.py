"""The folder of a run: whose it is, and whether a run may begin or continue in it."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from eqlib.models.training.configuration import RunConfig, load_config, save_config, settle
from eqlib.models.training.progress import say
from eqlib.models.training.storage.checkpoint import Checkpoint, newest_checkpoint
from eqlib.models.training.storage.files import explain_failure, write_durably
from eqlib.usage import UsageError

DATA = "data.sha256"

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


def has_more_folds(config: RunConfig, run: Path) -> bool:
    """Whether a configuration asks for more folds than the cross-validation in a folder has."""
    asked, had = (c.data.get("folds") for c in (config, load_config(run / "config.yaml")))
    return asked is not None and had is not None and asked > had


def check_folder(config: RunConfig, run: Path, resume: bool) -> None:
    """Refuse a folder that holds a run which this one would overwrite or cannot continue.

    Raises:
        FileExistsError: the folder holds a run and ``resume`` is False.
        UsageError: the folder holds a run of another configuration; more folds are none, as each
            is a run of its own.
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
    if changed == ["data.folds"] and has_more_folds(config, run):
        return
    if changed:
        listed = ", ".join(f"{key} ({old.get(key)} -> {new.get(key)})" for key in changed)
        raise UsageError(
            f"{run} holds a run with other settings: {listed}; resume it with its own settings "
            "or choose another --out"
        )


def prepare_folder(config: RunConfig, run: Path) -> None:
    """Make the folder and leave the configuration in it, without a report of fewer folds.

    Raises:
        OSError: the folder cannot be written.
    """
    partial = run / ".config.yaml.partial"
    with _explained(run):
        run.mkdir(parents=True, exist_ok=True)
        (run / "report.json").unlink(missing_ok=True)
        save_config(config, partial)
        partial.replace(run / "config.yaml")


def check_data(run: Path, checksums: Iterable[str]) -> None:
    """Note what data a run begins with, or refuse to go on with others.

    Args:
        run: the run's folder, which exists.
        checksums: of all parts of the data.

    Raises:
        UsageError: the run began with other data.
        OSError: the folder cannot be written.
    """
    path, found = run / DATA, "".join(f"{checksum}\n" for checksum in checksums)
    if not path.exists():
        with _explained(run):
            write_durably(path, found.encode())
    elif path.read_text(encoding="utf-8") != found:
        raise UsageError(
            f"{run} began with other data than there are now ({path} has their SHA-256): name the "
            "folder of those with --data-dir, or choose another --out"
        )


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
