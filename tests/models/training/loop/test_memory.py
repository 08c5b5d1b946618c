"""Bytes that the backward pass of a training step keeps."""

import gc
import weakref

import pytest
import torch
from torch import nn

from eqlib.models.training import train
from eqlib.models.training.loop import Processes, Trainer, saved_bytes
from tests.models.training.toy_folds import Lines, Options, Sides, folds_config


@pytest.fixture
def make_trainer(tmp_path):
    def make(batch_size: int, network: nn.Module | None = None) -> Trainer:
        task = Sides(Options(protocol="published"))
        config = folds_config(batch_size=batch_size)
        alone = Processes(0, 1, torch.device("cpu"))
        network = network or Lines(outputs=2, dropout=0.0)
        return Trainer(task, network, task.load(), config, alone, tmp_path, {})

    return make


def test_bytes_are_those_of_the_largest_batch(make_trainer):
    # 54 points: batches of 54, or of 20 and at last 14
    network = nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 2))
    for batch_size, items in ((54, 54), (20, 20)):
        # what enters SiLU and what leaves it, the log-softmax and one number for the mean's weights
        kept = saved_bytes(make_trainer(batch_size, network)) - 4 * items * (8 + 8 + 2)
        assert 0 <= kept <= 64


def test_measuring_changes_nothing_and_is_repeated_to_the_byte(make_trainer):
    trainer = make_trainer(10, Lines(outputs=2))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    state = torch.get_rng_state()
    assert saved_bytes(trainer) == saved_bytes(trainer) > 0
    assert torch.get_rng_state().equal(state)
    assert all(value.equal(before[name]) for name, value in trainer.model.state_dict().items())


def test_what_was_measured_is_freed(make_trainer):
    trainer, seen = make_trainer(10), []
    layers = trainer.model.layers
    layers[1].register_forward_hook(lambda *args: seen.append(weakref.ref(args[2])))
    saved_bytes(trainer)
    gc.collect()
    assert seen
    assert all(reference() is None for reference in seen)


def test_cross_validations_measure_the_same_again(tmp_path):
    config = folds_config(data={"folds": 2}, epochs=1)
    first, second = (train(config, tmp_path / name) for name in ("first", "second"))
    assert first["activation_bytes"] == second["activation_bytes"]
