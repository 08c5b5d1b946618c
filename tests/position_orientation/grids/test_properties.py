"""Properties that hold for grids of any size and kind, and for invariants of any pair."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eqlib.position_orientation.grids import OrientationGrid, grid_quality
from eqlib.position_orientation.grids.build import build
from eqlib.position_orientation.grids.quadrature import quadrature_weights, strength
from eqlib.position_orientation.spaces.invariants import pair_invariants
from eqlib.position_orientation.spaces.space import as_space

CHECKED = settings(max_examples=25, deadline=None, derandomize=True, database=None)
SIZES = {
    "platonic": (4, 6, 8, 12, 20, 32),
    "sign_orbit": range(6, 65, 2),
    "proper_orbit": range(4, 45, 4),
    "repulsion": range(1, 41),
    "fibonacci": range(1, 101),
}
directed = st.sampled_from(list(SIZES)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.sampled_from(SIZES[kind]))
)
length = st.floats(-1e6, 1e6, allow_subnormal=False)
component = st.floats(-1, 1)


@CHECKED
@given(directed)
def test_grids_are_what_they_claim(case):
    kind, size = case
    grid = OrientationGrid("R3xS2", size, kind)
    quality = grid_quality(grid)
    assert grid.size == size
    assert (grid.orientations.norm(dim=-1) - 1).abs().max() < 1e-15 * 4
    assert abs(grid.weights.sum() - 1) < 1e-14
    assert (grid.weights >= 0.5 / size).all()
    assert 0 < quality.covering_radius <= 180
    # Caps of half the separation do not overlap, and those of the covering radius cover.
    half, covering = np.radians(quality.separation / 2), np.radians(quality.covering_radius)
    assert size * (1 - np.cos(half)) / 2 <= 1 + 1e-12
    assert size * (1 - np.cos(covering)) / 2 >= 1 - 1e-12
    if len(grid.opposite):
        assert (grid.orientations[grid.opposite] + grid.orientations).abs().max() < 1e-9
    if quality.signs == "all":
        assert quality.antipodal


@CHECKED
@given(st.integers(1, 200))
def test_weights_never_lower_the_strength(size):
    space = as_space("R3xS2")
    points = build(space, size, "fibonacci")
    equal = strength(points, np.full(size, 1 / size), space)
    assert strength(points, quadrature_weights(points, space), space) >= equal


@CHECKED
@given(st.integers(1, 500))
def test_uniform_grids_of_the_circle_are_as_strong_as_can_be(size):
    grid = OrientationGrid("R2xS1", size, "uniform")
    assert grid.strength == size - 1
    assert len(grid.opposite) == (size if size % 2 == 0 else 0)
    assert grid.sign_symmetric() == (size % 2 == 0)


@settings(CHECKED, max_examples=200)
@given(st.tuples(length, length, length), st.lists(component, min_size=6, max_size=6))
def test_invariants_of_any_pair_have_finite_derivatives(offset, components):
    r = torch.tensor(offset, dtype=torch.float64, requires_grad=True)
    vectors = torch.tensor(components, dtype=torch.float64).reshape(2, 3)
    norms = vectors.norm(dim=-1, keepdim=True)
    first, second = torch.where(
        norms > 1e-3, vectors / norms.clamp(min=1e-3), torch.eye(3, dtype=torch.float64)[0]
    )
    first.requires_grad_()
    values = pair_invariants(r, first, second)
    gradients = torch.autograd.grad(values.sum(), (r, first), create_graph=True)
    seconds = torch.autograd.grad(sum(g.square().sum() for g in gradients), (r, first))
    assert all(x.isfinite().all() for x in (values, *gradients, *seconds))
