"""Frame averaging makes any backbone equivariant, in every layout, for every kind of output."""

import pytest
import torch
from torch.autograd import grad

from eqlib.frames import FrameAverage, pca_frames
from eqlib.subgraph import PlanIndex
from eqlib.symmetry import (
    E,
    Irreps,
    Point,
    Scalar,
    Signature,
    Vector,
    as_group,
    assert_equivariant,
    equivariance_error,
)
from tests.frames.averages import Fields, Pointwise, fields_signature
from tests.frames.clouds import (
    DEGENERATE,
    GROUPS,
    mlp,
    separated,
)
from tests.tolerances import EQUIVARIANCE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
def test_every_kind_of_output_commutes_with_the_group(batch, group, dtype, rng):
    signature = fields_signature(group)
    layer = FrameAverage(Pointwise(int(group[-2])), signature=signature).to(dtype)
    shape = (*batch, 7, int(group[-2]))
    inputs = {
        "points": separated(rng, *shape[:-1], dtype=dtype, dimension=shape[-1]),
        "velocities": torch.randn(shape, dtype=torch.float64, generator=rng).to(dtype),
    }
    assert layer.frames(inputs["points"]).gap.min() > 2e-2
    outputs = layer(**inputs)
    assert isinstance(outputs, Fields)
    assert all(output.dtype == dtype for output in outputs)
    report = equivariance_error(layer, inputs, samples=16, generator=rng)
    assert report.max < EQUIVARIANCE[dtype], report
    # control: the same check must reject each output of the bare backbone
    bare = equivariance_error(layer.backbone, inputs, signature, generator=rng)
    assert min(bare.outputs.values()) > 1e-2, bare


@pytest.mark.parametrize("group", ["O(3)", "E(3)"])
def test_irreps_outputs_commute_with_the_group(group, rng):
    irreps = Irreps("2x0e+1x0o+1x1o+1x1e+1x2e+1x2o")
    signature = Signature(as_group(group), {"points": Point()}, irreps)
    network = mlp(3, irreps.size(signature.group))
    inputs = {"points": separated(rng, 2, 6)}
    assert_equivariant(FrameAverage(network, signature=signature), inputs, generator=rng)
    bare = equivariance_error(lambda points: network(points), inputs, signature, generator=rng)
    assert bare.max > 1e-2


@pytest.mark.parametrize(
    ("group", "distinguishes"), [("SE(3)", True), ("E(3)", False), ("SO(3)", True), ("O(3)", False)]
)
def test_mirror_images_differ_under_rotations_only(group, distinguishes, rng):
    signature = Signature(as_group(group), {"points": Point()}, Scalar())
    layer = FrameAverage(mlp(3, 1), signature=signature)
    points = separated(rng, 6)
    mirrored = points * torch.tensor([1.0, 1.0, -1.0])
    difference = (layer(points) - layer(mirrored)).abs().max()
    assert difference > 1e-3 if distinguishes else difference < 1e-12


def test_points_move_with_a_translation_and_vectors_do_not(rng):
    layer = FrameAverage(Pointwise(3), signature=fields_signature("SE(3)"))
    points, velocities = separated(rng, 6), separated(rng, 6)
    shift = 100 * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    here, there = layer(points, velocities), layer(points + shift, velocities)
    torch.testing.assert_close(there.point, here.point + shift)
    torch.testing.assert_close(there.vector, here.vector)
    torch.testing.assert_close(there.scalar, here.scalar)


def test_forces_are_the_negative_gradient_of_the_energy(rng):
    signature = Signature(E(3), {"points": Point()}, Scalar())
    network = mlp(3, 1)

    def energy(points):
        return network(points).square().sum((-1, -2))

    def forces(layer, points):
        points = points.detach().requires_grad_()
        return -grad(layer(points).sum(), points)[0]

    points, step = separated(rng, 2, 5), 1e-5
    layer = FrameAverage(energy, signature=signature)
    steps = step * torch.eye(15, dtype=torch.float64).reshape(15, 1, 5, 3)
    with torch.no_grad():
        slopes = (layer(points - steps) - layer(points + steps)) / (2 * step)
    expected = slopes.T.reshape(2, 5, 3)
    torch.testing.assert_close(forces(layer, points), expected, rtol=1e-6, atol=1e-8)
    # control: with detached frames the energy is the same and the forces are wrong
    detached = FrameAverage(energy, signature=signature, detach=True)
    torch.testing.assert_close(detached(points), layer(points))
    assert (forces(detached, points) - expected).abs().max() > 1e-2


def test_forces_rotate_with_the_points(rng):
    signature = Signature(as_group("SE(3)"), {"points": Point()}, Scalar())
    layer = FrameAverage(mlp(3, 1), signature=signature)

    def forces(points):
        points = points.detach().requires_grad_()
        return -grad(layer(points).sum(), points)[0]

    claim = Signature(as_group("SE(3)"), {"points": Point()}, Vector())
    assert_equivariant(forces, {"points": separated(rng, 2, 6)}, claim, tolerance=1e-11)


