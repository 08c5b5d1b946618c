"""Degenerate input has an answer, and finite first and second gradients."""

import pytest
import torch

from eqlib.position_orientation import EdgeOptions, TurnOptions
from tests.frames.clouds import DEGENERATE
from tests.position_orientation.nets import dimension_of, network

OPTIONS = {
    "plain": {"exact": False},
    "exact": {},
    "differentiable": {"turns": TurnOptions(detach=False)},
    "blended": {"turns": TurnOptions(detach=False, threshold=0.02, blend=True)},
    "moments": {"turns": TurnOptions(detach=False, moment="points+vectors+scalars")},
    "window": {"edges": EdgeOptions(radius=2.0), "exact": False},
}
ZERO = torch.zeros(3, 2, dtype=torch.float64)


def inputs_at(points, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    nodes, n = points.shape
    scalars = torch.randn(nodes, 2, generator=generator)
    vectors = torch.randn(nodes, 1, n, generator=generator)
    return {"points": points.to(dtype), "scalars": scalars.to(dtype), "vectors": vectors.to(dtype)}


def assert_gradients_are_finite(net, inputs, **graph):
    """Assert that outputs and their first and second gradients are finite."""
    given = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    out = net(**given, **graph)
    total = out.scalars.square().sum() + (out.vectors.sum() + out.vectors.square().sum())
    variables = [*given.values(), *net.parameters()]
    first = torch.autograd.grad(total, variables, create_graph=True, materialize_grads=True)
    square = sum(part.square().sum() for part in first)
    second = torch.autograd.grad(square, variables, materialize_grads=True)
    for part in (*out, *first, *second):
        assert part.isfinite().all()
    return out


@pytest.mark.parametrize("options", list(OPTIONS))
@pytest.mark.parametrize("name", list(DEGENERATE))
def test_symmetric_clouds_have_an_answer(name, options, rng):
    net = network(channels=4, layers=1, **OPTIONS[options])
    assert_gradients_are_finite(net, inputs_at(DEGENERATE[name].double()))


@pytest.mark.parametrize("space", ["R2xS1", "SE3", "R3", "R2"])
@pytest.mark.parametrize("name", ["no point", "one point", "coincident", "collinear", "cube"])
def test_symmetric_clouds_have_an_answer_in_other_spaces(space, name, rng):
    net = network(space, channels=4, layers=1)
    points = DEGENERATE[name].double()[:, : dimension_of(space)]
    assert_gradients_are_finite(net, inputs_at(points))


def test_offsets_along_an_orientation_have_an_answer(rng):
    """The distance from the line of an orientation has no slope on that line."""
    net = network(exact=False, channels=4, layers=1)
    direction = net.kernels.grid.orientations[3]
    points = torch.stack([ZERO[0, 0] * direction, direction, 2.5 * direction])
    assert_gradients_are_finite(net, inputs_at(points))


@pytest.mark.parametrize("options", ["plain", "exact", "differentiable"])
def test_isolated_nodes_and_empty_graphs_have_an_answer(options, rng):
    net = network(channels=4, layers=1, **OPTIONS[options])
    points = torch.randn(6, 3, dtype=torch.float64, generator=rng)
    graph = {
        "edge_index": torch.tensor([[0, 1], [1, 0]]),
        "batch": torch.tensor([1, 1, 1, 3, 3, 3]),
        "num_graphs": 5,
    }
    out = assert_gradients_are_finite(net, inputs_at(points), **graph)
    assert out.gap.shape == (5,)
    assert torch.equal(out.gap[[0, 2, 4]], torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("pool", ["mean", "sum"])
def test_pools_of_empty_graphs_are_zero(pool, rng):
    net = network(pool=pool, channels=4, layers=1)
    points = torch.randn(3, 3, dtype=torch.float64, generator=rng)
    batch = torch.tensor([1, 1, 1])
    out = assert_gradients_are_finite(net, inputs_at(points), batch=batch, num_graphs=3)
    assert not out.scalars[[0, 2]].any()
    assert not out.vectors[[0, 2]].any()


@pytest.mark.parametrize("nodes", [0, 1, 4])
@pytest.mark.parametrize("loops", [True, False], ids=["loops", "no loops"])
def test_graphs_without_edges_have_an_answer(nodes, loops, rng):
    net = network(channels=4, layers=1, edges=EdgeOptions(self_loops=loops))
    points = torch.randn(nodes, 3, dtype=torch.float64, generator=rng)
    edge_index = torch.zeros(2, 0, dtype=torch.int64)
    out = assert_gradients_are_finite(net, inputs_at(points), edge_index=edge_index)
    assert out.vectors.shape == (nodes, 1, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("distance", [1e3, 1e6], ids=["1e3", "1e6"])
def test_far_nodes_have_an_answer(distance, dtype, rng):
    net = network(dtype=dtype, channels=4, layers=1)
    points = torch.randn(5, 3, dtype=torch.float64, generator=rng)
    points[2:, 0] += distance
    assert_gradients_are_finite(net, inputs_at(points, dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_far_clouds_are_as_near_ones_to_rounding(dtype, rng):
    net = network(dtype=dtype, channels=4, layers=1)
    points = torch.randn(6, 3, generator=rng).mul(8).round().div(8)  # no rounding far away
    shift = torch.tensor([1e6, -1e6, 1e6])
    near = assert_gradients_are_finite(net, inputs_at(points, dtype))
    far = assert_gradients_are_finite(net, inputs_at(points.double() + shift.double(), dtype))
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(far.scalars, near.scalars, rtol=tolerance, atol=tolerance)


def test_nan_stays_in_its_graph(rng):
    net = network(channels=4, layers=1)
    inputs = inputs_at(torch.randn(8, 3, dtype=torch.float64, generator=rng))
    batch = torch.tensor([0] * 4 + [1] * 4)
    expected = net(**inputs, batch=batch)
    inputs["points"][0, 0] = torch.nan
    found = net(**inputs, batch=batch)
    assert found.scalars[:4].isnan().all()
    torch.testing.assert_close(found.scalars[4:], expected.scalars[4:])
    torch.testing.assert_close(found.gap[1], expected.gap[1])
