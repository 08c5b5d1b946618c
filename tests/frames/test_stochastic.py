"""Some frames at random: right in the mean, the same for the same state of the generator."""

import pytest
import torch
from torch.autograd import grad

from eqlib.frames import FrameAverage, LatentFrames, frame_variance, pca_frames
from eqlib.frames.sampling import number_of
from eqlib.symmetry import Point, Scalar, Signature, as_group
from tests.frames.clouds import GRAPHS, LEVELS, MessagePassing, graphs, mlp, separated

DRAWS = 10_000


def deviations(layer, points):
    """Deviations of the mean of many draws from the full average, in standard errors."""
    with torch.no_grad():
        draws = layer(points.expand(DRAWS, *points.shape))
        full = FrameAverage(layer.backbone, layer.signature.group)(points)
    return (draws.mean(0) - full).abs() / (draws.std(0) / DRAWS**0.5)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("group", ["SO(3)", "E(3)", "Similarity(3)", "SE(2)"])
def test_the_mean_over_draws_is_the_full_average(group, samples, rng):
    dimension = as_group(group).dimension
    points = separated(rng, 5, dimension=dimension)
    samples = min(samples, dimension - 1)
    layer = FrameAverage(
        mlp(dimension, dimension), group, "stochastic", samples=samples, generator=rng
    )
    assert deviations(layer, points).max() < 4


def test_control_a_biased_draw_is_rejected(rng):
    def biased(points, group, mask=None, batch=None, num_graphs=None):
        found = pca_frames(points, group)
        keys = torch.rand(found.frames.shape[:-2], generator=rng)
        keys[..., 0] *= 0.8  # the first frame is drawn a little more often
        chosen = keys.argmin(-1)[..., None, None, None].expand(*keys.shape[:-1], 1, 3, 3)
        return found._replace(frames=found.frames.gather(-3, chosen), signs=None)

    points = separated(rng, 5)
    assert deviations(FrameAverage(mlp(), "SE(3)", biased), points).max() > 4


def test_gradients_of_draws_have_the_full_gradient_as_their_mean(rng):
    points = separated(rng, 5)
    signature = Signature(as_group("SE(3)"), {"points": Point()}, Scalar())
    layer = FrameAverage(mlp(3, 1), mode="stochastic", signature=signature, generator=rng)
    copies = points.expand(DRAWS, 5, 3).clone().requires_grad_()
    found = grad(layer(copies).sum(), copies)[0]
    one = points.clone().requires_grad_()
    expected = grad(FrameAverage(layer.backbone, signature=signature)(one).sum(), one)[0]
    error = found.std(0) / DRAWS**0.5
    assert ((found.mean(0) - expected).abs() / error).max() < 4


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_errors_of_draws_are_those_that_the_variance_tells(samples, rng):
    points = separated(rng, 5)
    full = FrameAverage(mlp(), "SE(3)")
    layer = FrameAverage(full.backbone, "SE(3)", "stochastic", samples=samples, generator=rng)
    with torch.no_grad():
        variance = frame_variance(layer, points)["output"]
        square = (layer(points.expand(DRAWS, 5, 3)) - full(points)).square().mean(0)
    expected = variance * (4 - samples) / (samples * 3)
    torch.testing.assert_close(square.sum(), expected.sum(), rtol=0.05, atol=1e-12)


def test_an_equivariant_backbone_has_no_variance(rng):
    inputs = graphs(rng, [5, 4])
    mean = FrameAverage(lambda points: points.square().sum(-1, keepdim=True) * points, "O(3)")
    assert frame_variance(mean, inputs["points"][None])["output"].max() < 1e-24
    layer = FrameAverage(MessagePassing(), signature=GRAPHS, levels=LEVELS)
    variances = frame_variance(layer, **inputs)
    outputs = layer(**inputs)
    for name, variance in variances.items():
        assert variance.shape == outputs[name].shape
        assert variance.max() > 1e-6
    with pytest.raises(ValueError, match="mode 'weighted' differ in number or weight"):
        frame_variance(FrameAverage(mlp(), mode="weighted"), inputs["points"])
    with pytest.raises(ValueError, match="eval_mode is 'stochastic'"):
        frame_variance(FrameAverage(mlp(), "E(3)", "stochastic", "stochastic"), inputs["points"])


def test_the_same_state_gives_the_same_bits(rng):
    points = separated(rng, 4, 6)
    layer = FrameAverage(mlp(), "E(3)", "stochastic", generator=rng)
    state = rng.get_state()
    first, second = layer(points), layer(points)
    rng.set_state(state)
    assert torch.equal(layer(points), first)
    assert not torch.equal(first, second)


def test_without_a_generator_draws_are_those_of_torch(rng):
    points = separated(rng, 4, 6)
    layer = FrameAverage(mlp(), "E(3)", "stochastic")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first, second = layer(points), layer(points)
        torch.manual_seed(5)
        assert torch.equal(layer(points), first)
    assert not torch.equal(first, second)


def test_the_operator_that_draws_is_a_good_one(rng):
    arguments = (torch.zeros(2), [2, 3], number_of(rng))
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(torch.ops.eqlib.uniform.default, arguments, test_utils=tests)


@pytest.mark.unchecked
def test_exported_layers_draw_as_they_did(rng):
    points = separated(rng, 16, 6)
    layer = FrameAverage(mlp(), "SE(3)", "stochastic")
    exported = torch.export.export(layer, (points,), strict=False).module()
    with torch.random.fork_rng():
        results = []
        for run in (layer, exported):
            torch.manual_seed(2)
            results.append([run(points), run(points)])
    torch.testing.assert_close(*results)
    assert not torch.equal(*results[1])


def test_each_cloud_draws_for_itself(rng):
    points = separated(rng, 6).expand(64, 6, 3)
    layer = FrameAverage(mlp(), "SE(3)", "stochastic", generator=rng)
    frames = layer.frames(points)
    assert frames.frames.shape == (64, 1, 3, 3)
    assert len(frames.frames.unique(dim=0)) == 4
    ragged = layer.frames(
        points.flatten(0, 1), batch=torch.arange(64).repeat_interleave(6), num_graphs=64
    )
    assert len(ragged.frames.mul(1e6).round().unique(dim=0)) == 4


def test_frames_are_drawn_without_replacement(rng):
    layer = FrameAverage(mlp(), "SE(3)", "stochastic", samples=4, generator=rng)
    frames = layer.frames(separated(rng, 8, 6)).frames
    assert all(len(cloud.unique(dim=0)) == 4 for cloud in frames)


def test_evaluation_is_exact_and_draws_nothing(rng):
    points = separated(rng, 4, 6)
    layer = FrameAverage(mlp(), "SE(3)", "stochastic", generator=rng).eval()
    state = rng.get_state()
    torch.testing.assert_close(layer(points), FrameAverage(mlp(), "SE(3)")(points))
    assert torch.equal(rng.get_state(), state)


@pytest.mark.unchecked
@pytest.mark.parametrize("make", [FrameAverage, LatentFrames], ids=["average", "latent"])
def test_more_samples_than_frames_are_refused(make, rng):
    arguments = (mlp(), "SE(3)") if make is FrameAverage else ("SE(3)",)
    layer = make(*arguments, "stochastic", samples=5)
    with pytest.raises(ValueError, match="expected at most the 4 frames of a cloud, got 5"):
        layer.frames(separated(rng, 2, 6, 4))
