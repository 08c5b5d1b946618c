"""How much of a partition straddles the parts of a body."""

import pytest
import torch

from eqlib.frames import straddling
from tests.frames.piecewise.jointed import articulated, boxes


def test_shares_are_those_of_a_count_by_hand():
    points = torch.zeros(6, 3)
    cells, parts = torch.tensor([0, 0, 1, 1, 1, 3]), torch.tensor([0, 0, 0, 1, 1, 1])
    edges = torch.tensor([[0, 2, 3, 1, 4], [1, 3, 4, 2, 5]])
    found = straddling(cells, parts, points, edges)
    assert found.at_points.tolist() == [0, 0, 1, 1, 1, 0]
    assert (found.points, found.edges) == pytest.approx((0.5, 1 / 3))
    assert (found.cells, found.cut) == pytest.approx((1 / 3, 2 / 5))
    assert found.error_bound(0.1) == pytest.approx(0.1)


def test_uncertain_parts_give_the_expected_share(rng):
    cells = torch.tensor([0, 0, 1, 1, 1])
    chance = torch.rand(5, 2, dtype=torch.float64, generator=rng)
    chance = chance / chance.sum(-1, keepdim=True)
    found = straddling(cells, chance, torch.zeros(5, 3))
    draws = torch.rand(20_000, 5, dtype=torch.float64, generator=rng) < chance[:, 0]
    straddles = [
        (draws[:, c].any(1) & ~draws[:, c].all(1)).double().mean() for c in ([0, 1], [2, 3, 4])
    ]
    expected = torch.stack(straddles)[cells]
    torch.testing.assert_close(found.at_points, expected, rtol=0, atol=0.02)
    certain = torch.tensor([0, 1, 0, 1, 1])
    one_hot = torch.nn.functional.one_hot(certain, 2).double()
    soft, hard = (straddling(cells, p, torch.zeros(5, 3)) for p in (one_hot, certain))
    assert torch.equal(soft.at_points, hard.at_points)


def test_boxes_stay_joined(rng):
    points, parts = boxes(rng, 3, 400)
    moved = articulated(rng, points, parts)
    for box in range(3):
        here = parts == box
        torch.testing.assert_close(torch.pdist(moved[here]), torch.pdist(points[here]))
    ends = [torch.cdist(moved[parts == i], moved[parts == i + 1]).min() for i in range(2)]
    assert max(ends) < 0.5
