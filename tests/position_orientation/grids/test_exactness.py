"""Nets on turned grids are exact, whatever dtype they were cast to on the way."""

import pytest
import torch

from eqlib.position_orientation import OrientationGrid, PositionOrientationNet
from eqlib.symmetry import TOLERANCE, as_group

GRIDS = [
    ("R3xS2", 20, "platonic", "E(3)"),
    ("R3xS2", 16, "sign_orbit", "E(3)"),
    ("R3xS2", 32, "platonic", "SE(3)"),
    ("R3xS2", 16, "proper_orbit", "SE(3)"),
    ("R2xS1", 6, "uniform", "E(2)"),
    ("R2xS1", 8, "uniform", "SE(2)"),
    ("SE3", 12, "platonic", "SE(3)"),
    ("SE3", 16, "proper_orbit", "SE(3)"),
]
grids = pytest.mark.parametrize(("space", "size", "kind", "group"), GRIDS)


def make(space, size, kind, group, exact=True):
    torch.manual_seed(0)
    grid = OrientationGrid(space, size, kind)
    return PositionOrientationNet(1, 1, 1, 1, space, grid, exact, 8, 2, group).double()


def errors(net, group, rng):
    """Relative errors of scalars and vectors under a motion of a cloud of well-known axes."""
    group = as_group(group)
    n = group.dimension
    inputs = {
        "points": torch.randn(7, n, dtype=torch.float64, generator=rng)
        * torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)[:n],
        "scalars": torch.randn(7, 1, dtype=torch.float64, generator=rng),
        "vectors": torch.randn(7, 1, n, dtype=torch.float64, generator=rng),
    }
    kind = "reflection" if group.reflections else "rotation"
    matrix = group.sample(rng, 1, kinds=[kind]).matrix[0]
    moved = {
        "points": inputs["points"] @ matrix.mT + 1.0,
        "scalars": inputs["scalars"],
        "vectors": inputs["vectors"] @ matrix.mT,
    }
    with torch.no_grad():
        before, after = net(**inputs), net(**moved)
    return [
        ((after.scalars - before.scalars).norm() / before.scalars.norm()).item(),
        ((after.vectors - before.vectors @ matrix.mT).norm() / before.vectors.norm()).item(),
    ]


@grids
def test_nets_are_exact_after_casts_to_half_precision_and_back(space, size, kind, group, rng):
    net = make(space, size, kind, group).half().double()
    assert max(errors(net, group, rng)) < TOLERANCE[torch.float64]


@grids
def test_control_plain_grids_are_not_exact(space, size, kind, group, rng):
    assert max(errors(make(space, size, kind, group, exact=False), group, rng)) > 1e-4
