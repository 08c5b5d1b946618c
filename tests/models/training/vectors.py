"""A task for the tests of the command: stretch vectors, with or without knowing of rotations."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from eqlib.models.training import Batch, Dataset, InMemory, Splits, Task, to_device
from eqlib.symmetry import O, Signature, Vector, equivariance_error


class Radial(nn.Module):
    """Stretches each vector by a function of its length.

    Args:
        width: hidden channels.
        powers: powers of the length that enter.
        activation: nonlinearity between the two maps.
    """

    def __init__(
        self,
        width: int = 4,
        powers: tuple[int, ...] = (1, 2),
        activation: Literal["silu", "tanh"] = "silu",
    ) -> None:
        super().__init__()
        self.powers = powers
        nonlinearity = nn.SiLU() if activation == "silu" else nn.Tanh()
        self.stretch = nn.Sequential(
            nn.Linear(len(powers), width), nonlinearity, nn.Linear(width, 1)
        )

    def forward(self, points: Tensor) -> Tensor:
        """Return the stretched vectors."""
        length = points.norm(dim=-1, keepdim=True)
        return points * self.stretch(torch.cat([length**power for power in self.powers], dim=-1))


class Dense(nn.Module):
    """Maps the coordinates linearly, which no rotation respects."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.map = nn.Linear(3, 3, bias=bias)

    def forward(self, points: Tensor) -> Tensor:
        """Return the mapped vectors."""
        return self.map(points)


@dataclass
class Options:
    """Sizes of the data.

    Args:
        train: training vectors.
        scale: length of the vectors.
    """

    train: int = 20
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.train > 100:
            raise ValueError(f"train: expected at most 100, got {self.train}")


class Vectors(Task):
    """Double random vectors."""

    name = "vectors"
    dataset = "random"
    models: ClassVar = {"radial": Radial, "dense": Dense}
    options = Options
    presets = Path(__file__).parent / "vectors_presets"

    def load(self) -> Splits:
        """Draw the vectors."""
        rng = torch.Generator().manual_seed(0)
        sizes = (self.settings.train, 10, 10)
        scale = self.settings.scale
        return Splits(*(InMemory(points=scale * torch.randn(n, 3, generator=rng)) for n in sizes))

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return squared errors."""
        return (model(batch["points"]) - 2 * batch["points"]).square().mean(-1)

    def measures(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return squared errors."""
        return {"mse": self.losses(model, batch)}

    def example(self, split: Dataset) -> Batch:
        """Return the vectors of a split."""
        return split[torch.arange(len(split))]

    def equivariance(self, model: nn.Module, split: Dataset) -> dict[str, float]:
        """Return the relative error under rotations and reflections."""
        signature = Signature(O(3), {"points": Vector()}, Vector())
        errors = {}
        for dtype in (torch.float32, torch.float64):
            inputs = to_device(self.example(split), torch.device("cpu"), dtype)
            report = equivariance_error(model.to(dtype), inputs, signature)
            errors[str(dtype).removeprefix("torch.")] = report.max
        model.float()
        return errors

    def picture(self, model: nn.Module, split: Dataset, path: Path) -> None:
        """Leave an empty file in place of a picture."""
        path.touch()
