"""The charged 5-body set: its cache, its checksum and its splits."""

import pytest
import torch

from eqlib.models.nbody import DataOptions, charged5, data
from eqlib.models.nbody.simulate import InitialStates


@pytest.fixture
def few_systems(monkeypatch):
    """Make a set of a few systems over a short time in place of the real one; count the calls."""
    calls = []
    simulate_splits = data.simulate_splits

    def counted():
        calls.append(1)
        return simulate_splits()

    for name, value in {
        "GENERATED": {"train": 12, "valid": 4, "test": 4},
        "KEPT": {"train": 8, "valid": 4, "test": 4},
        "INPUT_STEP": 30,
        "TARGET_STEP": 40,
        "simulate_splits": counted,
    }.items():
        monkeypatch.setattr(data, name, value)
    return calls


def test_data_is_simulated_once_and_read_back_equal(few_systems, tmp_path):
    first = charged5(DataOptions(train=8), tmp_path)
    again = charged5(DataOptions(train=8), tmp_path)
    assert len(few_systems) == 1
    assert [len(split) for split in first] == [8, 4, 4]
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def test_items_have_the_documented_shapes(few_systems, tmp_path):
    batch = charged5(DataOptions(train=8), tmp_path).test[torch.tensor([2, 0])]
    shapes = {name: tuple(tensor.shape) for name, tensor in batch.items()}
    state = dict.fromkeys(("points", "velocities", "targets"), (2, 5, 3))
    assert shapes == {"charges": (2, 5), **state, "sensitivity": (2,)}


def test_fewer_training_systems_are_the_first_ones(few_systems, tmp_path):
    everything = charged5(DataOptions(train=8), tmp_path).train.tensors["points"]
    fewer = charged5(DataOptions(train=3), tmp_path).train.tensors["points"]
    assert torch.equal(fewer, everything[:3])


def test_a_folder_that_cannot_be_written_is_named(few_systems, tmp_path):
    (tmp_path / "nbody").write_text("a file where the folder should be")
    with pytest.raises(OSError, match=r"nbody.*--data-dir"):
        charged5(DataOptions(train=8), tmp_path)


@pytest.mark.parametrize("train", [0, -1, 3001])
def test_a_wrong_number_of_training_systems_is_refused(train):
    with pytest.raises(ValueError, match=f"between 1 and 3000, got {train}"):
        DataOptions(train=train)


def test_sensitivity_tells_chaotic_systems_from_regular_ones(few_systems, monkeypatch):
    monkeypatch.setattr(data, "INPUT_STEP", 2000)
    monkeypatch.setattr(data, "TARGET_STEP", 3000)
    distant = torch.tensor([[10.0, 0, 0], [-10, 0, 0], [0, 10, 0], [0, -10, 0], [0, 0, 10]])
    # four charges that fall through one another again and again
    close = torch.tensor([[0.3, 0, 0], [-0.3, 0.1, 0], [0, 0.3, 0.1], [0, -0.3, 0], [9, 0, 0]])
    charges = torch.tensor([[1, -1, 1, -1, 1]] * 2, dtype=torch.int8)
    points = torch.stack([distant, close]).double()
    states = InitialStates(charges.numpy(), points.numpy(), torch.zeros(2, 5, 3).double().numpy())
    regular, chaotic = data.observe(states)["sensitivity"]
    assert regular < 1e-12
    assert chaotic > data.REPRODUCIBLE
