"""The term that tells left from right."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from eqlib.position_orientation.convolution.chirality import HandedTerm
from eqlib.position_orientation.edges.geometry import make_geometry
from tests.position_orientation import oracle
from tests.position_orientation.layers import grid_of, normal, randomised, rotation, turned
from tests.tolerances import EQUIVARIANCE


def term_of(rng, channels=3):
    return randomised(HandedTerm(channels, grid_of("R3xS2")).double(), rng)


def test_agrees_with_its_definition(rng):
    term, grid = term_of(rng), grid_of("R3xS2")
    features = normal(rng, 7, grid.size, 3)
    batch = torch.tensor([0] * 3 + [1] * 4)
    turns = torch.stack([turned(grid.orientations, rotation(rng, 3)) for _ in range(2)])
    geometry = make_geometry(normal(rng, 7, 3), grid, orientations=turns, batch=batch, num_graphs=2)
    expected = oracle.handed(features, turns[batch], grid.weights, term.mix)
    torch.testing.assert_close(term(features, geometry, grid), expected, atol=1e-13, rtol=1e-12)


@pytest.mark.parametrize("reflected", [False, True], ids=["rotation", "reflection"])
def test_is_kept_by_rotations_and_changes_sign_with_reflections(reflected, rng):
    term, grid = term_of(rng), grid_of("R3xS2")
    features, points = normal(rng, 5, grid.size, 3), normal(rng, 5, 3)
    motion = turned(grid.orientations, rotation(rng, 3, reflected))
    before = term(features, make_geometry(points, grid), grid)
    after = term(features, make_geometry(points, grid, orientations=motion), grid)
    sign = -1 if reflected else 1
    error = (after - sign * before).abs().max() / before.abs().max()
    assert error < EQUIVARIANCE[torch.float64]
    assert before.abs().max() > 1e-2


def test_is_bounded_by_the_features_and_smooth_where_they_vanish(rng):
    term, grid = term_of(rng), grid_of("R3xS2")
    geometry = make_geometry(normal(rng, 2, 3), grid)
    features = normal(rng, 2, grid.size, 3)
    large = term(1e8 * features, geometry, grid) / 1e8
    assert large.abs().max() < 10 * features.abs().max()
    assert gradcheck(lambda x: term(x, geometry, grid), features.requires_grad_())
    zero = torch.zeros_like(features).requires_grad_()
    assert gradgradcheck(lambda x: term(x, geometry, grid), zero)


@pytest.mark.unchecked
@pytest.mark.parametrize("name", ["R3", "R2xS1", "SE3"])
def test_other_spaces_are_refused(name):
    with pytest.raises(ValueError, match=r"R3xS2"):
        HandedTerm(3, grid_of(name))
