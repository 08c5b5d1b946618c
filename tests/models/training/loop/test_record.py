"""Losses between evaluations."""

import pytest
import torch

from eqlib.models.training.loop import Processes
from eqlib.models.training.loop.record import Record, Step

ALONE = Processes(0, 1, torch.device("cpu"))


def make_step(number, losses, norm=1.0):
    """Return a step on as many items as there are losses, numbered from 10 times the step."""
    indices = torch.arange(len(losses)) + 10 * number
    return Step(number, indices, torch.tensor(losses), torch.tensor(norm))


def test_means_weigh_items_and_not_steps():
    record = Record(ALONE, epoch_steps=5)
    record.add(make_step(1, [1.0, 2.0, 3.0], norm=1.0))
    record.add(make_step(2, [10.0], norm=3.0))
    assert record.means() == (4.0, 2.0, 4)


def test_state_continues_where_it_was_saved():
    record, other = Record(ALONE, 5), Record(ALONE, 5)
    record.add(make_step(1, [1.0, 2.0]))
    other.load_state_dict(record.state_dict())
    assert other.means() == record.means()


def test_cleared_record_starts_anew():
    record = Record(ALONE, 5)
    record.add(make_step(1, [100.0]))
    record.clear()
    record.add(make_step(2, [2.0]))
    assert record.means() == (2.0, 1.0, 1)


@pytest.mark.parametrize(
    ("losses", "norm", "message"),
    [
        ([1.0, torch.nan], 1.0, r"items \[71\] is not finite in step 7 \(epoch 2, batch 2\)"),
        ([torch.inf, torch.nan], 1.0, r"items \[70, 71\] is not finite in step 7"),
        ([1.0, 1.0], torch.nan, r"the gradient is not finite in step 7"),
    ],
    ids=["loss", "losses", "gradient"],
)
def test_step_that_is_not_finite_is_named(losses, norm, message):
    record = Record(ALONE, epoch_steps=5)
    record.add(make_step(6, [1.0]))
    with pytest.raises(FloatingPointError, match=message):
        record.add(make_step(7, losses, norm))


def test_overflowing_gradient_is_left_out_where_it_may_happen():
    record = Record(ALONE, 5, overflow=True)
    record.add(make_step(1, [1.0], norm=torch.inf))
    record.add(make_step(2, [1.0], norm=4.0))
    assert record.means() == (1.0, 2.0, 2)
