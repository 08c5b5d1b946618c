"""Every mode of frame averaging, for every group that has it."""

import copy
import pickle

import pytest
import torch
from torch.autograd import grad

from eqlib.frames import FrameAverage, Frames, RaggedFrames, pca_frames
from eqlib.symmetry import (
    GL,
    E,
    Irreps,
    Lorentz,
    NodeOrder,
    Permutations,
    Point,
    Pseudoscalar,
    Scalar,
    Signature,
    SphericalTensor,
    Vector,
    as_group,
    assert_equivariant,
    equivariance_error,
)
from tests.frames.averages import Pointwise, clouds_of_gap, fields_signature
from tests.frames.clouds import DEGENERATE, mlp, separated
from tests.tolerances import EQUIVARIANCE

GROUPS = ["SO(2)", "E(2)", "O(3)", "SO(3)", "SE(3)", "E(3)", "Similarity(3)"]
MODES = ["full", "minimal", "weighted"]


def wrong_frames(points, group, mask=None, batch=None, num_graphs=None):
    """Principal frames whose signs make their columns sum to a positive number."""
    found = pca_frames(points, group, mask, batch, num_graphs)
    axes = found.axes * found.axes.sum(-2, keepdim=True).sign()
    return Frames(axes.unsqueeze(-3), found.centroid, found.gap)


def fields_layer(group, mode):
    """An average of a network that is not steep: how steep it is multiplies all errors."""
    dimension = as_group(group).dimension
    backbone = Pointwise(dimension)
    backbone.network[0].weight.data *= 0.25
    return FrameAverage(backbone, mode=mode, signature=fields_signature(group))


