"""How far networks on a plain grid of orientations are from equivariant, grid by grid."""

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

# Run as a script, this file sees its own folder only.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import ENVIRONMENT, ROOT, describe_environment
from eqlib.models.nbody.data import SEED, observe
from eqlib.models.nbody.simulate import draw_initial_states
from eqlib.position_orientation import (
    EdgeOptions,
    KernelOptions,
    OrientationGrid,
    PositionOrientationNet,
)
from eqlib.symmetry import as_group

RESULT = ROOT / "benchmarks" / "results" / "orientation_grids.csv"
SYSTEMS, PARTICLES = 40, 5
CHANNELS, LAYERS = 32, 3
COLUMNS = ("space", "grid", "size", "strength", "weights", "vector", "largest", "scalar", "turned")


@dataclass(frozen=True)
class Candidate:
    """A grid under a name of its own."""

    name: str
    size: int
    kind: str
    space: str = "R3xS2"
    weights: str = "quadrature"

    def make(self) -> OrientationGrid:
        """Return the grid."""
        return OrientationGrid(self.space, self.size, self.kind, self.weights)


CANDIDATES = (
    Candidate("tetrahedron", 4, "platonic"),
    Candidate("octahedron", 6, "platonic"),
    Candidate("cube", 8, "platonic"),
    Candidate("repulsion", 8, "repulsion"),
    Candidate("Fibonacci", 12, "fibonacci"),
    Candidate("Fibonacci", 12, "fibonacci", weights="equal"),
    Candidate("icosahedron", 12, "platonic"),
    Candidate("Fibonacci", 16, "fibonacci"),
    Candidate("repulsion", 16, "repulsion"),
    Candidate("Fibonacci", 20, "fibonacci"),
    Candidate("Fibonacci", 20, "fibonacci", weights="equal"),
    Candidate("dodecahedron", 20, "platonic"),
    Candidate("repulsion", 20, "repulsion"),
    Candidate("sign orbit", 24, "sign_orbit"),
    Candidate("both solids", 32, "platonic"),
    Candidate("repulsion", 32, "repulsion"),
    Candidate("Fibonacci", 32, "fibonacci"),
    Candidate("sign orbit", 64, "sign_orbit"),
    Candidate("repulsion", 64, "repulsion"),
    Candidate("Fibonacci", 64, "fibonacci"),
    *(Candidate("uniform", size, "uniform", "R2xS1") for size in (6, 8, 10, 12)),
)


@dataclass(frozen=True)
class Errors:
    """Relative errors of a grid: vectors, mean and largest; scalars; vectors of the turned grid."""

    vector: float
    largest: float
    scalar: float
    turned: float


