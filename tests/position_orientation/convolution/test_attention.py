"""Attention over positions."""

import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck

from eqlib.position_orientation.convolution.attention import SpatialAttention
from eqlib.position_orientation.edges.geometry import make_geometry
from tests.position_orientation import oracle
from tests.position_orientation.layers import (
    CASES,
    all_pairs,
    grid_of,
    kernels_of,
    normal,
    randomised,
    rotation,
    turned,
)
from tests.tolerances import EQUIVARIANCE


def attention_of(name, rng, chunk=4096, **options):
    kernels = randomised(kernels_of(name, **options), rng)
    return randomised(SpatialAttention(4, kernels, 2, chunk).double(), rng), kernels


def expected_of(attention, kernels, features, points, edges, kind, radius):
    """Return the attention of single nodes, orientations, and heads."""
    result = torch.zeros_like(features)
    orientations = kernels.grid.orientations
    query, key = attention.query.weight, attention.key.weight
    for target in range(len(points)):
        for o, orientation in enumerate(orientations):
            total, found = torch.ones(2, dtype=torch.float64), 0
            for source, end, scalars in edges:
                if end != target:
                    continue
                offset = points[source] - points[target]
                values = oracle.seen(offset, orientation, kind, kernels.spatial.softening)
                inputs = oracle.products(values, kernels.spatial.degree)
                basis = oracle.network(torch.cat([inputs, scalars]), kernels.spatial)
                q, k = query @ features[target, o], key @ features[source, o]
                logits = (q * k).reshape(2, 2).sum(1) / 2**0.5 + attention.logit.weight @ basis
                weights = oracle.window(offset, radius) * logits.exp()
                total = total + weights
                value = (attention.weight @ basis) * features[source, o]
                found = found + weights[:, None] * value.reshape(2, 2)
            result[target, o] = (found / total[:, None]).flatten() if edges else 0
    return result


@pytest.mark.parametrize("name", ["R3", "R2xS1", "R3xS2", "SE3"])
def test_agrees_with_the_sum_over_edges(name, rng):
    attention, kernels = attention_of(name, rng, edge_scalars=1)
    n = kernels.grid.space.dimension
    points, features = normal(rng, 4, n), normal(rng, 4, kernels.grid.size, 4)
    edge_index, _ = all_pairs([4])
    scalars = normal(rng, edge_index.shape[1], 1)
    geometry = make_geometry(
        points,
        kernels.grid,
        CASES[name][1],
        edge_index=edge_index,
        edge_scalars=scalars,
        radius=2.5,
        self_loops=False,
        paired=False,
    )
    edges = [(int(s), int(t), row) for s, t, row in zip(*edge_index, scalars, strict=True)]
    kind = CASES[name][3]
    expected = expected_of(attention, kernels, features, points, edges, kind, 2.5)
    found = attention(features, geometry, kernels)
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=1e-11)


def test_parts_of_the_edges_give_the_same_and_the_same_derivatives(rng):
    attention, kernels = attention_of("R3xS2", rng, chunk=None)
    features = normal(rng, 6, kernels.grid.size, 4).requires_grad_()
    points = normal(rng, 6, 3).requires_grad_()
    results = []
    for chunk in (None, 5):
        attention.chunk = chunk
        geometry = make_geometry(points, kernels.grid, radius=2.0, paired=False)
        y = attention(features, geometry, kernels)
        first = grad(y.square().sum(), (points, features), create_graph=True)
        second = grad(sum(part.square().sum() for part in first), (points, features))
        results.append((y, *first, *second))
    for found, expected in zip(*results, strict=True):
        scale = expected.abs().max()
        assert (found - expected).abs().max() < 1e-11 * scale


