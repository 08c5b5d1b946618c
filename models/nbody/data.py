"""The charged 5-body data set: made by the simulator, kept in a cache with its checksum."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch
from numpy import ndarray
from torch import Tensor

from eqlib.models.nbody.simulate import InitialStates, Trajectory, draw_initial_states, simulate
from eqlib.models.training import InMemory, Splits
from eqlib.models.training.storage import load_or_make

SEED = 43
GENERATED = {"train": 10_000, "valid": 2_000, "test": 2_000}
KEPT = {"train": 3_000, "valid": 2_000, "test": 2_000}
INPUT_STEP, TARGET_STEP = 3_100, 4_100
REPRODUCIBLE = 1e-6


@dataclass
class DataOptions:
    """What to use of the charged 5-body set.

    Args:
        train: number of training systems, from the first on; the published protocol takes 3,000.
    """

    train: int = 3_000

    def __post_init__(self) -> None:
        if not 1 <= self.train <= KEPT["train"]:
            raise ValueError(f"train must lie between 1 and {KEPT['train']}, got {self.train}")


def charged5(options: DataOptions | None = None, data_dir: Path | None = None) -> Splits:
    """Return the training, validation and test systems, simulating them on first use.

    Every item has ``charges (5,)``, ``points`` and ``velocities (5, 3)`` at time 3.1, ``targets
    (5, 3)``, the positions at time 4.1, and ``sensitivity``, the largest change of any of these
    when the order of summation over the particles is reversed: above 1e-6 the system is chaotic
    and its target depends on rounding.

    Args:
        options: what to use of the set.
        data_dir: folder of the cache; None takes the user's cache folder.

    Source:
        The data set of E(n) Equivariant Graph Neural Networks (Satorras et al., ICML 2021).
    """
    options = DataOptions() if options is None else options
    tensors = load_or_simulate(cache_path(data_dir))
    splits = {
        split: {
            name.removeprefix(f"{split}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{split}.")
        }
        for split in KEPT
    }
    splits["train"] = {name: tensor[: options.train] for name, tensor in splits["train"].items()}
    return Splits(**{split: InMemory(**tensors) for split, tensors in splits.items()})


def cache_path(data_dir: Path | None = None) -> Path:
    """Return the file that holds the simulated systems."""
    folder = platformdirs.user_cache_path("eqlib") if data_dir is None else Path(data_dir)
    return folder / "nbody" / "charged5.safetensors"


def load_or_simulate(path: Path) -> dict[str, Tensor]:
    """Read the systems from ``path``, or simulate them and write them there; see `load_or_make`."""
    return load_or_make(path, simulate_splits, "the simulated systems")


def simulate_splits() -> dict[str, Tensor]:
    """Simulate all three splits; about ten seconds on one core."""
    random = np.random.RandomState(SEED)
    tensors = {}
    for split, generated in GENERATED.items():
        drawn = draw_initial_states(random, generated)
        states = InitialStates(*(array[: KEPT[split]] for array in drawn))
        for name, array in observe(states).items():
            tensors[f"{split}.{name}"] = torch.from_numpy(np.ascontiguousarray(array))
    return tensors


def observe(states: InitialStates) -> dict[str, ndarray]:
    """Return the inputs, the target and the rounding sensitivity of every system."""
    steps = (INPUT_STEP, TARGET_STEP)
    kept = simulate(states, steps)
    reverse = simulate(InitialStates(*(array[:, ::-1] for array in states)), steps)
    change = np.abs(np.stack(kept) - np.stack(Trajectory(*(a[:, :, ::-1] for a in reverse))))
    return {
        "charges": states.charges.astype(np.float64),
        "points": kept.positions[0],
        "velocities": kept.velocities[0],
        "targets": kept.positions[1],
        "sensitivity": change.max(axis=(0, 1, 3, 4)),
    }
