"""Layers of a network: values against an independent source, derivatives, and what is refused."""

from math import inf

import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck

from eqlib.position_orientation.convolution.block import ConvNeXtBlock, InteractionLayer
from eqlib.position_orientation.convolution.kernel_network import Kernels, polynomials
from eqlib.position_orientation.convolution.spatial import SpatialConv
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

names = pytest.mark.parametrize("name", list(CASES))


def layer_of(name, rng, **options):
    """Return a layer with random weights, and what it shares with others."""
    edge_scalars = options.pop("edge_scalars", 0)
    kernels = randomised(kernels_of(name, edge_scalars=edge_scalars), rng)
    channels = options.pop("channels", 4)
    return randomised(InteractionLayer(channels, kernels, **options).double(), rng), kernels


def triples(edge_index, scalars, nodes):
    """Return the edges of the independent source, loops included."""
    zero = torch.zeros(scalars.shape[1], dtype=torch.float64)
    given = [(int(s), int(t), row) for s, t, row in zip(*edge_index, scalars, strict=True)]
    return given + [(i, i, zero) for i in range(nodes)]


@names
@pytest.mark.parametrize("scale", [None, 0.5], ids=["plain", "layer-scale"])
def test_a_layer_agrees_with_sums_over_edges_and_orientations(name, scale, rng):
    layer, kernels = layer_of(name, rng, edge_scalars=2, layer_scale=scale)
    grid, group, kind = kernels.grid, CASES[name][1], CASES[name][3]
    n = grid.space.dimension
    points, features = normal(rng, 4, n), normal(rng, 4, grid.size, 4)
    edge_index, _ = all_pairs([4])
    edge_index = edge_index[:, 2:]
    scalars = normal(rng, edge_index.shape[1], 2)
    orientations = turned(grid.orientations, rotation(rng, n))
    options = {"radius": 2.5, "length": 1.25, "reach": 4.0}
    geometry = make_geometry(
        points,
        grid,
        group,
        orientations=orientations,
        edge_index=edge_index,
        edge_scalars=scalars,
        **options,
    )
    edges = triples(edge_index, scalars, 4)
    own = orientations.expand(4, *orientations.shape)
    spatial = (kernels.spatial, layer.spatial.weight, kind, options)
    with torch.no_grad():
        y = oracle.spatial(features, points, edges, own, *spatial)
        if kernels.fibre is None:
            z = y * layer.fibre.weight[:, 0] + layer.fibre.bias
        else:
            fibre = (kernels.fibre, layer.fibre.weight, layer.fibre.bias, kind)
            z = oracle.fibre(y, grid.orientations, grid.weights, *fibre)
        if layer.handed is not None:
            z = z + oracle.handed(y, own, grid.weights, layer.handed.mix)
        expected = oracle.block(features, z, layer.block)
    torch.testing.assert_close(layer(features, geometry, kernels), expected, atol=1e-11, rtol=1e-11)
    assert (layer.handed is not None) == (grid.space.name == "R3xS2" and group == "SE(3)")


@names
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_layer_commutes_with_motions_of_points_and_grid(name, dtype, rng):
    layer, kernels = layer_of(name, rng)
    layer, kernels = layer.to(dtype), kernels.to(dtype)
    grid, group = kernels.grid, CASES[name][1]
    n = grid.space.dimension
    points, features = normal(rng, 5, n, dtype=dtype), normal(rng, 5, grid.size, 4, dtype=dtype)
    before = layer(features, make_geometry(points, grid, group), kernels)

    def error(motion, orientations):
        moved = (points.double() @ motion.mT).to(dtype) + 3
        geometry = make_geometry(moved, grid, group, orientations=orientations)
        after = layer(features, geometry, kernels)
        return ((after - before).abs().max() / before.abs().max()).item()

    motion = rotation(rng, n, reflected=group.startswith("E"))
    assert error(motion, turned(grid.orientations, motion)) < EQUIVARIANCE[dtype]
    if name not in ("R2", "R3"):
        # control: the grid as it was
        assert error(motion, grid.orientations) > 1e-2
    if name not in ("R2", "R3", "SE3"):
        # control: mirror images, where reflections are not in the group
        mirror = rotation(rng, n, reflected=True)
        same = error(mirror, turned(grid.orientations, mirror)) < EQUIVARIANCE[dtype]
        assert same == group.startswith("E")


