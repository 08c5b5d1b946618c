"""Convolution over orientations: values, derivatives, and the kernel that is kept."""

import copy
import pickle

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, vmap

from eqlib.position_orientation.convolution.fibre import OrientationConv, mix_orientations
from tests.position_orientation import oracle
from tests.position_orientation.layers import (
    CASES,
    ORIENTED,
    kernels_of,
    normal,
    randomised,
    rotation,
    turned,
)


def conv_of(name, rng, **options):
    kernels = randomised(kernels_of(name, **options), rng)
    return randomised(OrientationConv(3, kernels).double(), rng), kernels


@pytest.mark.parametrize("name", ORIENTED)
def test_agrees_with_the_sum_over_orientations(name, rng):
    conv, kernels = conv_of(name, rng)
    features = normal(rng, 4, kernels.grid.size, 3)
    expected = oracle.fibre(
        features,
        kernels.grid.orientations,
        kernels.grid.weights,
        kernels.fibre,
        conv.weight,
        conv.bias,
        CASES[name][3],
    )
    torch.testing.assert_close(conv(features, kernels), expected, atol=1e-12, rtol=1e-12)


def test_without_orientations_it_is_a_factor(rng):
    conv, kernels = conv_of("R3", rng)
    features = normal(rng, 4, 1, 3)
    expected = features * conv.weight[:, 0] + conv.bias
    torch.testing.assert_close(conv(features, kernels), expected)


@pytest.mark.parametrize("name", ["R2xS1", "R3xS2", "SE3"])
def test_invariants_of_the_fibre_are_those_of_the_grid_turned(name, rng):
    kernels = randomised(kernels_of(name), rng)
    orientations = kernels.grid.orientations
    n = kernels.grid.space.dimension
    expected = kernels.fibre.functions(orientations)
    moved = kernels.fibre.functions(turned(orientations, rotation(rng, n)))
    torch.testing.assert_close(moved, expected, atol=1e-12, rtol=1e-12)
    # control: another grid has others
    other = turned(orientations.flip(-1), rotation(rng, n))
    if name == "SE3":
        other = other * other.det()[:, None, None]
    assert (kernels.fibre.functions(other.roll(1, 0) + other) - expected).abs().max() > 1e-3


def test_mixing_has_the_value_and_derivatives_of_the_sum(rng):
    features, kernel = normal(rng, 3, 4, 2).requires_grad_(), normal(rng, 2, 4, 5).requires_grad_()
    bias = normal(rng, 2).requires_grad_()
    expected = torch.einsum("noc,cop->npc", features, kernel) + bias
    torch.testing.assert_close(mix_orientations(features, kernel, bias), expected)
    assert gradcheck(mix_orientations, (features, kernel, bias))
    assert gradgradcheck(mix_orientations, (features, kernel, bias))
    batched = vmap(mix_orientations, (0, None))(features[None].expand(2, -1, -1, -1), kernel)
    torch.testing.assert_close(batched[1], expected - bias)


@pytest.mark.parametrize(
    "features",
    [torch.ones(0, 8, 3), torch.ones(2, 3, 8).mT, torch.ones(1, 8, 1).expand(2, 8, 3)],
    ids=["empty", "strided", "expanded"],
)
def test_features_of_any_layout(features, rng):
    conv, kernels = conv_of("R3xS2", rng)
    features = features.double()
    expected = conv(features.clone(memory_format=torch.contiguous_format), kernels)
    torch.testing.assert_close(conv(features, kernels), expected)


def kernel_ids(conv, kernels, features, times=2):
    """Return the kernels that were used, one after the other."""
    used = []
    for _ in range(times):
        conv(features, kernels)
        used.append(conv._kept.kernel)
    return used


def change_by_optimizer(conv, kernels):
    conv.weight.grad = torch.ones_like(conv.weight)
    torch.optim.SGD([conv.weight], lr=0.1).step()


def change_in_place(conv, kernels):
    kernels.fibre.hidden.weight.mul_(1.5)


def load_state(conv, kernels):
    conv.load_state_dict({name: 2 * value for name, value in conv.state_dict().items()})


def assign_state(conv, kernels):
    state = {name: 2 * value for name, value in conv.state_dict().items()}
    conv.load_state_dict(state, assign=True)


def set_data(conv, kernels):
    conv.weight.data = 2 * conv.weight.data


def write_data(conv, kernels):
    conv.weight.data.mul_(2)
    conv.eval()


def swap_grid(conv, kernels):
    kernels.grid.weights.copy_(kernels.grid.weights.flip(0) * 1.5)


CHANGES = [
    change_by_optimizer,
    change_in_place,
    load_state,
    assign_state,
    set_data,
    write_data,
    swap_grid,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda function: function.__name__)
@torch.no_grad()
def test_the_kept_kernel_follows_every_change(change, rng):
    conv, kernels = conv_of("R3xS2", rng)
    conv.eval()
    features = normal(rng, 4, kernels.grid.size, 3)
    first, second = kernel_ids(conv, kernels, features)
    assert first is second
    before = conv(features, kernels)
    change(conv, kernels)
    after = conv(features, kernels)
    fresh = copy.deepcopy(conv).train()(features, kernels)
    assert torch.equal(after, fresh)
    assert (after - before).abs().max() > 1e-3


@torch.no_grad()
def test_the_kept_kernel_follows_dtypes_and_copies(rng):
    conv, kernels = conv_of("R3xS2", rng)
    conv.eval()
    features = normal(rng, 4, kernels.grid.size, 3)
    expected = conv(features, kernels)
    for twin in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert twin._kept.kernel is None
        assert torch.equal(twin(features, kernels), expected)
    assert conv.float()(features.float(), kernels.float()).dtype == torch.float32
    single = conv._kept.kernel
    assert single.dtype == torch.float32
    conv.double()(features, kernels.double())
    assert conv._kept.kernel.dtype == torch.float64


def test_no_kernel_is_kept_where_it_could_be_wrong(rng):
    conv, kernels = conv_of("R3xS2", rng)
    features = normal(rng, 4, kernels.grid.size, 3)
    with torch.no_grad():
        conv.train()(features, kernels)
    assert conv._kept.kernel is None
    conv.eval()(features, kernels).sum().backward()
    assert conv._kept.kernel is None
    assert conv.weight.grad.abs().min() > 0
    with torch.no_grad():
        expected = conv(features, kernels)
        weights = torch.stack([conv.weight, 2 * conv.weight])
        both = vmap(lambda w: functional_call(conv, {"weight": w}, (features, kernels)))(weights)
        torch.testing.assert_close(both[0], expected)
        torch.testing.assert_close(both[1] - conv.bias, 2 * (expected - conv.bias))
    with torch.inference_mode():
        fresh, others = conv_of("R3xS2", rng)
        fresh.eval()(features, others)
        assert fresh._kept.kernel is None


def test_the_kept_kernel_is_no_part_of_the_state(rng):
    conv, kernels = conv_of("R3xS2", rng)
    with torch.no_grad():
        conv.eval()(normal(rng, 4, kernels.grid.size, 3), kernels)
    assert conv._kept.kernel is not None
    assert set(conv.state_dict()) == {"weight", "bias"}


@pytest.mark.unchecked
def test_channels_have_to_be_a_positive_integer():
    with pytest.raises(ValueError, match="channels"):
        OrientationConv(0, kernels_of("R3xS2"))
    with pytest.raises(TypeError, match="channels"):
        OrientationConv(2.0, kernels_of("R3xS2"))
