"""Files of data that others made: what is wrong with one is said with its name."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eqlib.usage import UsageError


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is read into an error that names the file.

    Args:
        path: the file.

    Raises:
        UsageError: the file cannot be read, or is damaged; the message says how to mend it.
    """
    try:
        yield
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        mend = "download it again, or restore it from a copy"
        raise UsageError(f"{path} is damaged or of another format: {error}; {mend}") from error


def read_text(path: Path) -> str:
    """Return the text of a file; see `reading`."""
    with reading(path):
        return path.read_text(encoding="utf-8")
