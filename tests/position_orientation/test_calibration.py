"""Scales of weights, found from data."""

import copy

import pytest
import torch
from torch import nn

from eqlib.position_orientation.calibration import calibrate
from eqlib.position_orientation.convolution.block import InteractionLayer
from eqlib.position_orientation.convolution.conv import PositionOrientationConv
from eqlib.position_orientation.edges.geometry import make_geometry
from eqlib.position_orientation.options import KernelOptions
from tests.position_orientation.layers import kernels_of, normal, randomised

KERNEL = KernelOptions(hidden=6, basis=5, degree=2, implementation="naive")


class Stack(nn.Module):
    """Layers one after the other, with all that the convolutions are given and return."""

    def __init__(self, name="R3xS2", attention=0):
        super().__init__()
        self.kernels = kernels_of(name)
        self.paired = False if attention else None
        self.layers = nn.ModuleList(
            InteractionLayer(4, self.kernels, attention=attention) for _ in range(2)
        )
        self.double()

    def forward(self, features, points, mask=None):
        geometry = make_geometry(points, self.kernels.grid, mask=mask, paired=self.paired)
        self.spreads = []
        for layer in self.layers:
            y = layer.spatial(features, geometry, self.kernels)
            z = layer.fibre(y, self.kernels)
            self.spreads.append([part.std().item() for part in (features, y, z - layer.fibre.bias)])
            features = layer.block(features, z)
        return features


def inputs_of(rng, stack):
    nodes, n = 12, stack.kernels.grid.space.dimension
    features = 3 * normal(rng, nodes, stack.kernels.grid.size, 4)
    return {"features": features, "points": normal(rng, nodes, n)}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", ["R3", "R3xS2", "SE3"])
@pytest.mark.parametrize("attention", [0, 2], ids=["convolution", "attention"])
def test_convolutions_keep_the_spread(name, attention, training, rng):
    stack = randomised(Stack(name, attention), rng).train(training)
    inputs = inputs_of(rng, stack)
    names = set(stack.state_dict())
    stack(**inputs)
    # control: before, they do not
    assert all(abs(y / x - 1) > 1e-3 for x, y, _ in stack.spreads)
    calibrate(stack, **inputs)
    outputs = stack(**inputs)
    for spreads in stack.spreads:
        assert spreads == pytest.approx([spreads[0]] * 3, rel=1e-10)
    assert set(stack.state_dict()) == names
    assert stack.training == training
    assert all(parameter.requires_grad for parameter in stack.parameters())
    before = copy.deepcopy(stack.state_dict())
    torch.testing.assert_close(stack(**inputs), outputs)
    assert all(torch.equal(value, before[key]) for key, value in stack.state_dict().items())


def test_nodes_that_a_mask_excludes_do_not_count(rng):
    stack = Stack()
    inputs = {"features": normal(rng, 8, 8, 4), "points": normal(rng, 2, 4, 3)}
    mask = torch.tensor([[True, True, True, False], [True, True, False, True]])
    calibrate(stack, **inputs, mask=mask)
    weights = [layer.spatial.weight.clone() for layer in stack.layers]
    inputs["features"][~mask.flatten()] = 1e3
    inputs["points"][~mask] = 1e3
    other = Stack()
    other.load_state_dict(stack.state_dict())
    calibrate(other, **inputs, mask=mask)
    for layer, weight in zip(other.layers, weights, strict=True):
        torch.testing.assert_close(layer.spatial.weight, weight, rtol=1e-6, atol=0.0)


def test_a_layer_of_its_own_and_one_of_given_orientations(rng):
    inputs = {"points": normal(rng, 6, 3)}
    orientations = nn.functional.normalize(normal(rng, 6, 3), dim=-1)
    plain = PositionOrientationConv(3, 2, "R3xS2", 8, kernel=KERNEL).double()
    plain.calibrate(features=normal(rng, 6, 8, 3), **inputs)
    given = PositionOrientationConv(3, 2, "R3xS2", "given", kernel=KERNEL).double()
    features = normal(rng, 6, 3)
    before = given.spatial.weight.clone()
    given.calibrate(features=features, orientations=orientations, **inputs)
    assert not torch.equal(given.spatial.weight, before)


@pytest.mark.unchecked
def test_data_without_spread_are_refused_and_leave_the_weights(rng):
    stack = Stack()
    before = copy.deepcopy(stack.state_dict())
    inputs = inputs_of(rng, stack)
    for features in (torch.zeros_like(inputs["features"]), inputs["features"] * torch.nan):
        with pytest.raises(ValueError, match="standard deviation"):
            calibrate(stack, features=features, points=inputs["points"])
    with pytest.raises(ValueError, match="standard deviation"):
        calibrate(stack, features=inputs["features"][:0], points=inputs["points"][:0])
    assert all(torch.equal(value, before[key]) for key, value in stack.state_dict().items())
    with pytest.raises(ValueError, match="no convolutions"):
        calibrate(nn.Linear(2, 2), input=torch.zeros(3, 2))
