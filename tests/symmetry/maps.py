"""Maps of known symmetry, on which the checks are tested."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from eqlib.symmetry import (
    BatchIndex,
    E,
    EdgeIndex,
    NodeOrder,
    Permutations,
    Point,
    Scalar,
    Signature,
    Vector,
)

POINTS = Point() * NodeOrder(-2)
VECTORS = Vector() * NodeOrder(-2)


class Motion(NamedTuple):
    """Outputs of an interaction: moved points, forces, an energy."""

    points: Tensor
    forces: Tensor
    energy: Tensor


def signature(dimension=3):
    return Signature(
        E(dimension) * Permutations(),
        inputs={"points": POINTS, "charges": Scalar() * NodeOrder(-1)},
        outputs={"points": POINTS, "forces": VECTORS, "energy": Scalar()},
    )


def interaction(points, charges):
    """Pairs that attract and repel: equivariant under isometries and permutations."""
    offsets = points.unsqueeze(-2) - points.unsqueeze(-3)
    pairs = charges.unsqueeze(-1) * charges.unsqueeze(-2) / (1 + offsets.square().sum(-1))
    forces = (pairs.unsqueeze(-1) * offsets).sum(-2)
    return Motion(points + forces, forces, pairs.sum((-1, -2)))


class Interaction(nn.Module):
    """The interaction as a module that carries its signature."""

    signature = signature()

    def forward(self, points, charges, mask=None):
        return interaction(points, charges if mask is None else charges * mask)


def ragged_signature():
    return Signature(
        E(3) * Permutations(),
        inputs={"points": POINTS, "edge_index": EdgeIndex(), "batch": BatchIndex()},
        outputs={"points": POINTS, "sizes": Scalar()},
    )


def ragged_interaction(points, edge_index, batch, num_graphs):
    """Messages along edges, and the mean squared edge length of each graph."""
    source, target = edge_index
    offsets = points[source] - points[target]
    lengths = offsets.square().sum(-1)
    moved = points.index_add(0, target, offsets / (1 + lengths).unsqueeze(-1))
    sizes = points.new_zeros(num_graphs).index_add(0, batch[target], lengths)
    return {"points": moved, "sizes": sizes}


def cloud(rng, *shape, dtype=torch.float64, dimension=3):
    """Random points with positive charges."""
    points = torch.randn(*shape, dimension, dtype=torch.float64, generator=rng)
    charges = torch.rand(shape, dtype=torch.float64, generator=rng) + 0.5
    return {"points": points.to(dtype), "charges": charges.to(dtype)}


def mlp(*sizes):
    """A multilayer perceptron in float64, the same at each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [
            layer
            for n, m in pairwise(sizes)
            for layer in (nn.Linear(n, m, dtype=torch.float64), nn.SiLU())
        ]
    return nn.Sequential(*layers[:-1])
