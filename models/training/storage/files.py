"""Files that are whole or absent after a crash, and errors that say what could not be written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def explain_failure(what: str, advice: str) -> Iterator[None]:
    """Turn the errors of the file system into ones that name what failed and how to mend it."""
    try:
        yield
    except OSError as error:
        message = f"cannot write {what} ({error.strerror}): {advice}"
        raise OSError(error.errno, message) from error


def write_durably(path: Path, content: bytes) -> None:
    """Write a file that a crash leaves as it was or complete, and wait until it is on the disk."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def append_text(path: Path, text: str) -> None:
    """Append to a file and wait until the addition is on the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