def main(words: Sequence[str] | None = None) -> None:
    """Print a table of relative errors and write it to a file.

    Args:
        words: those of the command line; None takes them from there.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", type=int, default=3, help="random networks for each grid")
    parser.add_argument("--rotations", type=int, default=4, help="rotations for each network")
    parser.add_argument("--output", type=Path, default=RESULT, help="CSV file to write")
    options = parser.parse_args(words)
    measured = {
        candidate: measure(candidate, options.nets, options.rotations) for candidate in CANDIDATES
    }
    Console(width=None if sys.stdout.isatty() else 100).print(make_table(measured))
    write(options.output, measured)


def measure(candidate: Candidate, nets: int, rotations: int) -> Errors:
    r"""Measure :math:`\|f(R x) - R f(x)\| / \|f(x)\|` of random networks.

    Args:
        candidate: the grid.
        nets: number of networks.
        rotations: number of rotations for each.
    """
    inputs = systems(candidate)
    n = inputs["points"].shape[-1]
    generator = torch.Generator().manual_seed(1)
    turns = as_group(f"SO({n})").sample(generator, rotations).matrix
    assert turns is not None
    vectors, scalars, turned = [], [], []
    for seed in range(nets):
        found = [error_of(network(candidate, seed, exact=False), inputs, turn) for turn in turns]
        vectors += [error.vectors for error in found]
        scalars += [error.scalars for error in found]
        net = network(candidate, seed, exact=True)
        if net.turns is not None and net.turns.signs == "one":
            turned.append(error_of(net, inputs, turns[0]).vectors)
    return Errors(
        sum(vectors) / len(vectors),
        max(vectors),
        sum(scalars) / len(scalars),
        max(turned, default=math.nan),
    )


class Pair(NamedTuple):
    """Relative errors of the outputs of a network."""

    scalars: float
    vectors: float


def error_of(net: PositionOrientationNet, inputs: dict[str, Tensor], turn: Tensor) -> Pair:
    """Return the relative errors of a network under one rotation.

    Args:
        net: the network.
        inputs: of the network.
        turn: the rotation.
    """
    moved = {name: inputs[name] @ turn.mT for name in ("points", "vectors")}
    plain, found = net(**inputs), net(**{**inputs, **moved})
    return Pair(
        _relative(found.scalars, plain.scalars), _relative(found.vectors, plain.vectors @ turn.mT)
    )


def systems(candidate: Candidate) -> dict[str, Tensor]:
    """Return charged particles as in the N-body set; in the plane, two coordinates of them.

    Args:
        candidate: its space tells the number of coordinates.
    """
    states = draw_initial_states(np.random.RandomState(SEED), SYSTEMS)
    seen = {name: torch.from_numpy(values).double() for name, values in observe(states).items()}
    n = 2 if candidate.space == "R2xS1" else 3
    charges = seen["charges"].flatten()
    nodes = torch.arange(PARTICLES)
    source, target = torch.cartesian_prod(nodes, nodes)[
        torch.cartesian_prod(nodes, nodes).diff().squeeze(-1) != 0
    ].unbind(-1)
    first = PARTICLES * torch.arange(SYSTEMS)[:, None]
    edges = torch.stack([(source + first).flatten(), (target + first).flatten()])
    return {
        "points": seen["points"].flatten(0, 1)[:, :n].contiguous(),
        "vectors": seen["velocities"].flatten(0, 1)[:, None, :n].contiguous(),
        "scalars": charges[:, None],
        "edge_index": edges,
        "edge_scalars": (charges[edges[0]] * charges[edges[1]])[:, None],
        "batch": torch.arange(SYSTEMS).repeat_interleave(PARTICLES),
    }


def network(candidate: Candidate, seed: int, exact: bool) -> PositionOrientationNet:
    """Return a random network, whose lengths are not bounded.

    Args:
        candidate: the grid.
        seed: of the weights.
        exact: whether the grid is turned by frames.
    """
    torch.manual_seed(seed)
    grid = candidate.make()
    net = PositionOrientationNet(
        1,
        1,
        1,
        1,
        grid.space,
        grid,
        exact=exact,
        channels=CHANNELS,
        layers=LAYERS,
        group="SE(2)" if candidate.space == "R2xS1" else "E(3)",
        edge_scalars=1,
        kernel=KernelOptions(hidden=CHANNELS, basis=CHANNELS),
        edges=EdgeOptions(reach=None),
    )
    return net.double().eval().requires_grad_(False)


def make_table(measured: dict[Candidate, Errors]) -> Table:
    """Return the errors as a table.

    Args:
        measured: errors of each grid.
    """
    table = Table(title="Relative equivariance error of random networks", title_justify="left")
    table.add_column("grid")
    for column in ("O", "strength", "weights", "vector mean", "max", "scalar", "turned"):
        table.add_column(column, justify="right", no_wrap=True)
    for candidate, errors in measured.items():
        table.add_row(
            f"{candidate.name} ({candidate.space})",
            str(candidate.size),
            str(candidate.make().strength),
            candidate.weights,
            f"{errors.vector:.3f}",
            f"{errors.largest:.2f}",
            f"{errors.scalar:.3f}",
            "" if math.isnan(errors.turned) else f"{errors.turned:.0e}",
        )
    return table


def write(path: Path, measured: dict[Candidate, Errors]) -> None:
    """Write a CSV file that says where the figures come from.

    Args:
        path: the file.
        measured: errors of each grid.
    """
    environment = describe_environment(torch.device("cpu"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, (*COLUMNS, *ENVIRONMENT), lineterminator="\n")
        writer.writeheader()
        for candidate, errors in measured.items():
            figures = (errors.vector, errors.largest, errors.scalar, errors.turned)
            texts = ["" if math.isnan(figure) else f"{figure:.3g}" for figure in figures]
            names = (candidate.space, candidate.name, candidate.size, candidate.make().strength)
            row = dict(zip(COLUMNS, (*names, candidate.weights, *texts), strict=True))
            writer.writerow({**row, **environment})


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


if __name__ == "__main__":
    main()