@pytest.mark.parametrize("handed", [True, False], ids=["handed", "not-handed"])
def test_mirror_images_are_told_apart_by_the_handed_term_alone(handed, rng):
    layer, kernels = layer_of("R3xS2", rng, handed=handed)
    grid = kernels.grid
    points, scalars = normal(rng, 5, 3), normal(rng, 5, 1, 4)
    mirror = rotation(rng, 3, reflected=True)

    def invariants(points, orientations):
        geometry = make_geometry(points, grid, orientations=orientations)
        features = scalars.expand(-1, grid.size, -1)
        for _ in range(2):
            features = layer(features, geometry, kernels)
        return features.mean(1)

    left = invariants(points, grid.orientations)
    right = invariants(points @ mirror.mT, turned(grid.orientations, mirror))
    difference = (left - right).abs().max() / left.abs().max()
    assert difference > 1e-3 if handed else difference < EQUIVARIANCE[torch.float64]


@pytest.mark.parametrize("name", ["R3", "R2xS1", "R3xS2", "SE3"])
def test_derivatives(name, rng):
    layer, kernels = layer_of(name, rng, edge_scalars=1, channels=2)
    grid, n = kernels.grid, kernels.grid.space.dimension
    edge_index = torch.tensor([[0, 1, 2], [1, 0, 1]])
    inputs = (
        normal(rng, 3, grid.size, 2).requires_grad_(),
        normal(rng, 3, n).requires_grad_(),
        normal(rng, 3, 1).requires_grad_(),
    )

    def of(features, points, scalars):
        geometry = make_geometry(
            points,
            grid,
            CASES[name][1],
            edge_index=edge_index,
            edge_scalars=scalars,
            radius=3.0,
            reach=5.0,
        )
        return layer(features, geometry, kernels)[:2, :2]

    assert gradcheck(of, inputs)
    assert gradgradcheck(of, inputs, fast_mode=True)


def test_derivatives_by_weights_and_orientations(rng):
    layer, kernels = layer_of("R3xS2", rng, channels=2)
    points, features = normal(rng, 3, 3), normal(rng, 3, kernels.grid.size, 2)
    weights = [kernels.spatial.hidden.weight, kernels.fibre.basis.bias, layer.handed.mix]

    def of(orientations, *_):
        geometry = make_geometry(points, kernels.grid, orientations=orientations)
        return layer(features, geometry, kernels)[:2, :2]

    assert gradcheck(of, (kernels.grid.orientations.clone().requires_grad_(), *weights))


def coincident(points):
    points[1] = points[0]


def along_an_orientation(points):
    points[1] = points[0] + 0.7 * grid_of("R3xS2").orientations[0].to(points)


def collinear(points):
    points[:, 1:] = 0


def far(points):
    points[0] += 1e6


def all_at_one_place(points):
    points[:] = 0


DEGENERATE = [coincident, along_an_orientation, collinear, far, all_at_one_place]


@pytest.mark.parametrize("spoil", DEGENERATE, ids=lambda function: function.__name__)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_degenerate_clouds_have_finite_derivatives(spoil, dtype, rng):
    layer, kernels = layer_of("R3xS2", rng)
    layer, kernels = layer.to(dtype), kernels.to(dtype)
    points, features = normal(rng, 4, 3, dtype=dtype), normal(rng, 4, 8, 4, dtype=dtype)
    spoil(points)
    points.requires_grad_()
    geometry = make_geometry(points, kernels.grid, reach=10.0, search="dense")
    y = layer(features, geometry, kernels)
    (first,) = grad(y.square().sum(), points, create_graph=True)
    (second,) = grad(first.square().sum(), points)
    assert y.isfinite().all()
    assert first.isfinite().all()
    assert second.isfinite().all()
    # what coincides, or is turned with the grid, still commutes with motions
    motion = rotation(rng, 3).to(dtype)
    orientations = turned(kernels.grid.orientations.to(dtype), motion)
    moved = make_geometry(points @ motion.mT, kernels.grid, orientations=orientations, reach=10.0)
    error = (layer(features, moved, kernels) - y).abs().max() / y.abs().max()
    assert error < EQUIVARIANCE[dtype]


