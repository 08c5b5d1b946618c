"""The set of sampled solids: made from a seed, kept in a cache with its checksum."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs
import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.models.normals.shapes import draw_clouds
from eqlib.models.training import InMemory, Splits
from eqlib.models.training.storage import load_or_make

SEED = 20
POINTS = 256
SHAPES = {"train": 2_000, "valid": 200, "test": 500}

Rotations = Literal["z", "so3"]


@dataclass
class DataOptions:
    """What to use of the sampled solids, and how they are turned.

    Args:
        train: number of training shapes, from the first on.
        train_rotations: rotations of the training and validation shapes, drawn anew for every
            use of a training shape: z turns about the vertical axis only, so3 in all ways. Test
            shapes are measured under both.
    """

    train: int = SHAPES["train"]
    train_rotations: Rotations = "z"

    def __post_init__(self) -> None:
        if not 1 <= self.train <= SHAPES["train"]:
            raise ValueError(f"train must lie between 1 and {SHAPES['train']}, got {self.train}")


def solids(options: DataOptions | None = None, data_dir: Path | None = None) -> Splits:
    """Return the training, validation and test shapes, making them on first use.

    Every item has ``points`` and ``normals (256, 3)`` of an upright shape, its ``operation`` and
    ``symmetry`` as in :mod:`~eqlib.models.normals.shapes`, and the rotations ``turn_z`` and
    ``turn_so3 (3, 3)`` under which it is measured.

    Args:
        options: what to use of the set.
        data_dir: folder of the cache; None takes the user's cache folder.
    """
    options = DataOptions() if options is None else options
    tensors = load_or_sample(cache_path(data_dir))
    splits = {
        split: {
            name.removeprefix(f"{split}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{split}.")
        }
        for split in SHAPES
    }
    splits["train"] = {name: tensor[: options.train] for name, tensor in splits["train"].items()}
    return Splits(**{split: InMemory(**tensors) for split, tensors in splits.items()})


def random_rotations(
    number: int, kind: Rotations, device: torch.device | None = None
) -> Float[Tensor, "number 3 3"]:
    """Draw uniform rotations, about the z axis or in all ways, with torch's own generator."""
    if kind == "z":
        angle = 2 * math.pi * torch.rand(number, dtype=torch.float64, device=device)
        zero = torch.zeros_like(angle)
        quaternion = torch.stack([(angle / 2).cos(), zero, zero, (angle / 2).sin()], -1)
    else:
        quaternion = torch.randn(number, 4, dtype=torch.float64, device=device)
        quaternion = quaternion / quaternion.norm(dim=-1, keepdim=True)
    w, x, y, z = quaternion.unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def cache_path(data_dir: Path | None = None) -> Path:
    """Return the file that holds the shapes."""
    folder = platformdirs.user_cache_path("eqlib") if data_dir is None else Path(data_dir)
    return folder / "normals" / f"solids{POINTS}.safetensors"


def load_or_sample(path: Path) -> dict[str, Tensor]:
    """Read the shapes from ``path``, or make them and write them there; see `load_or_make`."""
    return load_or_make(path, make_splits, "the shapes")


def make_splits() -> dict[str, Tensor]:
    """Draw all three splits, each from a seed of its own; about ten seconds on one core."""
    tensors: dict[str, Tensor] = {}
    for number, (split, shapes) in enumerate(SHAPES.items()):
        clouds = draw_clouds(shapes, POINTS, torch.Generator().manual_seed(SEED + number))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED + number)
            turns = {f"turn_{kind}": random_rotations(shapes, kind) for kind in ("z", "so3")}
        for name, tensor in {**clouds._asdict(), **turns}.items():
            single = tensor.float() if tensor.is_floating_point() else tensor
            tensors[f"{split}.{name}"] = single.contiguous()
    return tensors
