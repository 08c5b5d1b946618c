"""The layers on spherical tensors, by name, and their inputs."""

import torch
from torch import nn

from eqlib.steerable import EquivariantLayerNorm, EquivariantLinear, Gate

CHANNELS = 4
LAYERS = {
    "linear": lambda lmax, complete: EquivariantLinear(lmax, CHANNELS, 5, complete=complete),
    "linear-up": lambda lmax, complete: EquivariantLinear(
        lmax, CHANNELS, 5, complete=complete, lmax_out=lmax + 1
    ),
    "linear-down": lambda lmax, complete: EquivariantLinear(
        lmax, CHANNELS, 5, bias=False, complete=complete, lmax_out=max(lmax - 1, 0)
    ),
    "gate": lambda lmax, complete: Gate(lmax, CHANNELS, complete=complete),
    "gate-plain": lambda lmax, complete: Gate(lmax, CHANNELS, complete=complete, normalize=False),
    "norm": lambda lmax, complete: EquivariantLayerNorm(lmax, CHANNELS, complete=complete),
    "norm-per-degree": lambda lmax, complete: EquivariantLayerNorm(
        lmax, CHANNELS, complete=complete, per_degree=True
    ),
}


def layer(
    name: str,
    rng: torch.Generator,
    lmax: int = 2,
    complete: bool = False,
    dtype: torch.dtype = torch.float64,
) -> nn.Module:
    """A layer whose parameters are all random, biases and gains included."""
    module = LAYERS[name](lmax, complete).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, generator=rng)
    return module.to(dtype)


def features(
    rng: torch.Generator,
    *batch: int,
    lmax: int = 2,
    complete: bool = False,
    channels: int = CHANNELS,
    dtype: torch.dtype = torch.float64,
) -> torch.Tensor:
    """Normal features."""
    shape = (*batch, *((2,) if complete else ()), (lmax + 1) ** 2, channels)
    return torch.randn(shape, dtype=torch.float64, generator=rng).to(dtype)


def degrees_of(lmax: int) -> list[slice]:
    """The components of each degree."""
    return [slice(degree**2, (degree + 1) ** 2) for degree in range(lmax + 1)]
