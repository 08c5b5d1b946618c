"""A small task for the tests of the training loop: norms of vectors, learnt by a tiny network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from eqlib.models.training import (
    Batch,
    Dataset,
    InMemory,
    RunConfig,
    Splits,
    Task,
    TrainingConfig,
)

TOY = "tests.models.training.toy:Toy"


class Network(nn.Module):
    """Predicts a norm from a vector; the layer ``unused`` never sees a gradient."""

    def __init__(self, width: int = 16, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, 1)
        )
        self.unused = nn.Linear(2, 2)

    def forward(self, points: Tensor) -> Tensor:
        """Return one number per point."""
        return self.layers(points).squeeze(-1)


@dataclass
class Options:
    """Sizes and flaws of the data."""

    train: int = 50
    valid: int = 23
    flaw: Literal["none", "loss", "gradient", "validation", "shape"] = "none"
    """What is wrong with item 7."""


class Toy(Task):
    """Norms of random vectors."""

    name = "toy"
    dataset = "vectors"
    models: ClassVar = {"network": Network}
    options = Options
    presets = Path(__file__).parent / "presets"

    def load(self) -> Splits:
        """Draw the vectors."""
        rng = torch.Generator().manual_seed(0)
        splits = []
        for items in (self.settings.train, self.settings.valid, 23):
            points = torch.randn(items, 3, generator=rng, dtype=torch.float64)
            splits.append(InMemory(points=points, norms=points.norm(dim=-1)))
        if self.settings.flaw == "loss":
            splits[0].tensors["norms"][7] = torch.nan
        if self.settings.flaw == "validation":
            splits[1].tensors["norms"][7] = torch.inf
        if self.settings.flaw == "gradient":
            splits[0].tensors["norms"][7] = 0
        return Splits(*splits)

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return squared errors."""
        errors = (model(batch["points"]) - batch["norms"]) ** 2
        if self.settings.flaw == "gradient":  # the root of zero has an infinite derivative
            errors = errors + torch.where(batch["norms"] == 0, (errors * 0).sqrt(), 0)
        return errors.mean() if self.settings.flaw == "shape" else errors

    def measures(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return squared errors."""
        return {"mse": (model(batch["points"]) - batch["norms"]) ** 2}

    def example(self, split: Dataset) -> Batch:
        """Return 100 vectors, repeating those there are."""
        return {"points": split[torch.arange(100) % len(split)]["points"]}

    def equivariance(self, model: nn.Module, split: Dataset) -> dict[str, float]:
        """Return nothing worth reading: the network has no symmetry."""
        return {"float32": 1.0, "float64": 1.0}

    def picture(self, model: nn.Module, split: Dataset, path: Path) -> None:
        """Leave an empty file in place of a picture."""
        path.touch()


def toy_config(
    seed: int = 0,
    network: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    **training: Any,
) -> RunConfig:
    """Return a short run on one thread: 4 epochs of 7 steps, the last on 2 items."""
    defaults = {"epochs": 4, "batch_size": 8, "device": "cpu", "threads": 1}
    options = TrainingConfig(**(defaults | training))
    return RunConfig(TOY, "network", "quick", seed, network or {}, data or {}, options)
