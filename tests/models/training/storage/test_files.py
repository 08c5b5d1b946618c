"""Files that are written whole."""

import errno
import os

import pytest

from eqlib.models.training.storage import append_text, explain_failure, files, write_durably


def test_written_file_replaces_the_old_one_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_durably(path, b"old and long")
    write_durably(path, b"new")
    append_text(path, " and more")
    assert path.read_text() == "new and more"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_durably(path, b"old")

    def fail(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_durably(path, b"new")
    assert path.read_text() == "old"


def test_failure_is_explained_and_keeps_its_kind(tmp_path):
    missing = tmp_path / "missing" / "file"
    with (
        pytest.raises(FileNotFoundError, match=r"cannot write the file \(No such file.*: mend it"),
        explain_failure("the file", "mend it"),
    ):
        missing.write_text("")
