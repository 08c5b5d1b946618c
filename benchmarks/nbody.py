"""The networks of the N-body task."""

import torch

from benchmarks.registry import Benchmark, Inputs
from eqlib.models.nbody import EGNN, FAGNN, GNN, GauntNet, Linear
from eqlib.models.nbody.task import network_inputs

SYSTEMS = 100
PARTICLES = 5


class E3nnProducts(GauntNet):
    """`GauntNet` with the products of e3nn, and so the same function of the same weights."""

    def __init__(self) -> None:
        super().__init__(products="e3nn")


def _systems(generator: torch.Generator) -> Inputs:
    charges = torch.randint(2, (SYSTEMS, PARTICLES), generator=generator) * 2.0 - 1
    points, velocities = torch.randn(2, SYSTEMS, PARTICLES, 3, generator=generator)
    return network_inputs({"charges": charges, "points": points, "velocities": velocities})


BENCHMARKS = (
    Benchmark(
        name="nbody_forward",
        tests="tests/models/nbody/test_networks.py",
        problems={f"{SYSTEMS} systems of {PARTICLES} particles": _systems},
        implementations={
            "egnn": EGNN,
            "gnn": GNN,
            "fa_gnn": FAGNN,
            "gaunt_net": GauntNet,
            "gaunt_net_e3nn": E3nnProducts,
            "linear": Linear,
        },
        agree=False,
    ),
)
