"""Peak memory of the implementations at the sizes of the README.

``python -m tests.kernels.pair_linear.memory [names]`` prints the table.
"""

import sys
from functools import partial

import torch

from benchmarks.memory import peak_bytes
from eqlib.kernels.pair_linear.arguments import Linear, Reduction, WeightGradient
from eqlib.kernels.pair_linear.implementations import load
from eqlib.kernels.problems import MANY_SUBGRAPHS
from tests.kernels.pair_linear.cases import Case, make

CHANNELS = 64


def problem(name, rng):
    sizes, nodes = MANY_SUBGRAPHS[name]
    case = Case(sizes, nodes, channels=CHANNELS, outputs=CHANNELS)
    return make(case, rng, torch.float32)


def passes(name, given):
    """The three functions of an implementation, ready to run."""
    how = load(name, given.x.device, given.x.dtype)
    grad = given.x.new_ones(len(given.x), given.weight.shape[2])
    return {
        "reduce": partial(how.reduce, Reduction(given.x, given.scale, given.pairs)),
        "linear": partial(how.linear, given_linear(given)),
        "weight_gradient": partial(
            how.weight_gradient, WeightGradient(given.x, grad, given.pairs.transpose)
        ),
    }


def given_linear(given):
    wide = torch.promote_types(given.x.dtype, torch.float32)
    return Linear(given.x, given.weight.to(wide), *given[2:5])


def mebibytes(run):
    run()
    return peak_bytes(run, torch.device("cpu")) / 2**20


if __name__ == "__main__":
    for size in MANY_SUBGRAPHS:
        given = problem(size, torch.Generator().manual_seed(0))
        slots, pairs = len(given.x), len(given.pairs.row)
        print(f"{size}: {slots} slots, {pairs} pairs, {len(given.spread)} members")
        for name in sys.argv[1:] or ["naive", "blocked", "compiled"]:
            for kind, run in passes(name, given).items():
                print(f"{name:<10}{kind:<16}{mebibytes(run):8.1f} MiB", flush=True)
