"""Distributions of orientations: normalised, equivariant, with the modes that they should have."""

import math

import pytest
import torch

from eqlib.geometry import segment_mean
from eqlib.position_orientation import OrientationDistribution, OrientationGrid
from eqlib.symmetry import SO
from tests.position_orientation.nets import cloud, network

GRIDS = {"R2xS1": 8, "R3xS2": 12, "SE3": 12}
VOLUME = {"R2xS1": 2 * math.pi, "R3xS2": 4 * math.pi, "SE3": math.pi**2}


def distribution(space, channels=4, group=None, **options):
    torch.manual_seed(0)
    return OrientationDistribution(
        channels, OrientationGrid(space, GRIDS[space]), group, hidden=16, **options
    ).double()


def features_of(rng, space, graphs=3):
    return 4 * torch.randn(graphs, GRIDS[space], 4, dtype=torch.float64, generator=rng)


def uniform(rng, space, count):
    if space == "SE3":
        return SO(3).sample(rng, count).matrix
    n = 2 if space == "R2xS1" else 3
    vectors = torch.randn(count, n, dtype=torch.float64, generator=rng)
    return torch.nn.functional.normalize(vectors, dim=-1)


def turned(queries, turn, space):
    return turn @ queries if space == "SE3" else queries @ turn.mT


@pytest.mark.parametrize("space", list(GRIDS))
def test_densities_integrate_to_one(space, rng):
    """By a mean over random orientations, which knows nothing of the quadrature."""
    layer, features = distribution(space), features_of(rng, space)
    queries = uniform(rng, space, 8_000).expand(3, 8_000, *((3, 3) if space == "SE3" else (-1,)))
    values = VOLUME[space] * layer(features, queries).exp()
    error = values.std(1) / math.sqrt(8_000)
    assert ((values.mean(1) - 1).abs() < 4 * error).all()
    assert (values.std(1) > 0.05).all()


@pytest.mark.parametrize("space", list(GRIDS))
def test_features_of_zero_are_uniform(space, rng):
    layer = distribution(space)
    queries = uniform(rng, space, 3)[:, None]
    found = layer(torch.zeros(3, GRIDS[space], 4, dtype=torch.float64), queries)
    torch.testing.assert_close(found, torch.full_like(found, -math.log(VOLUME[space])))