def fields_inputs(rng, group, gap, nodes, dtype=torch.float64):
    dimension, centred = as_group(group).dimension, as_group(group).translations
    points = clouds_of_gap(rng, 2, nodes, gap=gap, dimension=dimension, centre=0.5 * centred)
    velocities = torch.randn(points.shape, dtype=torch.float64, generator=rng)
    return {"points": points.to(dtype), "velocities": velocities.to(dtype)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("group", GROUPS)
def test_averages_commute_with_the_group_and_with_permutations(group, mode, rng):
    layer, inputs = fields_layer(group, mode), fields_inputs(rng, group, 2e-2, 12)
    report = equivariance_error(layer, inputs, samples=16, generator=rng)
    assert report.max < EQUIVARIANCE[torch.float64], report
    # controls: the same check must reject the bare backbone, and frames with arbitrary signs
    bare = equivariance_error(layer.backbone, inputs, layer.signature, generator=rng)
    wrong = FrameAverage(layer.backbone, mode=wrong_frames, signature=layer.signature)
    found = equivariance_error(wrong, inputs, generator=rng)
    assert min(bare.max, found.max) > 1e-2


@pytest.mark.parametrize(
    ("dtype", "gap"), [(torch.float64, 1e-3), (torch.float32, 2e-2)], ids=["float64", "float32"]
)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("group", GROUPS)
def test_small_gaps_are_enough_for_motions_of_a_radius(group, mode, dtype, gap, rng):
    """Farther away, the points are rounded by more than the tolerance times the gap."""
    layer = fields_layer(group, mode).to(dtype)
    inputs = fields_inputs(rng, group, 1.05 * gap, 12 if mode == "weighted" else 32, dtype)
    assert gap < layer.frames(inputs["points"]).gap.min() < 1.1 * gap

    def error(network):
        outputs, worst = network(**inputs), 0.0
        for motion in (motions[i] for i in range(8)):
            moved = {n: kinds.inputs[n].factors[0].act(motion, x) for n, x in inputs.items()}
            for name, found in network(**moved)._asdict().items():
                kind, value = kinds.outputs[name].factors[0], getattr(outputs, name)
                expected = kind.act(motion, value.double())
                worst = max(worst, float((found - expected).abs().max() / expected.abs().max()))
        return worst

    kinds = layer.signature
    motions = as_group(group).sample(rng, 8, kinds=as_group(group).kinds, reach=1.0)
    with torch.no_grad():
        assert error(layer) < EQUIVARIANCE[dtype]
        # control: the same measure must reject the bare backbone
        assert error(layer.backbone) > 1e-2


@pytest.mark.parametrize("mode", ["full", "minimal"])
@pytest.mark.parametrize("group", ["SO(4)", "O(5)", "SE(4)", "Similarity(4)"])
def test_averages_commute_with_groups_of_more_dimensions(group, mode, rng):
    dimension = as_group(group).dimension
    layer = FrameAverage(mlp(dimension, dimension), group, mode)
    inputs = {"points": clouds_of_gap(rng, 2, 12, gap=0.05, dimension=dimension, centre=0.0)}
    assert_equivariant(layer, inputs, samples=16, generator=rng)
    bare = equivariance_error(
        lambda points: layer.backbone(points), inputs, layer.signature, generator=rng
    )
    assert bare.max > 1e-2


@pytest.mark.parametrize("group", [GL(3), Lorentz(4), as_group("Scaling(3)")], ids=repr)
def test_other_groups_are_averaged_in_full(group, rng):
    dimension = group.dimension
    signature = Signature(group, {"points": Vector()}, {"v": Vector(), "s": Scalar()})
    network = mlp(dimension, dimension + 2)

    def backbone(points):
        values = network(points)
        return {"v": values[..., :dimension], "s": values[..., dimension:]}

    layer = FrameAverage(backbone, signature=signature)
    points = torch.randn(2, 9, dimension, dtype=torch.float64, generator=rng)
    report = equivariance_error(layer, {"points": points}, samples=16, generator=rng)
    assert report.max < 1e-10, report
    assert equivariance_error(backbone, {"points": points}, signature, generator=rng).max > 1e-2


def test_the_scale_of_similarities_is_a_scalar_input(rng):
    """Volumes grow with the cube of the scale: no network can know it but from the frames."""
    points = separated(rng, 2, 6).requires_grad_()
    layer = FrameAverage(mlp(), "Similarity(3)")
    frames = layer.frames(points)
    radius = (points - points.mean(-2, keepdim=True)).square().sum(-1).mean(-1).sqrt()
    torch.testing.assert_close(frames.scale, radius)
    torch.testing.assert_close(
        frames.frames @ frames.inverse, torch.eye(3).expand(2, 8, 3, 3).double()
    )
    torch.testing.assert_close(grad(frames.scale.sum(), points), grad(radius.sum(), points))
    torch.testing.assert_close(pca_frames(points).scale, torch.ones_like(radius))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["no point", "one point", "coincident"])
def test_points_without_extent_stay_where_they_are_under_similarities(name, mode):
    points = DEGENERATE[name].double().requires_grad_()
    layer = FrameAverage(lambda points: points + 1, "Similarity(3)", mode)
    output = layer(points)
    torch.testing.assert_close(output, points)
    assert layer.frames(points).gap == 0
    (first,) = grad(output.pow(3).sum(), points, create_graph=True)
    assert grad(first.square().sum(), points)[0].isfinite().all()


@pytest.mark.parametrize("kind", [Irreps("1x0o+1x1e+1x2o"), SphericalTensor(2, complete=True)])
@pytest.mark.parametrize("mode", MODES)
def test_irreps_outputs_of_every_mode_commute_with_isometries(mode, kind, rng):
    signature = Signature(E(3), {"points": Point()}, kind)
    shape = (9,) if isinstance(kind, Irreps) else (2, 9, 1)
    network = mlp(3, 9 if isinstance(kind, Irreps) else 18)
    layer = FrameAverage(
        lambda points: network(points).unflatten(-1, shape), mode=mode, signature=signature
    )
    inputs = {"points": separated(rng, 2, 6)}
    assert_equivariant(layer, inputs, samples=16, generator=rng)


