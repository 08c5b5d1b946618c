"""Which items a process sees, and in which order."""

import pytest
import torch
from torch.testing import assert_close

from eqlib.models.training import InMemory, to_device
from eqlib.models.training.loop import derive_seed
from eqlib.models.training.loop.batches import epoch_order, fetch, num_batches, shard
from tests.models.training.processes import in_child

CPU = torch.device("cpu")


def test_batch_has_the_items_asked_for_in_their_order():
    data = InMemory(points=torch.arange(12.0).reshape(4, 3), labels=torch.arange(4))
    batch = data[torch.tensor([2, 0])]
    assert_close(batch["points"], torch.tensor([[6.0, 7.0, 8.0], [0.0, 1.0, 2.0]]))
    assert batch["labels"].tolist() == [2, 0]
    assert len(data) == 4


def test_tensors_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"'points': 4, 'labels': 5"):
        InMemory(points=torch.zeros(4, 3), labels=torch.zeros(5))


def test_only_floating_tensors_change_their_dtype():
    batch = {"x": torch.zeros(2, dtype=torch.float64), "i": torch.zeros(2, dtype=torch.int64)}
    moved = to_device(batch, CPU, torch.float32)
    assert {name: tensor.dtype for name, tensor in moved.items()} == {
        "x": torch.float32,
        "i": torch.int64,
    }


def test_order_is_a_permutation_that_depends_on_seed_and_epoch_alone():
    order = epoch_order(0, 0, 100)
    assert sorted(order.tolist()) == list(range(100))
    torch.manual_seed(1)
    assert order.equal(epoch_order(0, 0, 100))
    assert not order.equal(epoch_order(0, 1, 100))
    assert not order.equal(epoch_order(1, 0, 100))


def test_seeds_of_different_purposes_differ():
    seeds = {derive_seed(*key) for key in [("order", 0, 1), ("order", 1, 0), ("weights", 0)]}
    assert len(seeds) == 3


@pytest.mark.parametrize(
    ("items", "batch_size", "expected"), [(1, 8, 1), (8, 8, 1), (9, 8, 2)], ids=str
)
def test_last_batch_may_be_smaller(items, batch_size, expected):
    assert num_batches(items, batch_size) == expected


@pytest.mark.parametrize(("items", "size"), [(8, 1), (8, 3), (2, 3), (1, 2), (0, 2)], ids=str)
def test_parts_of_a_batch_cover_it_once(items, size):
    parts = [shard(torch.arange(items), rank, size) for rank in range(size)]
    assert torch.cat(parts).tolist() == list(range(items))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def values_read_by(workers):
    """Return what `fetch` yields and whether it left the global random state alone."""
    data = InMemory(values=torch.arange(10.0))
    before = torch.get_rng_state()
    batches = fetch(data, [torch.tensor([1, 2]), torch.tensor([9])], workers)
    return [batch["values"].tolist() for batch in batches], before.equal(torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 2], ids=str)
def test_workers_read_the_same_batches_and_no_random_numbers(workers):
    assert in_child(values_read_by, workers) == ([[1.0, 2.0], [9.0]], True)
