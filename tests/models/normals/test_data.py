"""The set of solids: its cache, its checksum, its splits and its rotations."""

import math

import pytest
import torch

from eqlib.models.normals import DataOptions, data, solids
from eqlib.models.normals.data import random_rotations


@pytest.fixture
def few_shapes(monkeypatch):
    """Make a set of a few shapes in place of the real one; count the calls."""
    calls = []
    make_splits = data.make_splits

    def counted():
        calls.append(1)
        return make_splits()

    monkeypatch.setattr(data, "SHAPES", {"train": 12, "valid": 4, "test": 5})
    monkeypatch.setattr(data, "POINTS", 32)
    monkeypatch.setattr(data, "make_splits", counted)
    return calls


def test_data_is_made_once_and_read_back_equal(few_shapes, tmp_path):
    first = solids(DataOptions(train=12), tmp_path)
    again = solids(DataOptions(train=12), tmp_path)
    assert len(few_shapes) == 1
    assert [len(split) for split in first] == [12, 4, 5]
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def test_data_is_the_same_wherever_it_is_made(few_shapes, tmp_path):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = solids(DataOptions(train=12), tmp_path / "one").test.tensors
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    other = solids(DataOptions(train=12), tmp_path / "other").test.tensors
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_splits_have_no_shape_in_common(few_shapes, tmp_path):
    splits = solids(DataOptions(train=12), tmp_path)
    first = torch.cat([split.tensors["points"][:, 0] for split in splits])
    assert len(first.unique(dim=0)) == 12 + 4 + 5


def test_items_have_the_documented_shapes(few_shapes, tmp_path):
    batch = solids(DataOptions(train=12), tmp_path).test[torch.tensor([2, 0])]
    shapes = {name: tuple(tensor.shape) for name, tensor in batch.items()}
    assert shapes == {
        **dict.fromkeys(("points", "normals"), (2, 32, 3)),
        **dict.fromkeys(("operation", "symmetry"), (2,)),
        **dict.fromkeys(("turn_z", "turn_so3"), (2, 3, 3)),
    }
    assert batch["points"].dtype == torch.float32


def test_fewer_training_shapes_are_the_first_ones(few_shapes, tmp_path):
    everything = solids(DataOptions(train=12), tmp_path).train.tensors["points"]
    fewer = solids(DataOptions(train=3), tmp_path).train.tensors["points"]
    assert torch.equal(fewer, everything[:3])


def test_a_folder_that_cannot_be_written_is_named(few_shapes, tmp_path):
    (tmp_path / "normals").write_text("a file where the folder should be")
    with pytest.raises(OSError, match=r"normals.*--data-dir"):
        solids(DataOptions(train=12), tmp_path)


@pytest.mark.parametrize("train", [0, -1, 2001])
def test_a_wrong_number_of_training_shapes_is_refused(train):
    with pytest.raises(ValueError, match=f"between 1 and 2000, got {train}"):
        DataOptions(train=train)


@pytest.mark.parametrize("kind", ["z", "so3"])
def test_rotations_are_uniform_in_their_group(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = random_rotations(4_000, kind)
    identity = torch.eye(3, dtype=torch.float64).expand(4_000, 3, 3)
    assert torch.allclose(drawn @ drawn.mT, identity, atol=1e-14)
    assert torch.allclose(torch.linalg.det(drawn), torch.ones(()).double(), atol=1e-14)
    vertical = drawn[:, 2, 2]
    noise = 4 / math.sqrt(4_000)
    if kind == "z":
        assert torch.equal(vertical, torch.ones(4_000).double())
        angle = torch.atan2(drawn[:, 1, 0], drawn[:, 0, 0]).sort().values
        even = torch.linspace(-math.pi, math.pi, 4_000, dtype=torch.float64)
        assert (angle - even).abs().max() < 2 * math.pi * noise
    else:
        # every matrix entry of a uniform rotation is uniform between -1 and 1
        for entry in drawn.flatten(1).unbind(1):
            even = torch.linspace(-1, 1, 4_000, dtype=torch.float64)
            assert (entry.sort().values - even).abs().max() < 2 * noise


def test_rotations_come_from_the_generator_of_torch():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        one = random_rotations(2, "so3")
        torch.manual_seed(3)
        assert torch.equal(random_rotations(2, "so3"), one)
        assert not torch.equal(random_rotations(2, "so3"), one)
