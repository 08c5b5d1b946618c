"""Checkpoints: folders that appear whole or not at all, and are verified before they are used."""

import hashlib
import io
import json
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from eqlib.models.training.storage.files import explain_failure, flush_folder, write_durably
from eqlib.usage import UsageError

Weights = dict[str, Tensor]

MODEL, BEST, STATE, MANIFEST = "model.safetensors", "best.safetensors", "state.pt", "manifest.json"
FORMAT = 1
KEPT = 2
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class CheckpointError(UsageError):
    """A checkpoint is missing, damaged or not what it claims to be."""


class Checkpoint(NamedTuple):
    """All that a run needs to continue."""

    step: int
    model: Weights
    """Weights at ``step``."""
    best: Weights
    """Weights with the best validation measure so far."""
    state: dict[str, Any]
    """Optimiser, random states and counters: tensors, numbers, strings, lists and dicts only."""
    about: dict[str, Any]
    """The resolved configuration and the versions that wrote the checkpoint."""


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into ``folder`` and remove all but the last two.

    The files are written and flushed to disk beside their final place, which one renaming then
    gives them: a crash at any moment leaves the earlier checkpoints as they were.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    place = folder / f"step-{checkpoint.step:08d}"
    partial = folder / f".{place.name}.partial"
    advice = "earlier checkpoints are intact; make room or mend the permissions, then resume"
    try:
        with explain_failure(f"the checkpoint {place}", advice):
            for leftover in folder.glob(".step-*.partial"):
                shutil.rmtree(leftover)
            partial.mkdir(parents=True)
            for name, content in _files(checkpoint).items():
                write_durably(partial / name, content)
            # those of later steps are damaged: the run went back behind them
            for later in saved_checkpoints(folder):
                if later.name >= place.name:
                    shutil.rmtree(later)
            partial.rename(place)
            flush_folder(folder)
            for old in saved_checkpoints(folder)[KEPT:]:
                shutil.rmtree(old)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return place


def saved_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, newest first, whether damaged or not."""
    return sorted(folder.glob("step-" + "[0-9]" * 8), reverse=True)


def newest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint that verifies, and what is wrong with those newer than it.

    Raises:
        CheckpointError: there are checkpoints and all of them are damaged.
    """
    problems: list[str] = []
    for place in saved_checkpoints(folder):
        try:
            return read_checkpoint(place), problems
        except CheckpointError as error:
            problems.append(str(error))
    if problems:
        raise CheckpointError("no checkpoint is usable:\n" + "\n".join(problems))
    return None, problems


def read_checkpoint(place: Path) -> Checkpoint:
    """Read a checkpoint, verifying every file and tensor against its manifest.

    Raises:
        CheckpointError: a file is missing, truncated, altered or of another kind; nothing in it
            was executed.
    """
    manifest = _read_manifest(place / MANIFEST)
    files = {name: _read_verified(place / name, manifest) for name in (MODEL, BEST, STATE)}
    try:
        state = torch.load(io.BytesIO(files[STATE]), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(
            f"{place / STATE} holds more than tensors and numbers, or is no torch file; "
            f"it was not executed. {_MEND}"
        ) from error
    return Checkpoint(
        step=manifest["step"],
        model=load_tensors(files[MODEL]),
        best=load_tensors(files[BEST]),
        state=state,
        about=manifest["about"],
    )


def tensor_sha256(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's values in row-major order."""
    flat = tensor.detach().cpu().contiguous().flatten()
    return _sha256(flat.view(torch.uint8).numpy().tobytes())


_MEND = (
    "Restore the file from a copy, or remove this checkpoint's folder: "
    "the run then resumes from the one before."
)


def _files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Return the files of a checkpoint; the manifest comes last and covers the others."""
    buffer = io.BytesIO()
    torch.save(checkpoint.state, buffer)
    files = {
        MODEL: save_tensors(_plain(checkpoint.model)),
        BEST: save_tensors(_plain(checkpoint.best)),
        STATE: buffer.getvalue(),
    }
    manifest = {
        "format": FORMAT,
        "step": checkpoint.step,
        "about": checkpoint.about,
        "files": {
            name: {"bytes": len(content), "sha256": _sha256(content)}
            for name, content in files.items()
        },
        "tensors": {
            MODEL: _describe(checkpoint.model),
            BEST: _describe(checkpoint.best),
        },
    }
    manifest["sha256"] = _sha256(_canonical(manifest))
    files[MANIFEST] = json.dumps(manifest, indent=1).encode()
    return files


def _plain(weights: Weights) -> Weights:
    """Return copies on the CPU that share no memory, as the file format demands."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}


def _describe(weights: Weights) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "shape": list(tensor.shape),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "sha256": tensor_sha256(tensor),
        }
        for name, tensor in weights.items()
    }


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(_read(path))
        claimed = manifest.pop("sha256")
    except (ValueError, AttributeError, KeyError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged: it is not a manifest. {_MEND}") from error
    if claimed != _sha256(_canonical(manifest)):
        raise CheckpointError(f"{path} is damaged: it does not match its own checksum. {_MEND}")
    if manifest["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has format {manifest['format']}, this version of eqlib reads {FORMAT}"
        )
    return manifest


def _read_verified(path: Path, manifest: Mapping[str, Any]) -> bytes:
    """Return the file's content if it is what the manifest says, or tell what is wrong with it."""
    content = _read(path)
    expected = manifest["files"][path.name]
    if _sha256(content) == expected["sha256"]:
        return content
    if path.suffix == ".safetensors" and _is_pickle(content):
        problem = "is a pickle, not a safetensors file, and was not opened"
    elif len(content) != expected["bytes"]:
        problem = f"is {len(content)} bytes long instead of {expected['bytes']}"
    else:
        problem = "does not match its checksum" + _damaged_tensors(path, content, manifest)
    raise CheckpointError(f"{path} {problem}. {_MEND}")


def _is_pickle(content: bytes) -> bool:
    """Whether a file that should hold tensors is a pickle, or a zip file with one."""
    # the length of a safetensors header may begin as pickles do, but a brace follows it
    return content.startswith(_PICKLES) and content[8:9] != b"{"


def _damaged_tensors(path: Path, content: bytes, manifest: Mapping[str, Any]) -> str:
    """Name the tensors of a damaged safetensors file that differ from the manifest."""
    if path.suffix != ".safetensors":
        return ""
    try:
        found = _describe(load_tensors(content))
    except (SafetensorError, ValueError):
        return " (its header is damaged)"
    expected = manifest["tensors"][path.name]
    names = [name for name in expected if found.get(name) != expected[name]]
    return f" (damaged: {', '.join(names)})" if names else ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}. {_MEND}") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _canonical(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, sort_keys=True).encode()
