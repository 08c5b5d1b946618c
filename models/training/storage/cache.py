"""Generated data in a file, made where it is missing."""

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor

log = logging.getLogger(__name__)


def load_or_make(path: Path, make: Callable[[], dict[str, Tensor]], what: str) -> dict[str, Tensor]:
    """Read tensors from ``path``, or make them and write them there.

    The checksum lies beside the file, in the format of ``sha256sum``. A file that does not agree
    with it is damaged: it is reported and made again.

    Args:
        path: the safetensors file.
        make: makes the tensors.
        what: what the message calls them.

    Raises:
        OSError: the folder cannot be written; the message says how to choose another.
    """
    checksum = path.with_suffix(".sha256")
    if path.exists():
        content = path.read_bytes()
        recorded = checksum.read_text() if checksum.exists() else ""
        if recorded.split()[:1] == [hashlib.sha256(content).hexdigest()]:
            return load(content)
        log.warning("%s is damaged: its checksum does not agree; making it again", path)
    content = save(make())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_atomically(path, content)
        digest = hashlib.sha256(content).hexdigest()
        _write_atomically(checksum, f"{digest}  {path.name}\n".encode())
    except OSError as error:
        raise OSError(
            f"cannot write {what} to {path.parent}: {error.strerror}; "
            "choose another folder with --data-dir"
        ) from error
    return load(content)


def _write_atomically(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
