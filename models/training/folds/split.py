"""Folds and held-out parts in which every class has its share."""

import torch
from jaxtyping import Int
from torch import Tensor

from eqlib.models.training.loop import derive_seed


def stratified_folds(
    labels: Int[Tensor, "items"], folds: int, seed: int
) -> list[Int[Tensor, "test"]]:
    """Return the test items of each fold: disjoint, together all items, every class spread evenly.

    The numbers of a class in two folds differ by at most one, and so do the sizes of the folds.

    Args:
        labels: class of each item.
        folds: number of folds.
        seed: of the order in which the items of a class are dealt.
    """
    dealt = torch.cat(_shuffled_classes(labels, "folds", seed))
    owner = torch.empty_like(labels)
    owner[dealt] = torch.arange(len(labels)) % folds
    return [(owner == fold).nonzero()[:, 0] for fold in range(folds)]


def hold_out(
    labels: Int[Tensor, "items"],
    items: Int[Tensor, "chosen"],
    fold: int,
    seed: int,
    share: float = 0.1,
) -> tuple[Int[Tensor, "kept"], Int[Tensor, "held"]]:
    """Divide items into those that are trained on and those held out, class by class.

    Args:
        labels: class of every item of the data set.
        items: the items to divide.
        fold: number of the fold that they are the training items of.
        seed: of the choice, which depends on fold and seed alone.
        share: part of each class that is held out, rounded, and at least one item of a class that
            has two or more.

    Returns:
        Those kept and those held out, each in the order of ``items``.
    """
    chosen = labels[items]
    held = torch.zeros(len(items), dtype=torch.bool)
    for places in _shuffled_classes(chosen, "hold out", fold, seed):
        count = max(round(share * len(places)), 1) if len(places) > 1 else 0
        held[places[:count]] = True
    return items[~held], items[held]


def _shuffled_classes(labels: Tensor, purpose: str, *numbers: int) -> list[Tensor]:
    """The places of each class, in a random order."""
    generator = torch.Generator().manual_seed(derive_seed(purpose, *numbers))
    order = torch.randperm(len(labels), generator=generator)
    return [order[labels[order] == label] for label in labels.unique()]
