"""Small networks, and the clouds that they are given."""

import torch

from eqlib.position_orientation import KernelOptions, OrientationGrid, PositionOrientationNet
from tests.frames.averages import clouds_of_gap

SIZES = {"R2xS1": 8, "SE2": 6, "R3xS2": 20, "SE3": 12, "R2": 1, "R3": 1}


def network(space="R3xS2", group=None, orientations=None, dtype=torch.float64, **options):
    """Return a network of two layers with two scalars, a vector and outputs of both kinds."""
    torch.manual_seed(0)
    implementation = options.pop("implementation", "auto")
    return PositionOrientationNet(
        options.pop("scalars_in", 2),
        options.pop("vectors_in", 1),
        options.pop("scalars_out", 2),
        options.pop("vectors_out", 1),
        space,
        SIZES[space] if orientations is None else orientations,
        channels=options.pop("channels", 8),
        layers=options.pop("layers", 2),
        group=group,
        kernel=KernelOptions(hidden=8, basis=8, implementation=implementation),
        **options,
    ).to(dtype)


def dimension_of(space):
    return 2 if "2" in space.split("x")[0] else 3


def cloud(rng, space="R3xS2", sizes=(5, 7), gap=0.05, dtype=torch.float64):
    """Return a batch of clouds whose frames have a gap."""
    n = dimension_of(space)
    points = torch.cat([clouds_of_gap(rng, size, gap=gap, dimension=n) for size in sizes])
    nodes = len(points)
    scalars = torch.randn(nodes, 2, dtype=torch.float64, generator=rng)
    vectors = torch.randn(nodes, 1, n, dtype=torch.float64, generator=rng)
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    named = {"points": points, "scalars": scalars, "vectors": vectors}
    return {**{name: value.to(dtype) for name, value in named.items()}, "batch": batch}


def uneven_grid(space="R3xS2", size=13):
    """Return a grid that no changes of signs map to itself."""
    return OrientationGrid(space, size, "uniform" if dimension_of(space) == 2 else "fibonacci")
