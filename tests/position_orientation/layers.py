"""Small layers of every space, and what they are given."""

import torch
from torch import nn

from eqlib.position_orientation.convolution.kernel_network import Kernels
from eqlib.position_orientation.grids import OrientationGrid

# Grids of a few orientations, with what a pair of them or an offset is seen by.
CASES = {
    "R2": ("R2", "SE(2)", 1, "distance"),
    "R3": ("R3", "E(3)", 1, "distance"),
    "R2xS1": ("R2xS1", "SE(2)", 6, "signed"),
    "R2xS1-E": ("R2xS1", "E(2)", 6, "perpendicular"),
    "SE2-odd": ("SE2", "SE(2)", 5, "signed"),
    "R3xS2": ("R3xS2", "SE(3)", 8, "perpendicular"),
    "R3xS2-E": ("R3xS2", "E(3)", 6, "perpendicular"),
    "R3xS2-odd": ("R3xS2", "SE(3)", 7, "perpendicular"),
    "SE3": ("SE3", "SE(3)", 4, "rotation"),
}
ORIENTED = [name for name, (*_, kind) in CASES.items() if kind != "distance"]
KINDS = {"SE2-odd": "uniform", "R3xS2-odd": "fibonacci"}


def grid_of(name):
    space, _, size, _ = CASES[name]
    return OrientationGrid(space, size, KINDS.get(name, "auto"))


def kernels_of(name, dtype=torch.float64, **options):
    """Return kernels with random weights, biases included."""
    settings = {"hidden": 6, "basis": 5, "degree": 2, "implementation": "naive", **options}
    return Kernels(grid_of(name), CASES[name][1], **settings).to(dtype)


def randomised(module, rng):
    """Give every parameter a random value."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5, generator=rng)
    return module


def normal(rng, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)


def rotation(rng, n, reflected=False):
    """Return a random orthogonal matrix, of determinant -1 if reflected."""
    matrix = torch.linalg.qr(normal(rng, n, n)).Q
    matrix[:, 0] *= matrix.det().sign() * (-1 if reflected else 1)
    return matrix


def turned(orientations, matrix):
    """Return orientations after a rotation."""
    if orientations.shape[-1] == 0:
        return orientations
    if orientations.ndim > 2:
        return matrix @ orientations
    return orientations @ matrix.mT


def all_pairs(sizes):
    """Return source and target of all pairs of different nodes of graphs, and the graph of each."""
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    pairs = [
        (s, t)
        for t in range(len(batch))
        for s in range(len(batch))
        if s != t and batch[s] == batch[t]
    ]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous(), batch