@pytest.mark.parametrize("space", list(GRIDS))
def test_densities_turn_with_the_frame(space, rng):
    layer, features = distribution(space), features_of(rng, space)
    n = 2 if space == "R2xS1" else 3
    frames, turns = (SO(n).sample(rng, 3).matrix for _ in range(2))
    queries = uniform(rng, space, 3)
    moved = torch.stack([turned(q, r, space) for q, r in zip(queries, turns, strict=True)])
    found = layer.nll(features, queries, frames)
    torch.testing.assert_close(layer.nll(features, moved, turns @ frames), found)
    # control: the frame has to turn with them
    assert (layer.nll(features, moved, frames) - found).abs().max() > 1e-3
    modes = layer.mode(features, frames)
    expected = torch.stack([turned(m, r, space) for m, r in zip(modes, turns, strict=True)])
    torch.testing.assert_close(layer.mode(features, turns @ frames), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("space", list(GRIDS))
def test_modes_are_where_the_density_is_highest(space, rng):
    layer, features = distribution(space), features_of(rng, space)
    modes = layer.mode(features)
    highest = -layer.nll(features, modes)
    queries = uniform(rng, space, 5_000).expand(3, 5_000, *((3, 3) if space == "SE3" else (-1,)))
    assert (layer(features, queries).amax(1) <= highest + 1e-9).all()
    # the density falls off to all sides
    for scale in (1e-3, 1e-2):
        noise = uniform(rng, "R3xS2" if space != "R2xS1" else space, 3) * scale
        if space == "SE3":
            x, y, z = noise.unbind(-1)
            zero = torch.zeros_like(x)
            skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
            near = modes @ torch.linalg.matrix_exp(skew)
        else:
            near = torch.nn.functional.normalize(modes + noise, dim=-1)
        assert (-layer.nll(features, near) <= highest + 1e-12).all()


@pytest.mark.parametrize("space", ["R2xS1", "R3xS2"])
def test_axes_have_no_direction(space, rng):
    layer, features = distribution(space, axial=True), features_of(rng, space)
    queries = uniform(rng, space, 3)
    torch.testing.assert_close(layer.nll(features, queries), layer.nll(features, -queries))
    directed = distribution(space)
    difference = directed.nll(features, queries) - directed.nll(features, -queries)
    assert difference.abs().max() > 1e-3


def test_the_mean_direction_is_that_of_the_density(rng):
    layer, features = distribution("R3xS2"), features_of(rng, "R3xS2")
    queries = uniform(rng, "R3xS2", 20_000)
    weights = layer(features, queries.expand(3, -1, -1)).exp()
    expected = torch.nn.functional.normalize(weights @ queries, dim=-1)
    cosine = (layer.mean_direction(features) * expected).sum(-1)
    assert (cosine > math.cos(0.2)).all()


def test_a_distribution_learns_a_direction(rng):
    layer, target = distribution("R3xS2"), uniform(rng, "R3xS2", 2)
    features = features_of(rng, "R3xS2", graphs=2)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    first = layer.nll(features, target).mean()
    for _ in range(60):
        optimizer.zero_grad()
        loss = layer.nll(features, target).mean()
        loss.backward()
        optimizer.step()
    assert loss < first - 1
    cosine = (layer.mode(features) * target).sum(-1)
    assert (cosine > math.cos(math.radians(20))).all()


@pytest.mark.parametrize("space", ["R3xS2", "R2xS1", "SE3"])
def test_networks_predict_equivariant_densities(space, rng):
    torch.manual_seed(0)
    net = network(space, scalars_out=0, vectors_out=0, orientations=GRIDS[space])
    layer, inputs = distribution(space, channels=8), cloud(rng, space)
    n = inputs["points"].shape[-1]
    turn, targets = SO(n).sample(rng, 1).matrix[0], uniform(rng, space, 2)

    def nll(points, vectors, targets):
        code = net.encode(**{**inputs, "points": points, "vectors": vectors})
        pooled = segment_mean(10 * code.features, inputs["batch"], 2)
        return layer.nll(pooled, targets, code.rotations)

    found = nll(inputs["points"], inputs["vectors"], targets)
    moved = [inputs[name] @ turn.mT for name in ("points", "vectors")]
    torch.testing.assert_close(
        nll(*moved, turned(targets, turn, space)), found, rtol=1e-11, atol=1e-11
    )
    # control: targets that do not turn with the cloud
    assert (nll(*moved, targets) - found).abs().max() > 1e-4


def test_gradients(rng):
    layer, features = distribution("R3xS2"), features_of(rng, "R3xS2", graphs=1)
    queries = uniform(rng, "R3xS2", 2)[None]
    given = [features.requires_grad_(), queries.requires_grad_()]
    assert torch.autograd.gradcheck(layer, given)
    assert torch.autograd.gradgradcheck(
        lambda f: layer(f[:, :2].repeat(1, 6, 1), queries), given[:1]
    )


def test_casts_leave_the_quadrature_as_it_is(rng):
    layer, features = distribution("R3xS2"), features_of(rng, "R3xS2")
    target = uniform(rng, "R3xS2", 3)
    points = layer.dense.points.clone()
    found = layer.float().nll(features.float(), target.float())
    assert torch.equal(layer.dense.points, points)
    torch.testing.assert_close(
        found.double(), distribution("R3xS2").nll(features, target), atol=1e-4, rtol=1e-4
    )


def test_no_graph():
    layer = distribution("R3xS2")
    empty = torch.zeros(0, 12, 4, dtype=torch.float64)
    assert layer.nll(empty, torch.zeros(0, 3, dtype=torch.float64)).shape == (0,)
    assert layer.mode(empty).shape == (0, 3)


@pytest.mark.unchecked
def test_densities_under_vmap(rng):
    layer, features = distribution("R3xS2"), features_of(rng, "R3xS2")
    targets = uniform(rng, "R3xS2", 3)
    found = torch.vmap(lambda f, q: layer.nll(f[None], q[None])[0])(features, targets)
    torch.testing.assert_close(found, layer.nll(features, targets))


@pytest.mark.unchecked
def test_refusals(rng):
    with pytest.raises(ValueError, match="grid: R3 has no orientations"):
        OrientationDistribution(4, OrientationGrid("R3", 1))
    with pytest.raises(ValueError, match="axial: the negative of a rotation"):
        distribution("SE3", axial=True)
    with pytest.raises(ValueError, match="mean_direction: rotations and axes have none"):
        distribution("SE3").mean_direction(features_of(rng, "SE3"))
    with pytest.raises(ValueError, match="features has shape"):
        distribution("R3xS2").mode(torch.zeros(3, 11, 4).double())
    with pytest.raises(ValueError, match="one for each graph"):
        distribution("R3xS2").nll(features_of(rng, "R3xS2"), torch.eye(3).double()[:1])
    with pytest.raises(ValueError, match=r"targets has .* expects unit vectors"):
        distribution("R3xS2").nll(features_of(rng, "R3xS2"), torch.ones(3, 3).double())
    with pytest.raises(ValueError, match=r"queries has .* expects rotation matrices"):
        distribution("SE3")(features_of(rng, "SE3"), torch.ones(3, 1, 3, 3).double())
    with pytest.raises(ValueError, match="queries"):
        distribution("R3xS2")(features_of(rng, "R3xS2"), torch.zeros(3, 2, 2).double())
