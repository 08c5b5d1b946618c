"""A task with folds for the tests of cross-validation: which side of a line points lie on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from eqlib.models.training import (
    Batch,
    Dataset,
    InMemory,
    RunConfig,
    Splits,
    Task,
    TrainingConfig,
)
from eqlib.models.training.folds import FOLDS, FoldOptions, check_folds, hold_out, stratified_folds
from eqlib.models.training.folds.figures import Finished

SIDES = "tests.models.training.toy_folds:Sides"
POINTS = 60


class Lines(nn.Module):
    """Scores for the sides; ``outputs`` is a size that the data decide."""

    def __init__(self, width: int = 8, outputs: int = 7, dropout: float = 0.2) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, outputs)
        )

    def forward(self, points: Tensor) -> Tensor:
        """Return one row of scores per point."""
        return self.layers(points)


@dataclass
class Options(FoldOptions):
    """Folds of points."""

    dataset: str = "line"

    def __post_init__(self) -> None:
        check_folds(self)


class Sides(Task):
    """Which side of a line random points lie on."""

    name = "sides"
    dataset = "points"
    models: ClassVar = {"lines": Lines}
    options = Options
    presets = Path(__file__).parent / "presets"
    sized: ClassVar = ("outputs",)
    selection = "cross_entropy"
    loads = 0

    def __init__(self, options: Any = None, data_dir: Path | None = None, seed: int = 0) -> None:
        super().__init__(options, data_dir, seed)
        self.keeps_last = self.settings.is_published
        self.follows_test = not self.settings.is_published

    def load(self) -> Splits:
        """Draw the points and divide them."""
        rng = torch.Generator().manual_seed(0)
        points = torch.randn(POINTS, 2, generator=rng)
        sides = (points.sum(1) + 0.3 * torch.randn(POINTS, generator=rng) > 0).long()
        tests = stratified_folds(sides, FOLDS, 0)
        test = tests[self.settings.fold - 1]
        everything = torch.arange(POINTS)
        train = everything[~torch.isin(everything, test)]
        valid = test
        if not self.settings.is_published:
            train, valid = hold_out(sides, train, self.settings.fold, self.seed)
        return Splits(
            *(InMemory(points=points[rows], sides=sides[rows]) for rows in (train, valid, test))
        )

    def network_options(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the number of sides."""
        return {"outputs": 2}

    def facts(self, splits: Splits) -> dict[str, Any]:
        """Return the number of points."""
        return {"points": POINTS, "majority": 0.5}

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return cross entropies."""
        return functional.cross_entropy(model(batch["points"]), batch["sides"], reduction="none")

    def measures(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return cross entropies and hits."""
        right = model(batch["points"]).argmax(1) == batch["sides"]
        return {"cross_entropy": self.losses(model, batch), "accuracy": right.float()}

    def summarise(self, measures: dict[str, Tensor]) -> dict[str, float]:
        """Return means."""
        return {name: values.mean().item() for name, values in measures.items()}

    def example(self, split: Dataset) -> Batch:
        """Return the points of a split."""
        return {"points": split[torch.arange(len(split))]["points"]}

    def equivariance(self, model: nn.Module, split: Dataset) -> dict[str, float]:
        """Return nothing worth reading: the network has no symmetry."""
        return {"float32": 1.0, "float64": 1.0}

    def picture(self, model: nn.Module, split: Dataset, path: Path) -> None:
        """Leave an empty file in place of a picture."""
        path.touch()


def folds_config(seed: int = 0, data: dict[str, Any] | None = None, **training: Any) -> RunConfig:
    """Return a short cross-validation on one thread: 3 folds, 14 epochs of 6 or 7 steps."""
    defaults = {"epochs": 14, "batch_size": 8, "device": "cpu", "threads": 1}
    options = TrainingConfig(**(defaults | training))
    return RunConfig(SIDES, "lines", "quick", seed, {}, {"folds": 3} | (data or {}), options)


def finished_run(fold: int, curve: list[float], rule: str = "published") -> Finished:
    """Return a made-up run of a cross-validation with this test accuracy after each epoch."""
    prefix = "valid" if rule == "published" else "test"
    rows = [
        {"step": i, "epoch": float(i), f"{prefix}_accuracy": value}
        for i, value in enumerate(curve, start=1)
    ]
    report = {
        "parameters": 1,
        "seconds": 1.0,
        "equivariance": {},
        "activation_bytes": 0,
        "data": {},
        "sizes": {"test": 5},
        "best_epoch": 1.0,
        "test": {"accuracy": curve[0]},
    }
    return Finished(fold, rule, report, rows)
