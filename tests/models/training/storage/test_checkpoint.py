"""Checkpoints are whole, verified, and never executed."""

import errno
import json
import os
import pickle
import resource
import shutil
import signal

import pytest
import torch
from torch.testing import assert_close

from eqlib.models.training import CheckpointError
from eqlib.models.training.storage import Checkpoint, tensor_sha256, write_checkpoint
from eqlib.models.training.storage import checkpoint as module
from eqlib.models.training.storage.checkpoint import (
    newest_checkpoint,
    read_checkpoint,
    saved_checkpoints,
)
from tests.models.training.processes import in_child

FILES = ["model.safetensors", "best.safetensors", "state.pt", "manifest.json"]


def make_checkpoint(step=1, size=2):
    weight = torch.arange(3.0 * size).reshape(3, size) + step
    model = {
        "weight": weight,
        "tied": weight,
        "transposed": weight.T,
        "half": weight[0].bfloat16(),
        "count": torch.tensor(step),
        "empty": torch.zeros(0, 4),
    }
    state = {"optimizer": {"momentum": weight / 7}, "best": float("inf"), "random": [{"cpu": 1}]}
    about = {"config": {"task": "toy", "rate": 0.1}, "versions": {"torch": "2"}}
    return Checkpoint(step, model, {"weight": weight + 1}, state, about)


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


def test_checkpoint_comes_back_as_it_was(tmp_path):
    written = make_checkpoint()
    place = write_checkpoint(tmp_path, written)
    read = read_checkpoint(place)
    assert place.name == "step-00000001"
    assert sorted(path.name for path in place.iterdir()) == sorted(FILES)
    assert (read.step, read.about) == (written.step, written.about)
    assert_close(read.model, written.model, rtol=0, atol=0)
    assert_close(read.best, written.best, rtol=0, atol=0)
    assert_close(read.state["optimizer"], written.state["optimizer"], rtol=0, atol=0)
    assert read.state["best"] == float("inf")


def test_manifest_describes_every_tensor(tmp_path):
    checkpoint = make_checkpoint()
    place = write_checkpoint(tmp_path, checkpoint)
    manifest = json.loads((place / "manifest.json").read_text())
    assert manifest["tensors"]["model.safetensors"]["half"] == {
        "shape": [2],
        "dtype": "bfloat16",
        "sha256": tensor_sha256(checkpoint.model["half"]),
    }
    assert manifest["tensors"]["model.safetensors"].keys() == checkpoint.model.keys()
    assert manifest["about"] == checkpoint.about


def test_two_checkpoints_are_kept(tmp_path):
    for step in (1, 2, 3, 10):
        write_checkpoint(tmp_path, make_checkpoint(step))
    assert [path.name for path in saved_checkpoints(tmp_path)] == ["step-00000010", "step-00000003"]


def test_no_checkpoint_is_no_error(tmp_path):
    assert newest_checkpoint(tmp_path / "missing") == (None, [])


@pytest.mark.parametrize("file", FILES)
def test_missing_file_is_named(file, tmp_path):
    place = write_checkpoint(tmp_path, make_checkpoint())
    (place / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file}: No such file"):
        read_checkpoint(place)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kept", [0, 7, 50, -1], ids=str)
def test_truncated_file_is_named(file, kept, tmp_path):
    place = write_checkpoint(tmp_path, make_checkpoint())
    content = (place / file).read_bytes()
    (place / file).write_bytes(content[:kept])
    with pytest.raises(CheckpointError, match=f"{file} is .*Restore the file"):
        read_checkpoint(place)


@pytest.mark.parametrize("file", FILES)
def test_any_flipped_bit_is_found(file, tmp_path, rng):
    place = write_checkpoint(tmp_path, make_checkpoint())
    content = (place / file).read_bytes()
    for position in torch.randint(8 * len(content), (50,), generator=rng).tolist():
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        (place / file).write_bytes(damaged)
        with pytest.raises(CheckpointError, match=file):
            read_checkpoint(place)


def test_damaged_tensor_is_named(tmp_path):
    place = write_checkpoint(tmp_path, make_checkpoint())
    path = place / "best.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"does not match its checksum \(damaged: weight\)"):
        read_checkpoint(place)


@pytest.mark.parametrize("save", [pickle.dumps, torch.save], ids=["pickle", "torch"])
def test_pickle_in_place_of_weights_is_refused_unopened(save, tmp_path):
    place = write_checkpoint(tmp_path, make_checkpoint())
    trace = tmp_path / "trace"
    path = place / "model.safetensors"
    if save is torch.save:
        torch.save(Bomb(trace), path)
    else:
        path.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(CheckpointError, match=r"model.safetensors is a pickle, not a safetensors"):
        read_checkpoint(place)
    assert not trace.exists()


