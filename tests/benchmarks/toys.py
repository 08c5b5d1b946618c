"""A small benchmark, the cube of a vector, with right and wrong ways to compute it."""

from functools import partial

import torch

from benchmarks.registry import Benchmark

CPU = torch.device("cpu")
PASSES = ("forward", "forward+backward", "double backward")


def problem(size, generator):
    return {"x": torch.randn(size, generator=generator), "power": 3}


def cube(x, power):
    return x**power


def product(x, power):
    return x * x * x


def other(x, power):
    return torch.pow(x, power)


def wrong_value(x, power):
    return x**power + 1e-3


def wrong_gradient(x, power):
    return x**power + 0.1 * (x - x.detach())


def wrong_second_gradient(x, power):
    return x**power + 0.1 * (x - x.detach()) ** 2


def nan(x, power):
    return x**power * torch.nan


def wrong_shape(x, power):
    return (x**power)[:1]


def failing(x, power):
    raise RuntimeError("out of order\nin many words")


def declining(x, power):
    raise NotImplementedError("small problems only")


def toy(tests="tests/green.py", **changes):
    settings = {
        "name": "toy_cube",
        "tests": str(tests),
        "problems": {"small": partial(problem, 5), "empty": partial(problem, 0)},
        "implementations": {"cube": cube, "product": product},
        "peers": {"other": other, "absent": "not installed"},
        "passes": PASSES,
        "differentiate": ("x",),
    }
    return Benchmark(**{**settings, **changes})
