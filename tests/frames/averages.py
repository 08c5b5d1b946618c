"""Clouds with a given gap, and backbones with outputs of every kind."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from eqlib.symmetry import (
    NodeOrder,
    Permutations,
    Point,
    Pseudoscalar,
    Pseudovector,
    Scalar,
    Signature,
    Vector,
    as_group,
)
from tests.frames.clouds import mlp


class Fields(NamedTuple):
    """Outputs of every kind at the points."""

    scalar: Tensor
    pseudoscalar: Tensor
    vector: Tensor
    pseudovector: Tensor
    point: Tensor


class Pointwise(nn.Module):
    """A network on points and velocities, with outputs of every kind and no symmetry at all."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.sizes = [4, 2, dimension, dimension, dimension]
        self.network = mlp(2 * dimension, sum(self.sizes))

    def forward(self, points: Tensor, velocities: Tensor) -> Fields:
        return Fields(*self.network(torch.cat([points, velocities], -1)).split(self.sizes, -1))


def fields_signature(group: str) -> Signature:
    """That of a :class:`Pointwise` network."""
    order = NodeOrder(-2)
    return Signature(
        as_group(group) * Permutations(),
        inputs={"points": Point() * order, "velocities": Vector() * order},
        outputs={
            "scalar": Scalar() * order,
            "pseudoscalar": Pseudoscalar() * order,
            "vector": Vector() * order,
            "pseudovector": Pseudovector() * order,
            "point": Point() * order,
        },
    )


def clouds_of_gap(
    rng: torch.Generator, *shape: int, gap: float, dimension: int = 3, centre: float = 0.5
) -> Tensor:
    """Skewed clouds (*shape, dimension) whose variances are ``gap`` of their sum apart."""
    points = torch.rand(*shape, dimension, dtype=torch.float64, generator=rng).square()
    points = points - points.mean(-2, keepdim=True) * (centre != 0)
    whitened = torch.linalg.qr(points).Q
    steps = torch.arange(dimension, dtype=torch.float64)
    variances = 1 / dimension + gap * (steps - steps.mean())
    turn = torch.linalg.qr(torch.randn(dimension, dimension, dtype=torch.float64, generator=rng)).Q
    return whitened * (variances * shape[-1]).sqrt() @ turn + centre
