"""Print the largest errors of every implementation; run as a module from the checkout's root."""

import argparse
from itertools import product

import torch

from eqlib.geometry import symmetric_eigh
from eqlib.kernels.symmetric_eigh import whynot
from tests.kernels.symmetric_eigh.families import FAMILIES, errors, matrices

DTYPES = (torch.float64, torch.float32)
COUNTS = {1.0: 1, 1e30: 10, 1e-30: 10}
"""By which part of the matrices are scaled: all, a tenth and a tenth."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="matrices of each family")
    count = parser.parse_args().count
    print("rows  dtype          implementation  values   residual orthogonality")
    for dimension, dtype, name in product((3, 2), DTYPES, ("naive", "blocked", "compiled")):
        if reason := whynot(name, torch.device("cpu"), dtype, dimension):
            print(f"{name}: {reason}")
            continue
        worst = [0.0, 0.0, 0.0]
        for family, (scale, part) in product(FAMILIES, COUNTS.items()):
            rng = torch.Generator().manual_seed(1)
            A = (scale * matrices(family, count, dimension, rng)[: count // part]).to(dtype)
            found = errors(A, *symmetric_eigh(A, implementation=name))
            worst = [max(pair) for pair in zip(worst, found, strict=True)]
        figures = "  ".join(f"{error:.1e}" for error in worst)
        print(f"{dimension}     {dtype!s:14} {name:14}  {figures}")


if __name__ == "__main__":
    main()
