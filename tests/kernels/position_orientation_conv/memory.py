"""Peak memory of the implementations at a size of the README.

``python -m tests.kernels.position_orientation_conv.memory [names]`` prints the table.
"""

import sys
from functools import partial
from math import inf

import torch

from benchmarks.memory import peak_bytes
from eqlib.kernels.position_orientation_conv import derivatives
from eqlib.kernels.position_orientation_conv.implementations import load
from eqlib.kernels.problems import MESSAGE_SIZES
from tests.kernels.position_orientation_conv.cases import Case, make

SIZE = "20,000 edges"


def problem(rng):
    nodes, edges, orientations, channels, hidden, basis = MESSAGE_SIZES[SIZE]
    case = Case(
        sources=nodes,
        targets=nodes,
        edges=edges,
        orientations=orientations,
        channels=channels,
        hidden=hidden,
        basis=basis,
        radius=inf,
    )
    return make(case, rng, torch.float32)


def passes(name, arguments):
    """What to do with a problem: forward, backward, and, the same for all names, forces."""
    how = load(name, arguments)
    y = load("blocked", arguments).convolve(arguments)
    seeds = [None, torch.ones_like(arguments.offsets), *[None] * 7]
    wants = [True, True, *[False] * 3, *[True] * 5]
    return {
        "forward": partial(how.convolve, arguments),
        "backward": partial(how.differentiate, y, arguments, [True] * 9),
        "forces": partial(derivatives.differentiate_twice, seeds, y, arguments, wants),
    }


def mebibytes(run):
    return peak_bytes(run, torch.device("cpu")) / 2**20


if __name__ == "__main__":
    arguments = problem(torch.Generator().manual_seed(0))
    for name in sys.argv[1:] or ["naive", "blocked"]:
        for kind, run in passes(name, arguments).items():
            print(f"{name:<10}{kind:<10}{mebibytes(run):8.1f} MiB", flush=True)
