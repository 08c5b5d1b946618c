"""Generated data in a file: made once, and again where the file is damaged."""

import logging

import pytest
import torch

from eqlib.models.training.storage import load_or_make


@pytest.fixture
def load(tmp_path):
    """Return a function that loads tensors, and how often they were made."""
    made = []

    def make():
        made.append(1)
        return {"values": torch.arange(5.0)}

    return lambda: load_or_make(tmp_path / "made" / "set.safetensors", make, "the set"), made


def test_tensors_are_made_once_and_read_back_equal(load):
    values, made = load
    assert values()["values"].equal(torch.arange(5.0))
    assert values()["values"].equal(torch.arange(5.0))
    assert len(made) == 1


@pytest.mark.parametrize("damage", ["bit flip", "truncated", "checksum missing"])
def test_a_damaged_file_is_noticed_and_made_again(load, damage, tmp_path, caplog):
    values, made = load
    values()
    path = tmp_path / "made" / "set.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "bit flip":
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.with_suffix(".sha256").unlink()
    with caplog.at_level(logging.WARNING):
        assert values()["values"].equal(torch.arange(5.0))
    assert len(made) == 2
    assert "damaged" in caplog.text
    values()
    assert len(made) == 2


def test_a_folder_that_cannot_be_written_is_named(load, tmp_path):
    (tmp_path / "made").write_text("a file where the folder should be")
    with pytest.raises(OSError, match=r"cannot write the set to .*made.*--data-dir"):
        load[0]()
