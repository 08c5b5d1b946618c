"""Calls and scales: what a check leaves alone, and what it divides by."""

import functools
import math

import pytest
import torch
from torch import nn

import eqlib
from eqlib.symmetry import (
    SE,
    NodeOrder,
    Permutations,
    Point,
    Scalar,
    Signature,
    Vector,
    assert_equivariant,
    equivariance_error,
)
from tests.symmetry.maps import POINTS, Interaction, cloud, interaction, signature


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_values_that_are_not_finite_are_an_infinite_error(value, rng):
    def broken(points, charges):
        moved = interaction(points, charges)
        return moved._replace(energy=torch.where(points[0, 0] > 0, moved.energy, value))

    inputs = cloud(rng, 5)
    for sign in (1, -1):  # once the outputs of the inputs as given are finite, once they are not
        inputs["points"][0, 0] = sign
        report = equivariance_error(broken, inputs, signature())
        assert report.max == math.inf
        assert report.outputs["points"] < 1e-12
        assert not report.passed
        with pytest.raises(AssertionError, match="inf"):
            assert_equivariant(broken, inputs, signature())


def test_outputs_that_are_zero_are_compared_absolutely(rng):
    def noise(points, size):
        return size * (points[0, 0] - 2).clamp(min=0)

    inputs = {"points": torch.zeros(5, 3, dtype=torch.float64), "size": 1e-3}
    inputs["points"][1, 0] = 1.0
    report = equivariance_error(noise, inputs, Signature(SE(3), {"points": Point()}, Scalar()))
    assert 1e-5 < report.max < 2e-2
    inputs["size"] = 0.0
    report = equivariance_error(noise, inputs, Signature(SE(3), {"points": Point()}, Scalar()))
    assert report.max == 0


def test_distance_from_the_origin_does_not_hide_errors(rng):
    inputs = cloud(rng, 2, 5)
    inputs["points"] += torch.tensor([1e6, 0, 0], dtype=torch.float64)
    inputs["points"][1, :, 1] -= 1e6  # two clouds far from the origin and from each other

    def jumping(points, charges):
        moved = interaction(points, charges)
        return moved._replace(points=moved.points + 1e-3 * torch.sin(points))

    report = equivariance_error(jumping, inputs, signature())
    assert report.outputs["points"] > 1e-4
    assert equivariance_error(interaction, inputs, signature()).max < 1e-8


def test_maps_may_refuse_points_that_rounding_has_moved_into_one_place(rng):
    def apart(points):
        if (points[1:] == points[:1]).all(-1).any():
            raise ValueError("points: expected different points")
        return points

    signature = Signature(SE(3) * Permutations(), {"points": POINTS}, POINTS)
    points = torch.zeros(4, 3)
    points[:3] = torch.eye(3) / 64
    points[3] = 10 * torch.ones(3)
    report = equivariance_error(apart, {"points": points}, signature)
    assert report.passed
    assert report.far["output"][1e3] < 10
    assert report.far["output"][1e6] == math.inf
    with pytest.raises(ValueError, match="expected different points"):  # control: nearby
        equivariance_error(apart, {"points": torch.zeros(4, 3)}, signature)


def test_points_that_coincide_are_measured_by_the_input_cloud(rng):
    def centroids(points):
        return points.mean(-2, keepdim=True).expand_as(points)

    inputs = {"points": 1e3 * cloud(rng, 2, 5, dtype=torch.float32)["points"]}
    signature = Signature(SE(3) * Permutations(), {"points": POINTS}, POINTS)
    assert_equivariant(centroids, inputs, signature)
    wrong = equivariance_error(lambda points: 0.9 * centroids(points), inputs, signature)  # control
    assert wrong.max > 0.1


def test_integer_and_boolean_outputs_are_compared(rng):
    def closest(points):
        distances = torch.cdist(points, points) + 1e3 * torch.eye(5)
        return {"index": distances.argmin(-1), "near": distances.min(-1).values < 1}

    order = Scalar() * NodeOrder(-1)
    points = {"points": cloud(rng, 5)["points"]}
    group = SE(3) * Permutations()
    report = equivariance_error(
        closest, points, Signature(group, {"points": POINTS}, {"index": order, "near": order})
    )
    assert report.outputs["near"] == 0
    assert report.outputs["index"] > 0.1  # indices of nodes are relabelled, not just reordered