@pytest.mark.parametrize("name", ["R2xS1", "R3xS2", "SE3"])
def test_commutes_with_motions_of_points_and_grid(name, rng):
    attention, kernels = attention_of(name, rng)
    grid, n = kernels.grid, kernels.grid.space.dimension
    points, features = normal(rng, 5, n), normal(rng, 5, grid.size, 4)
    motion = rotation(rng, n)
    moved = points @ motion.mT + 2
    orientations = turned(grid.orientations, motion)
    before = attention(features, make_geometry(points, grid, paired=False), kernels)
    turned_too = make_geometry(moved, grid, orientations=orientations, paired=False)
    error = (attention(features, turned_too, kernels) - before).abs().max() / before.abs().max()
    assert error < EQUIVARIANCE[torch.float64]
    # control: with the grid as it was, features change
    left = attention(features, make_geometry(moved, grid, paired=False), kernels)
    assert (left - before).abs().max() / before.abs().max() > 1e-2


def test_an_edge_that_leaves_the_window_leaves_no_jump(rng):
    attention, kernels = attention_of("R3xS2", rng)
    features = normal(rng, 2, kernels.grid.size, 4)

    def at(distance):
        points = torch.tensor([[0.0, 0, 0], [distance, 0, 0]], dtype=torch.float64)
        options = {"radius": 1.0, "self_loops": False, "paired": False}
        return attention(features, make_geometry(points, kernels.grid, **options), kernels)

    assert at(0.5).abs().max() > 1e-2
    assert at(1 - 1e-4).abs().max() < 1e-8
    assert (at(1.0) == 0).all()


def test_large_logits_do_not_overflow(rng):
    attention, kernels = attention_of("R3xS2", rng)
    attention, kernels = attention.float(), kernels.float()
    geometry = make_geometry(normal(rng, 5, 3).float(), kernels.grid, paired=False)
    features = 1e4 * normal(rng, 5, kernels.grid.size, 4).float().requires_grad_()
    y = attention(features, geometry, kernels)
    assert y.isfinite().all()
    assert grad(y.sum(), features)[0].isfinite().all()


def test_derivatives(rng):
    attention, kernels = attention_of("R2xS1", rng)
    points, features = normal(rng, 3, 2), normal(rng, 3, kernels.grid.size, 4)
    points[1] = points[0]

    def of(points, features):
        geometry = make_geometry(points, kernels.grid, radius=2.0, paired=False)
        return attention(features, geometry, kernels)

    inputs = (points.requires_grad_(), features.requires_grad_())
    assert gradcheck(of, inputs)
    assert gradgradcheck(of, inputs, fast_mode=True)


def test_a_mask_hides_sources_and_empty_clouds_pass(rng):
    attention, kernels = attention_of("R3xS2", rng)
    points, features = normal(rng, 2, 4, 3), normal(rng, 8, kernels.grid.size, 4)
    mask = torch.tensor([[True, True, False, True], [True, False, True, True]])
    geometry = make_geometry(points, kernels.grid, mask=mask, paired=False)
    batch = torch.tensor([0] * 3 + [1] * 3)
    alone = make_geometry(points[mask], kernels.grid, batch=batch, num_graphs=2, paired=False)
    found = attention(features, geometry, kernels)
    expected = attention(features[mask.flatten()], alone, kernels)
    torch.testing.assert_close(found[mask.flatten()], expected)
    assert (found[~mask.flatten()] == 0).all()
    nothing = make_geometry(points[0, :0], kernels.grid, paired=False)
    assert attention(features[:0], nothing, kernels).shape == features[:0].shape


@pytest.mark.unchecked
def test_unfit_arguments_are_named(rng):
    attention, kernels = attention_of("R3xS2", rng)
    geometry = make_geometry(normal(rng, 3, 3), grid_of("R3xS2"))
    with pytest.raises(ValueError, match="paired=False"):
        attention(normal(rng, 3, kernels.grid.size, 4), geometry, kernels)
    with pytest.raises(ValueError, match="heads"):
        SpatialAttention(4, kernels, 3)
    with pytest.raises(ValueError, match="chunk"):
        SpatialAttention(4, kernels, 2, 0)