def test_training_and_evaluation_have_modes_of_their_own(rng):
    points = separated(rng, 2, 6)
    layer = FrameAverage(mlp(), "SE(3)", "weighted", "full")
    assert isinstance(layer.frames(points), RaggedFrames)
    assert isinstance(layer.eval().frames(points), Frames)
    assert (layer.mode, layer.eval_mode) == ("weighted", "full")
    assert FrameAverage(mlp(), mode="minimal").eval_mode == "minimal"
    assert FrameAverage(mlp(), mode="stochastic").eval_mode == "full"
    stochastic = FrameAverage(mlp(), mode="stochastic", eval_mode="stochastic").eval()
    assert stochastic.frames(points).frames.shape == (2, 1, 3, 3)
    assert "mode='weighted', eval_mode='full'" in repr(layer)


def test_modes_agree_where_they_have_the_same_frames(rng):
    points = separated(rng, 2, 6)
    full = FrameAverage(mlp(), "E(3)")(points)
    torch.testing.assert_close(FrameAverage(mlp(), "E(3)", "weighted")(points), full)
    every = FrameAverage(mlp(), "E(3)", "stochastic", samples=8)(points)
    torch.testing.assert_close(every, full)
    # control: minimal frames are others
    assert (FrameAverage(mlp(), "E(3)", "minimal")(points) - full).abs().max() > 1e-3


def test_options_reach_the_function_that_takes_them(rng):
    points = separated(rng, 2, 6)
    layer = FrameAverage(mlp(), "E(3)", "minimal", "weighted", frame_options={"signs": "soft"})
    strict = FrameAverage(mlp(), "E(3)", "minimal", frame_options={"threshold": 1e-3})
    assert len(strict.frames(points).cloud) <= len(layer.frames(points).cloud)
    assert len(layer.eval().frames(points).cloud) < 16


