"""Kernels of Gaussians and of random waves, beside and instead of polynomials."""

import copy

import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck

from eqlib.position_orientation.convolution import composed
from eqlib.position_orientation.convolution.spatial import SpatialConv
from eqlib.position_orientation.edges.geometry import make_geometry
from tests.position_orientation import oracle
from tests.position_orientation.layers import (
    CASES,
    all_pairs,
    kernels_of,
    normal,
    randomised,
    rotation,
    turned,
)
from tests.tolerances import EQUIVARIANCE

BASES = {
    "gaussians": {"gaussians": 4, "extent": 3.0},
    "waves": {"waves": 5, "extent": 3.0},
    "both": {"gaussians": 3, "waves": 4, "extent": 2.0},
}
bases = pytest.mark.parametrize("basis", list(BASES))
names = pytest.mark.parametrize("name", ["R3", "R2xS1", "R3xS2", "SE3"])


def conv_of(name, basis, rng):
    kernels = randomised(kernels_of(name, edge_scalars=1, **BASES[basis]), rng)
    return randomised(SpatialConv(3, kernels).double(), rng), kernels


def seen(offset, orientation, scalars, kernels, kind, basis):
    """Return what the network sees of an edge and an orientation."""
    options = BASES[basis]
    values = oracle.seen(offset, orientation, kind, kernels.softening)
    if "waves" in options:
        phases = kernels.waves.frequencies @ torch.tensor(values, dtype=torch.float64)
        parts = [phases.cos(), phases.sin()]
    else:
        parts = [oracle.products(values, kernels.degree)]
    parts.append(scalars)
    if "gaussians" in options:
        width = options["extent"] / (options["gaussians"] - 1)
        length = oracle.soft(float(offset.norm()), kernels.softening)
        steps = length / width - torch.arange(options["gaussians"], dtype=torch.float64)
        parts.append((-steps.square() / 2).exp())
    return torch.cat(parts)


@names
@bases
@pytest.mark.parametrize("paired", [None, False], ids=["pairs", "edges"])
def test_agrees_with_the_sum_over_edges(name, basis, paired, rng):
    conv, kernels = conv_of(name, basis, rng)
    grid, kind = kernels.grid, CASES[name][3]
    points, features = normal(rng, 4, grid.space.dimension), normal(rng, 4, grid.size, 3)
    edge_index, _ = all_pairs([4])
    charges = normal(rng, 4, 1)
    scalars = charges[edge_index[0]] * charges[edge_index[1]]
    geometry = make_geometry(
        points,
        grid,
        CASES[name][1],
        edge_index=edge_index,
        edge_scalars=scalars,
        radius=2.5,
        paired=paired,
    )
    loops = [(i, i, torch.zeros(1, dtype=torch.float64)) for i in range(4)]
    expected = torch.zeros_like(features)
    with torch.no_grad():
        for s, t, row in [*zip(*edge_index.tolist(), scalars, strict=True), *loops]:
            offset = points[s] - points[t]
            for o, orientation in enumerate(grid.orientations):
                inputs = seen(offset, orientation, row, kernels.spatial, kind, basis)
                values = oracle.window(offset, 2.5) * oracle.network(inputs, kernels.spatial)
                expected[t, o] += (conv.weight @ values) * features[s, o]
    found = conv(features, geometry, kernels)
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=1e-11)


@bases
def test_commutes_with_motions_of_points_and_grid(basis, rng):
    conv, kernels = conv_of("R3xS2", basis, rng)
    points, features = normal(rng, 5, 3), normal(rng, 5, kernels.grid.size, 3)
    motion = rotation(rng, 3)
    orientations = turned(kernels.grid.orientations, motion)

    def of(points, orientations=None):
        none = points.new_zeros(1, 5, 5, 1)
        geometry = make_geometry(
            points[None], kernels.grid, orientations=orientations, edge_scalars=none
        )
        return conv(features, geometry, kernels)

    before = of(points)
    error = (of(points @ motion.mT, orientations) - before).abs().max() / before.abs().max()
    assert error < EQUIVARIANCE[torch.float64]
    # control: the grid as it was
    assert (of(points @ motion.mT) - before).abs().max() / before.abs().max() > 1e-2


@bases
def test_parts_of_the_edges_give_the_same_and_the_same_derivatives(basis, rng, monkeypatch):
    conv, kernels = conv_of("R3xS2", basis, rng)
    features = normal(rng, 6, kernels.grid.size, 3).requires_grad_()
    points = normal(rng, 6, 3).requires_grad_()
    orientations = kernels.grid.orientations.expand(2, -1, -1)
    edge_index, batch = all_pairs([3, 3])
    results = []
    for chunk in (4096, 4):
        monkeypatch.setattr(composed, "_CHUNK", chunk)
        geometry = make_geometry(
            points,
            kernels.grid,
            orientations=orientations,
            edge_index=edge_index,
            edge_scalars=torch.ones(12, 1, dtype=torch.float64),
            batch=batch,
            num_graphs=2,
        )
        y = conv(features, geometry, kernels)
        first = grad(y.square().sum(), (points, features, conv.weight), create_graph=True)
        second = grad(sum(part.square().sum() for part in first), (points, features))
        results.append((y, *first, *second))
    for found, expected in zip(*results, strict=True):
        assert (found - expected).abs().max() <= 1e-11 * expected.abs().max()


@bases
def test_derivatives(basis, rng):
    conv, kernels = conv_of("R2xS1", basis, rng)
    points, features = normal(rng, 3, 2), normal(rng, 3, kernels.grid.size, 3)
    points[1] = points[0]
    edge_index, _ = all_pairs([3])

    def of(points, features, scalars):
        options = {"edge_index": edge_index, "edge_scalars": scalars, "radius": 3.0}
        return conv(features, make_geometry(points, kernels.grid, **options), kernels)[:2, :2]

    inputs = [value.requires_grad_() for value in (points, features, normal(rng, 6, 1))]
    assert gradcheck(of, inputs)
    assert gradgradcheck(of, inputs, fast_mode=True)


def test_waves_are_saved_with_the_kernels(rng):
    conv, kernels = conv_of("R3xS2", "waves", rng)
    geometry = make_geometry(
        normal(rng, 1, 4, 3), kernels.grid, edge_scalars=torch.zeros(1, 4, 4, 1).double()
    )
    features = normal(rng, 4, kernels.grid.size, 3)
    other = copy.deepcopy(kernels)
    other.spatial.waves.frequencies.add_(1.0)
    expected = conv(features, geometry, kernels)
    assert not torch.equal(conv(features, geometry, other), expected)
    other.load_state_dict(kernels.state_dict())
    assert torch.equal(conv(features, geometry, other), expected)


@pytest.mark.unchecked
@pytest.mark.parametrize("name", ["gaussians", "waves", "extent"])
def test_unfit_options_are_named(name):
    with pytest.raises(ValueError, match=name):
        kernels_of("R3xS2", **{name: -1})
    with pytest.raises(ValueError, match="gaussians is 1"):
        kernels_of("R3xS2", gaussians=1)