@pytest.mark.parametrize("group", ["SO(3)", "E(3)"])
@pytest.mark.parametrize("name", list(DEGENERATE))
def test_symmetric_clouds_have_outputs_and_two_finite_derivatives(name, group):
    layer = FrameAverage(mlp(), group)
    points = DEGENERATE[name].double().requires_grad_()
    output = layer(points)
    assert output.shape == points.shape
    (first,) = grad(output.pow(3).sum(), points, create_graph=True)
    (second,) = grad(first.square().sum(), points)
    for result in (output, first, second):
        assert result.isfinite().all()


def test_signs_by_a_sum_are_rejected(rng):
    """Control: one frame with fixed signs is cheap, and no frame."""

    def one_frame(points):
        frames = pca_frames(points, "O(3)").axes
        frames = frames * frames.sum(-2, keepdim=True).sign()
        return network(points @ frames) @ frames.mT

    network = mlp()
    inputs = {"points": separated(rng, 16, 6)}
    signature = Signature(as_group("SO(3)"), {"points": Point()}, Point())
    assert equivariance_error(one_frame, inputs, signature, generator=rng).max > 1e-2
    assert_equivariant(FrameAverage(network, "SO(3)"), inputs, generator=rng)


def test_autocast_rounds_the_backbone_only(rng):
    points = separated(rng, 2, 6, dtype=torch.float32)
    identity = FrameAverage(lambda points: points)
    layer = FrameAverage(mlp().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert identity(points).dtype == layer(points).dtype == torch.float32
        torch.testing.assert_close(identity(points), points, rtol=1e-6, atol=1e-6)
        report = equivariance_error(layer, {"points": points}, generator=rng)
        rounded = layer(points)
    assert report.max < EQUIVARIANCE[torch.bfloat16]
    # control: the backbone itself was rounded
    assert (rounded - layer(points)).abs().max() > 1e-3


def test_bfloat16_networks_return_bfloat16(rng):
    layer = FrameAverage(mlp().bfloat16())
    points = separated(rng, 2, 6, dtype=torch.bfloat16)
    assert layer(points).dtype == torch.bfloat16
    report = equivariance_error(layer, {"points": points}, generator=rng)
    assert report.max < EQUIVARIANCE[torch.bfloat16]


def test_strides_do_not_matter(rng):
    layer, points = FrameAverage(mlp()), separated(rng, 2, 6)
    torch.testing.assert_close(layer(points.mT.contiguous().mT), layer(points))


def test_parameters_are_those_of_the_backbone():
    layer = FrameAverage(mlp(), "SE(3)")
    assert set(layer.state_dict()) == {f"backbone.{name}" for name in mlp().state_dict()}
    assert "group=SE(3)" in repr(layer)


POINTS = Signature(E(3), {"points": Point()}, Point())
SCALARS = Signature(E(3), {"points": Scalar()}, Scalar())
PLANS = Signature(E(3), {"points": Point(), "plan": PlanIndex()}, Point())


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "GL(3)", "mode": "weighted"}, r"GL\(3\) has no 'weighted' frames; it has full"),
        ({"mode": "fast"}, "mode: expected full, stochastic, minimal, weighted or a function"),
        ({"eval_mode": "fast"}, "or a function that makes frames, got 'fast'"),
        ({"samples": 0}, "samples: expected at least one frame per cloud, got 0"),
        ({"frame_options": {"tau": 1}}, "no function that makes the frames takes 'tau'"),
        ({"orders": True}, r"orders: expected a group with permutations.*, got SE\(3\)"),
        ({"group": "SE(3)", "signature": POINTS}, r"SE\(3\) is not that of the signature, E\(3\)"),
        ({"signature": SCALARS}, "frames need an input that is a Point or a Vector"),
        ({"signature": PLANS}, r"'plan' is PlanIndex\(\), which frames cannot move; let the"),
        ({"cloud": "pos"}, "cloud: 'pos' is none of the inputs points"),
        ({"levels": {"forces": "node"}}, "for some of points, output, got 'forces': 'node'"),
        ({"levels": {"output": "atom"}}, "expected node, edge, graph for some of points"),
        ({"chunk": 0}, "chunk: expected at least one frame per call, got 0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FrameAverage(mlp(), **options)


@pytest.mark.unchecked
def test_wrong_inputs_are_refused(rng):
    layer, points = FrameAverage(mlp()), separated(rng, 2, 6)
    with pytest.raises(
        TypeError, match="points: expected the tensor whose frames are taken, got N"
    ):
        layer()
    with pytest.raises(TypeError, match=r"points: Point\(\) needs floating-point numbers"):
        layer(points.long())
    with pytest.raises(ValueError, match=r"points: expected shape \(..., 3\)"):
        layer(points[..., :2])
    with pytest.raises(TypeError, match="got 2 by position and none by name"):
        layer(points, points)
    with pytest.raises(ValueError, match="velocities: the signature does not say how"):
        layer(points, velocities=points)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (lambda points: points[:1], r"expected the batch of 8 clouds .* got shape \(1, 6, 3\)"),
        (lambda points: {"points": points}, "expected one tensor, .* got dict"),
    ],
    ids=["rows", "dict"],
)
def test_wrong_outputs_are_refused(backbone, message, rng):
    with pytest.raises((TypeError, ValueError), match=message):
        FrameAverage(backbone)(separated(rng, 2, 6))