@pytest.mark.parametrize("mode", MODES)
def test_forces_are_the_negative_gradient_of_the_energy(mode, rng):
    network = mlp(3, 1)
    signature = Signature(as_group("SE(3)"), {"points": Point()}, Scalar())

    def energy(points):
        return network(points).square().sum((-1, -2))

    def forces(layer, points):
        points = points.detach().requires_grad_()
        return -grad(layer(points).sum(), points)[0]

    points, step = separated(rng, 2, 5), 1e-5
    steps = step * torch.eye(15, dtype=torch.float64).reshape(15, 1, 5, 3)
    layer = FrameAverage(energy, mode=mode, signature=signature)
    slopes = [[(layer(points - s) - layer(points + s)).detach() / (2 * step)] for s in steps]
    expected = torch.cat([s[0][None] for s in slopes]).T.reshape(2, 5, 3)
    torch.testing.assert_close(forces(layer, points), expected, rtol=1e-6, atol=1e-7)
    # control: with detached frames the energy is the same and the forces are wrong
    detached = FrameAverage(energy, mode=mode, signature=signature, detach=True)
    torch.testing.assert_close(detached(points), layer(points))
    assert (forces(detached, points) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("mode", [*MODES, "stochastic"])
def test_parameters_have_the_same_gradient_with_detached_frames(mode, rng):
    points, network = separated(rng, 2, 6).requires_grad_(), mlp()
    gradients = []
    for detach in (False, True):
        generator = torch.Generator().manual_seed(1)
        layer = FrameAverage(network, mode=mode, detach=detach, generator=generator)
        gradients.append(grad(layer(points).square().sum(), list(network.parameters())))
    torch.testing.assert_close(*gradients)


def test_a_function_of_frames_may_know_nothing_of_detach(rng):
    points = separated(rng, 2, 6).requires_grad_()
    layer = FrameAverage(mlp(), mode=wrong_frames, detach=True)
    frames = layer.frames(points)
    assert not frames.frames.requires_grad
    assert frames.centroid.requires_grad


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", list(DEGENERATE))
def test_symmetric_clouds_have_outputs_and_two_finite_derivatives(name, mode):
    layer = FrameAverage(mlp(), "SE(3)", mode)
    points = DEGENERATE[name].double().requires_grad_()
    output = layer(points)
    assert output.shape == points.shape
    (first,) = grad(output.pow(3).sum(), points, create_graph=True)
    (second,) = grad(first.square().sum(), points)
    for result in (output, first, second):
        assert result.isfinite().all()


@pytest.mark.parametrize("name", ["cube", "octahedron", "tetrahedron"])
def test_weighted_averages_are_equivariant_at_symmetric_clouds(name, rng):
    """Where full averages are not, which is the control."""
    signature = Signature(
        as_group("SE(3)"), {"points": Point()}, {"p": Point(), "v": Vector(), "s": Pseudoscalar()}
    )
    network = mlp(3, 7)

    def backbone(points):
        point, vector, number = network(points).split([3, 3, 1], -1)
        return {"p": point, "v": vector, "s": number}

    inputs = {"points": DEGENERATE[name].double() + 0.1}
    weighted = FrameAverage(backbone, mode="weighted", signature=signature)
    assert_equivariant(weighted, inputs, samples=16, generator=rng)
    full = FrameAverage(backbone, signature=signature)
    assert equivariance_error(full, inputs, samples=16, generator=rng).max > 1e-2


@pytest.mark.parametrize("mode", [*MODES, "stochastic"])
def test_layers_are_copied_and_pickled(mode, rng):
    points = separated(rng, 2, 6)
    layer = FrameAverage(mlp(), mode=mode, generator=torch.Generator().manual_seed(3))
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    expected = layer(points)
    for other in copies:  # each with the state that the generator had
        torch.testing.assert_close(other(points), expected, rtol=0, atol=0)


def flattened(width_in, width_out):
    """A network that depends on the order of its five points."""
    network = mlp(5 * width_in, 5 * width_out)
    return lambda points: network(points.flatten(-2)).unflatten(-1, (5, width_out))


def test_permutations_alone_are_averaged_over_orders(rng):
    order = NodeOrder(-2)
    signature = Signature(Permutations(), {"x": Scalar() * order}, Scalar() * order)
    backbone = flattened(2, 1)
    layer = FrameAverage(lambda x: backbone(x), signature=signature)
    inputs = {"x": torch.randn(3, 5, 2, dtype=torch.float64, generator=rng)}
    assert_equivariant(layer, inputs, generator=rng)
    bare = equivariance_error(lambda x: backbone(x), inputs, signature, generator=rng)
    assert bare.max > 1e-2
    with pytest.raises(ValueError, match="permutation_frames returns the orders of the nodes"):
        layer.frames(inputs["x"])
    with pytest.raises(ValueError, match=r"Permutations\(\) has 'full' and 'stochastic' frames"):
        FrameAverage(backbone, mode="weighted", signature=signature)


@pytest.mark.parametrize("mode", ["full", "minimal"])
def test_orders_of_points_are_averaged_over_on_demand(mode, rng):
    order = NodeOrder(-2)
    group = as_group("SE(3) * Permutations()")
    signature = Signature(group, {"points": Point() * order}, Vector() * order)
    layer = FrameAverage(flattened(3, 3), mode=mode, signature=signature, orders=True)
    inputs = {"points": separated(rng, 2, 5)}
    assert_equivariant(layer, inputs, samples=16, generator=rng)
    # control: a backbone that depends on the order
    bare = FrameAverage(layer.backbone, mode=mode, signature=signature)
    assert equivariance_error(bare, inputs, samples=16, generator=rng).max > 1e-2


def test_draws_in_evaluation_are_not_called_exact():
    assert FrameAverage(mlp(), mode="weighted").signature.exact
    assert FrameAverage(mlp(), mode="stochastic").signature.exact
    assert not FrameAverage(mlp(), eval_mode="stochastic").signature.exact
    drawn = FrameAverage(mlp(), mode="weighted", frame_options={"samples": 4})
    assert not drawn.signature.exact
