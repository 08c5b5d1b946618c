"""Many-body layers with random weights, and their inputs."""

import torch

from eqlib.gaunt import GauntManyBody

CHANNELS = 3


def layer(rng, lmax=2, order=3, lmax_out=2, complete=False, species=2, dtype=torch.float64):
    """A layer whose weights are all random."""
    module = GauntManyBody(lmax, CHANNELS, order, lmax_out, species, complete).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, generator=rng)
    return module.to(dtype)


def inputs(module, rng, *batch, dtype=torch.float64):
    """Normal features that fit a layer, and species."""
    parity = (2,) if module.complete else ()
    shape = (*batch, *parity, (module.lmax + 1) ** 2, module.channels)
    features = torch.randn(shape, dtype=torch.float64, generator=rng).to(dtype)
    return features, torch.randint(module.num_species, batch, generator=rng)
