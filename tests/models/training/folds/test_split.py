"""Folds and held-out parts: which items they have."""

import pytest
import torch

from eqlib.models.training.folds import hold_out, stratified_folds


@pytest.mark.parametrize("sizes", [(30, 30), (13, 51, 7), (10,), (3, 40)], ids=str)
def test_stratified_folds_share_out_every_class(sizes):
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    folds = stratified_folds(labels, 10, seed=0)
    assert torch.cat(folds).sort().values.equal(torch.arange(len(labels)))
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    counts = torch.stack([labels[fold].bincount(minlength=len(sizes)) for fold in folds])
    assert (counts.amax(0) - counts.amin(0)).max() <= 1
    assert all(a.equal(b) for a, b in zip(folds, stratified_folds(labels, 10, 0), strict=True))
    assert not all(a.equal(b) for a, b in zip(folds, stratified_folds(labels, 10, 1), strict=True))


def test_control_folds_that_are_dealt_in_order_share_out_nothing():
    labels = torch.arange(2).repeat_interleave(30)
    counts = torch.stack([fold.bincount(minlength=2) for fold in labels.chunk(10)])
    assert (counts.amax(0) - counts.amin(0)).max() == 6


def test_held_out_items_are_a_tenth_of_every_class(rng):
    labels = torch.tensor([0] * 63 + [1] * 125)[torch.randperm(188, generator=rng)]
    items = torch.randperm(188, generator=rng)[:170]
    kept, held = hold_out(labels, items, fold=3, seed=0)
    assert torch.cat([kept, held]).sort().values.equal(items.sort().values)
    expected = [round(count / 10) for count in labels[items].bincount().tolist()]
    assert labels[held].bincount().tolist() == expected
    assert held.equal(hold_out(labels, items, 3, 0)[1])
    for other in (hold_out(labels, items, 4, 0), hold_out(labels, items, 3, 1)):
        assert not held.equal(other[1])


def test_a_rare_class_keeps_and_holds_out_an_item():
    labels = torch.tensor([0] * 20 + [1, 1] + [2])
    kept, held = hold_out(labels, torch.arange(23), fold=1, seed=0)
    assert labels[kept].bincount().tolist() == [18, 1, 1]
    assert labels[held].bincount(minlength=3).tolist() == [2, 1, 0]