def test_isolated_nodes_and_empty_graphs(rng):
    layer, kernels = layer_of("R3xS2", rng)
    grid = kernels.grid
    points, features = normal(rng, 3, 3), normal(rng, 3, grid.size, 4)
    none = torch.zeros(2, 0, dtype=torch.int64)
    geometry = make_geometry(points, grid, edge_index=none, self_loops=False)
    assert (layer.spatial(features, geometry, kernels) == 0).all()
    bias = layer.block(features, layer.fibre.bias.expand_as(features))
    torch.testing.assert_close(layer(features, geometry, kernels), bias)
    empty = make_geometry(points[:0], grid)
    assert layer(features[:0], empty, kernels).shape == (0, grid.size, 4)


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_a_block_that_recomputes_has_the_same_derivatives(recompute, rng):
    block = randomised(ConvNeXtBlock(3, 2, 0.5, recompute).double(), rng)
    x, z = normal(rng, 5, 3).requires_grad_(), normal(rng, 5, 3).requires_grad_()
    torch.testing.assert_close(block(x, z), oracle.block(x, z, block))
    assert gradcheck(block, (x, z))
    assert gradgradcheck(block, (x, z))


def test_products_stand_in_the_order_of_the_convolution(rng):
    values = normal(rng, 3)
    for degree in (1, 2, 3):
        torch.testing.assert_close(polynomials(values, degree), oracle.products(values, degree))
    assert polynomials(values[:0], 3).shape == (0,)


@names
def test_weights_start_so_that_features_keep_their_spread(name):
    torch.manual_seed(0)
    kernels = Kernels(grid_of(name), CASES[name][1], implementation="naive").double()
    edge_index, batch = all_pairs([9] * 8)
    n = kernels.grid.space.dimension
    # offsets have components of unit variance
    points = torch.randn(len(batch), n, dtype=torch.float64) / 2**0.5
    features = torch.randn(len(batch), kernels.grid.size, 32, dtype=torch.float64)
    options = {"edge_index": edge_index, "batch": batch, "self_loops": False}
    geometry = make_geometry(points, kernels.grid, CASES[name][1], **options)
    conv = SpatialConv(32, kernels, neighbours=8.0).double()
    assert 0.4 < conv(features, geometry, kernels).std() / features.std() < 2.5


@pytest.mark.unchecked
def test_unfit_arguments_are_named(rng):
    grid = grid_of("R3xS2")
    for name in ("hidden", "basis", "degree"):
        with pytest.raises(ValueError, match=name):
            Kernels(grid, **{name: 0})
    with pytest.raises(ValueError, match="edge_scalars"):
        Kernels(grid, edge_scalars=-1)
    with pytest.raises(ValueError, match="softening"):
        Kernels(grid, softening=0.0)
    with pytest.raises(ValueError, match="neighbours"):
        SpatialConv(3, kernels_of("R3xS2"), neighbours=inf)
    with pytest.raises(TypeError, match="channels"):
        ConvNeXtBlock(2.5)
    layer, kernels = layer_of("R3xS2", rng)
    with pytest.raises(ValueError, match="implementation is 'fast'; expected one of auto, naive"):
        kernels_of("R3xS2", implementation="fast")
    with pytest.raises(TypeError, match="layer_scale is 'small'; expected a number"):
        ConvNeXtBlock(2, layer_scale="small")
    geometry = make_geometry(normal(rng, 3, 3), kernels.grid)
    with pytest.raises(TypeError, match=r"features: got torch\.float32, .* torch\.float64"):
        layer(normal(rng, 3, kernels.grid.size, 4).float(), geometry, kernels)
    geometry = make_geometry(normal(rng, 3, 3), grid_of("SE3"))
    with pytest.raises(ValueError, match="geometry has the attributes"):
        layer(normal(rng, 3, 4, 4), geometry, kernels)