def test_state_of_the_module_and_of_torch_is_left_alone(rng):
    layer = nn.Linear(3, 3).double()

    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, points, charges):
            torch.rand(3)
            charges *= 2  # writes to its inputs
            return interaction(points + 0 * self.layer(points), charges)

    module, inputs = Noisy().train(), cloud(rng, 5)
    copies = {name: tensor.clone() for name, tensor in inputs.items()}
    state = torch.get_rng_state()
    assert equivariance_error(module, inputs, signature()).max < 1e-12
    assert torch.equal(torch.get_rng_state(), state)
    assert module.training
    assert layer.weight.grad is None
    assert layer.weight.dtype == torch.float64
    assert all(torch.equal(inputs[name], copies[name]) for name in inputs)


def test_maps_that_differentiate_inside_are_checked(rng):
    def forces(points, charges):
        points = points.requires_grad_()
        moved = interaction(points, charges)
        (gradient,) = torch.autograd.grad(moved.energy.sum(), points)
        return moved._replace(forces=gradient)

    inputs = cloud(rng, 5)
    inputs["points"].requires_grad_()
    assert_equivariant(forces, inputs, signature())
    assert inputs["points"].grad is None


def test_inputs_that_need_gradients_still_need_them(rng):
    def forces(points, charges):
        moved = interaction(points, charges)
        return moved._replace(forces=torch.autograd.grad(moved.energy.sum(), points)[0])

    inputs = cloud(rng, 5)
    inputs["points"].requires_grad_()
    assert_equivariant(forces, inputs, signature())


def test_maps_that_reuse_their_output_are_checked(rng):
    buffer = torch.empty(5, 3, dtype=torch.float64)

    def moved(points):
        return buffer.copy_(points)

    points = {"points": cloud(rng, 5)["points"]}
    assert_equivariant(moved, points, Signature(SE(3), {"points": Point()}, Point()))
    wrong = Signature(SE(3), {"points": Point()}, Scalar())  # control
    assert equivariance_error(moved, points, wrong).max > 0.1


def test_autocast_is_judged_by_the_least_precise_output(rng):
    weight = torch.eye(3)

    def half(points):
        with torch.autocast("cpu", torch.bfloat16):
            return (points - points.mean(-2, keepdim=True)) @ weight

    inputs = {"points": cloud(rng, 5, dtype=torch.float32)["points"]}
    report = equivariance_error(half, inputs, Signature(SE(3), {"points": Point()}, Vector()))
    assert report.dtype == torch.bfloat16
    assert 1e-4 < report.max < 3e-2


@pytest.mark.parametrize(
    "fn",
    [
        functools.partial(Interaction(), mask=None),
        Interaction().forward,
        lambda **inputs: interaction(**inputs),
        lambda points, charges: interaction(points, charges)._asdict(),
    ],
    ids=["partial", "method", "keywords", "dict"],
)
def test_any_callable_is_checked(fn, rng):
    assert_equivariant(fn, cloud(rng, 5), signature())


def test_modules_bring_their_signature(rng):
    inputs = {**cloud(rng, 5), "mask": None}
    assert eqlib.check(Interaction(), inputs).passed
    assert_equivariant(Interaction(), inputs)


@pytest.mark.gpu
def test_check_runs_on_a_gpu(rng):
    inputs = {name: tensor.cuda() for name, tensor in cloud(rng, 2, 5).items()}
    state = torch.cuda.get_rng_state()

    def noisy(points, charges):
        torch.rand(3, device="cuda")
        return interaction(points, charges)

    for generator in (rng, torch.Generator("cuda").manual_seed(0)):
        assert equivariance_error(noisy, inputs, signature(), generator=generator).max < 1e-12
    assert torch.equal(torch.cuda.get_rng_state(), state)


@pytest.mark.parametrize("nodes", [0, 1], ids=str)
def test_empty_and_single_point_clouds(nodes, rng):
    report = equivariance_error(interaction, cloud(rng, 2, nodes), signature())
    assert report.max < 1e-12
    assert "permutation" not in report.kinds
    assert report.far == {"points": {}, "forces": {}, "energy": {}}

    def fixed(points, charges):  # control: it pulls a point to the origin
        return interaction(0.5 * points, charges)

    assert (equivariance_error(fixed, cloud(rng, 2, nodes), signature()).max > 0.1) == (nodes == 1)


def test_coincident_points_pass(rng):
    inputs = cloud(rng, 5)
    inputs["points"] = inputs["points"][:1].expand(5, 3)
    assert equivariance_error(interaction, inputs, signature()).max < 1e-12
