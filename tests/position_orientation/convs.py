"""Convolutions of every space as layers, and their inputs."""

import torch

from eqlib.position_orientation.convolution.conv import PositionOrientationConv
from eqlib.position_orientation.options import KernelOptions
from tests.position_orientation.layers import CASES, grid_of, normal, randomised, rotation

GIVEN = {
    "R2xS1": ("R2xS1", "SE(2)"),
    "R2xS1-E": ("R2xS1", "E(2)"),
    "R3xS2": ("R3xS2", "SE(3)"),
    "R3xS2-E": ("R3xS2", "E(3)"),
    "SE3": ("SE3", "SE(3)"),
}


KERNEL = KernelOptions(hidden=6, basis=5, degree=2, implementation="naive")
WAVES = KernelOptions(hidden=6, basis=5, implementation="naive", gaussians=3, waves=4)


def conv_of(name, rng, **options):
    """Return a layer with random weights, from three channels to two."""
    space, group = CASES[name][:2]
    options.setdefault("kernel", KERNEL)
    layer = PositionOrientationConv(3, 2, space, grid_of(name), group, **options)
    return randomised(layer.double(), rng)


def given_of(name, rng, **options):
    options.setdefault("kernel", KERNEL)
    layer = PositionOrientationConv(3, 2, GIVEN[name][0], "given", GIVEN[name][1], **options)
    return randomised(layer.double(), rng)


def inputs_of(layer, rng, nodes=5, dtype=torch.float64):
    """Return features and points, and the orientations of nodes or of the grid."""
    n = layer.space.dimension
    points = normal(rng, nodes, n)
    if layer.given:
        orientations = orientations_of(layer.space, rng, nodes)
        features = normal(rng, nodes, 3)
    else:
        orientations = layer.grid.orientations.clone()
        features = normal(rng, nodes, layer.grid.size, 3)
    named = {"features": features, "points": points, "orientations": orientations}
    return {name: value.to(dtype) for name, value in named.items()}


def orientations_of(space, rng, nodes):
    n = space.dimension
    if space.kind == "frames":
        return torch.stack([rotation(rng, n) for _ in range(nodes)])
    return torch.nn.functional.normalize(normal(rng, nodes, n), dim=-1)