def with_header_of(length):
    """Return a checkpoint whose weights have a header of some length in bytes."""
    for name in range(1, length):
        checkpoint = make_checkpoint()._replace(model={"x" * name: torch.arange(3.0)})
        found = int.from_bytes(module._files(checkpoint)["model.safetensors"][:8], "little")
        if found == length:
            return checkpoint
    raise AssertionError(length)


@pytest.mark.parametrize("begins", [b"\x80\x00", b"\x80\x02", b"\x80\x04"], ids=str)
def test_a_header_whose_length_looks_like_a_pickle_is_none(begins, tmp_path):
    place = write_checkpoint(tmp_path, with_header_of(int.from_bytes(begins, "little")))
    path = place / "model.safetensors"
    content = bytearray(path.read_bytes())
    assert content.startswith(begins)
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"does not match its checksum \(damaged: x+\)"):
        read_checkpoint(place)


def test_code_in_the_state_is_refused_unexecuted(tmp_path):
    trace = tmp_path / "trace"
    checkpoint = make_checkpoint()._replace(state={"bomb": Bomb(trace)})
    place = write_checkpoint(tmp_path, checkpoint)  # its checksums are right
    with pytest.raises(CheckpointError, match=r"state.pt holds more .* it was not executed"):
        read_checkpoint(place)
    assert not trace.exists()
    torch.load(place / "state.pt", weights_only=False)["bomb"].close()
    assert trace.exists()  # control: the bomb does go off where it is trusted


def test_checkpoint_of_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FORMAT", 99)
    place = write_checkpoint(tmp_path, make_checkpoint())
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="has format 99"):
        read_checkpoint(place)


def test_damaged_checkpoint_is_passed_over_and_reported(tmp_path):
    write_checkpoint(tmp_path, make_checkpoint(1))
    damaged = write_checkpoint(tmp_path, make_checkpoint(2))
    (damaged / "state.pt").write_bytes(b"")
    checkpoint, problems = newest_checkpoint(tmp_path)
    assert checkpoint.step == 1
    assert len(problems) == 1
    assert "step-00000002/state.pt is 0 bytes long" in problems[0]


def test_damaged_checkpoints_alone_are_an_error(tmp_path):
    for step in (1, 2):
        shutil.rmtree(write_checkpoint(tmp_path, make_checkpoint(step)) / "x", ignore_errors=True)
        (tmp_path / f"step-{step:08d}" / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"(?s)no checkpoint is usable.*00002.*00001"):
        newest_checkpoint(tmp_path)


def test_damaged_checkpoint_of_a_later_step_does_not_outlive_the_next_one(tmp_path):
    write_checkpoint(tmp_path, make_checkpoint(1))
    (write_checkpoint(tmp_path, make_checkpoint(9)) / "state.pt").write_bytes(b"")
    write_checkpoint(tmp_path, make_checkpoint(2))
    assert [path.name for path in saved_checkpoints(tmp_path)] == ["step-00000002", "step-00000001"]


def test_leftovers_of_a_crash_are_removed(tmp_path):
    leftover = tmp_path / ".step-00000007.partial"
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    write_checkpoint(tmp_path, make_checkpoint(1))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("failing", [1, 2, 3, 4], ids=str)
def test_full_disk_leaves_the_earlier_checkpoint(failing, tmp_path, monkeypatch):
    write_checkpoint(tmp_path, make_checkpoint(1))
    written = []

    def write_or_fail(path, content):
        written.append(path)
        path.write_bytes(content[:10])
        if len(written) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(module, "write_durably", write_or_fail)
    with pytest.raises(OSError, match=r"step-00000002 \(No space.*earlier checkpoints are intact"):
        write_checkpoint(tmp_path, make_checkpoint(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert newest_checkpoint(tmp_path)[0].step == 1


def write_with_limited_files(folder, limit):
    """Write a checkpoint where the system refuses files beyond a size; return the error."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        write_checkpoint(folder, make_checkpoint(2, size=10_000))
    except OSError as error:
        return str(error)
    return "no error"


def test_write_that_the_system_refuses_leaves_the_earlier_checkpoint(tmp_path):
    write_checkpoint(tmp_path, make_checkpoint(1))
    message = in_child(write_with_limited_files, tmp_path, 50_000)
    assert "File too large" in message
    assert "earlier checkpoints are intact" in message
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert newest_checkpoint(tmp_path)[0].step == 1


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write the checkpoint .*file/step-00000001"):
        write_checkpoint(tmp_path / "file", make_checkpoint(1))
