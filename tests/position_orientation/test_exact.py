"""The frames that turn the grid: signs, moments, thresholds and draws."""

import copy

import pytest
import torch

from eqlib.frames import pca_frames
from eqlib.position_orientation import GridTurns, TurnOptions
from eqlib.position_orientation.exact import bring_back, express
from eqlib.symmetry import SO, equivariance_error
from tests.frames.averages import clouds_of_gap
from tests.position_orientation.nets import cloud, network, uneven_grid

SMALL = {"channels": 4, "layers": 1}
TETRAHEDRON = torch.tensor(
    [[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64
)
CUBE = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0], dtype=torch.float64)])


def test_one_pass_takes_the_principal_axes(rng):
    points = cloud(rng)["points"]
    batch = torch.tensor([0] * 5 + [1] * 7)
    turns = GridTurns("SE(3)", True, TurnOptions())(points, batch=batch, num_graphs=2)
    frames = pca_frames(points, "SE(3)", batch=batch, num_graphs=2)
    assert turns.rotations.shape == (1, 2, 3, 3)
    torch.testing.assert_close(turns.rotations[0], frames.axes)
    torch.testing.assert_close(turns.gap, frames.gap)
    assert torch.equal(turns.weights, torch.ones(1, 2, dtype=torch.float64))
    torch.testing.assert_close(turns.rotations.det(), torch.ones(1, 2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("group", "passes"), [("SE(3)", 4), ("E(3)", 8), ("SE(2)", 2), ("E(2)", 4)]
)
def test_all_signs_have_equal_weights(group, passes, rng):
    n = int(group[-2])
    points = clouds_of_gap(rng, 6, gap=0.1, dimension=n)
    turns = GridTurns(group, False, TurnOptions())(points)
    assert turns.rotations.shape == (passes, 1, n, n)
    torch.testing.assert_close(turns.weights.sum(0), torch.ones(1, dtype=torch.float64))
    products = (turns.rotations[0].mT @ turns.rotations)[:, 0]
    assert torch.allclose(products.abs(), torch.eye(n, dtype=torch.float64).expand_as(products))
    assert len({tuple(row) for row in products.diagonal(dim1=1, dim2=2).round().tolist()}) == passes


def test_axes_and_back_is_the_identity(rng):
    turns = torch.stack([SO(3).sample(rng, 1).matrix[0] for _ in range(2)])
    graph = torch.tensor([0, 0, 1])
    vectors = torch.randn(3, 2, 3, dtype=torch.float64, generator=rng)
    inside = express(vectors, turns, graph)
    torch.testing.assert_close(inside[2, 1], turns[1].mT @ vectors[2, 1])
    torch.testing.assert_close(bring_back(inside, turns, graph), vectors)
    torch.testing.assert_close(express(vectors[:, 0], turns, graph), inside[:, 0])
    assert express(vectors, None, graph) is vectors


def test_a_closed_gap_leaves_the_grid_as_it_is(rng):
    inputs = cloud(rng, sizes=(8,))
    inputs["points"] = CUBE
    found, plain = network()(**inputs), network(exact=False)(**inputs)
    assert found.gap.abs().max() < 1e-14
    assert torch.equal(found.scalars, plain.scalars)
    assert torch.equal(found.vectors, plain.vectors)


def test_one_closed_gap_does_not_touch_the_other_clouds(rng):
    inputs = cloud(rng, sizes=(8, 7))
    inputs["points"][:8] = CUBE
    found, plain = network()(**inputs), network(exact=False)(**inputs)
    torch.testing.assert_close(found.scalars[:8], plain.scalars[:8])
    assert (found.scalars[8:] - plain.scalars[8:]).abs().max() > 1e-5


def test_errors_below_the_threshold_are_those_of_the_plain_grid(rng):
    """The grid is what is not equivariant: a finer one has a smaller error, also at a cube."""
    inputs = cloud(rng, sizes=(8,))
    inputs["points"] = CUBE
    errors = [
        equivariance_error(network(orientations=size, **SMALL), inputs, generator=rng).max
        for size in (6, 72)
    ]
    plain = network(orientations=6, exact=False, **SMALL)
    assert 1e-3 < errors[0] < 2 * equivariance_error(plain, inputs, generator=rng).max
    assert errors[1] < errors[0] / 2


@pytest.mark.parametrize("moment", ["points+scalars", "points+vectors", "points+vectors+scalars"])
def test_moments_split_what_points_leave_equal(moment, rng):
    inputs = cloud(rng, sizes=(4,))
    inputs["points"] = TETRAHEDRON
    plain = network(**SMALL)
    assert plain(**inputs).gap.abs().max() < 1e-14
    assert equivariance_error(plain, inputs, generator=rng).max > 1e-4
    net = network(turns=TurnOptions(moment=moment), **SMALL)
    assert net(**inputs).gap.min() > 1e-2
    assert equivariance_error(net, inputs, samples=16, generator=rng).max < 1e-12


@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
def test_moments_of_batches_are_those_of_their_graphs(group, rng):
    inputs = cloud(rng, sizes=(5, 1, 7))
    turns = GridTurns(group, True, TurnOptions(moment="points+vectors+scalars"))
    named = [inputs[name] for name in ("points", "scalars", "vectors")]
    together = turns(*named, inputs["batch"], 3)
    for graph in range(3):
        rows = inputs["batch"] == graph
        alone = turns(*(value[rows] for value in named))
        torch.testing.assert_close(alone.gap[0], together.gap[graph])
        products = alone.rotations[0, 0].mT @ together.rotations[0, graph]
        torch.testing.assert_close(products.abs(), torch.eye(3, dtype=torch.float64))


def test_moments_do_not_depend_on_units(rng):
    inputs = cloud(rng)
    turns = GridTurns("SE(3)", True, TurnOptions(moment="points+vectors"))
    plain = turns(inputs["points"], None, inputs["vectors"], inputs["batch"], 2)
    scaled = turns(1e3 * inputs["points"], None, 1e-3 * inputs["vectors"], inputs["batch"], 2)
    torch.testing.assert_close(scaled.gap, plain.gap)


def near_threshold(rng, gap):
    """Return a cloud with one small gap."""
    points = clouds_of_gap(torch.Generator().manual_seed(1), 8, gap=0.2)
    _, _, axes = torch.linalg.svd(points - points.mean(0))
    inside = (points - points.mean(0)) @ axes.mT
    squares = inside.square().sum(0)
    wanted = torch.tensor([0.5, 0.25 + gap / 2, 0.25 - gap / 2], dtype=torch.float64)
    return inside * (wanted / squares).sqrt() * 3


@pytest.mark.parametrize("blend", [True, False], ids=["blend", "jump"])
def test_outputs_jump_at_the_threshold_unless_blended(blend, rng):
    inputs = cloud(rng, sizes=(8,))
    net = network(turns=TurnOptions(threshold=0.05, blend=blend), orientations=6)
    turn = SO(3).sample(rng, 1).matrix[0]
    found = []
    for gap in (0.05 - 1e-9, 0.05 + 1e-9):
        points = near_threshold(rng, gap) @ turn.mT
        out = net(**{**inputs, "points": points})
        torch.testing.assert_close(
            out.gap, torch.tensor([gap], dtype=torch.float64), rtol=0, atol=1e-12
        )
        found.append(out.scalars)
    change = (found[1] - found[0]).abs().max()
    assert change < 1e-6 if blend else change > 1e-4


@pytest.mark.parametrize(("gap", "exact"), [(0.0999, False), (0.1001, True)])
def test_blended_networks_are_exact_above_twice_the_threshold(gap, exact, rng):
    inputs = cloud(rng, sizes=(8,))
    inputs["points"] = near_threshold(rng, gap)
    net = network(turns=TurnOptions(threshold=0.05, blend=True), **SMALL)
    error = equivariance_error(net, inputs, samples=16, generator=rng).max
    assert error < 1e-12 if exact else error > 1e-10


def test_draws_differ_in_training_only(rng):
    source = torch.Generator().manual_seed(0)
    options = TurnOptions(signs="stochastic", generator=source)
    net = network(orientations=uneven_grid(), turns=options)
    inputs = cloud(rng, sizes=(5, 5, 5, 5))
    full = network(orientations=uneven_grid(), turns=TurnOptions(signs="full"))(**inputs)
    draws = [net(**inputs).scalars for _ in range(8)]
    assert len({round(draw[0, 0].item(), 12) for draw in draws}) > 1
    torch.testing.assert_close(net.eval()(**inputs).scalars, full.scalars)
    net.train()
    state = source.get_state()
    first = net(**inputs).scalars
    source.set_state(state)
    assert torch.equal(net(**inputs).scalars, first)
    copied = copy.deepcopy(net)
    assert copied(**inputs).scalars.shape == first.shape


def test_the_mean_of_all_draws_is_the_full_average(rng):
    net = network(orientations=uneven_grid(), turns=TurnOptions(signs="stochastic"), **SMALL)
    inputs = cloud(rng, sizes=(5,))
    torch.manual_seed(0)
    seen = {}
    for _ in range(64):
        draw = net(**inputs).scalars
        seen[round(draw[0, 0].item(), 10)] = draw
    assert len(seen) == 4
    torch.testing.assert_close(sum(seen.values()) / 4, net.eval()(**inputs).scalars)


@pytest.mark.unchecked
def test_a_moment_needs_its_inputs(rng):
    turns = GridTurns("SE(3)", True, TurnOptions(moment="points+vectors"))
    with pytest.raises(ValueError, match="vectors: the moment of the frames has them"):
        turns(TETRAHEDRON)
