"""Linear maps of spherical tensors: values, freedom, initialisation."""

import pytest
import torch
from e3nn import o3

from eqlib.steerable import EquivariantLinear
from eqlib.symmetry import SphericalTensor
from tests.steerable.layers import degrees_of, features, layer

parities = pytest.mark.parametrize("complete", [False, True], ids=["natural", "complete"])


def by_degree(x, weight, bias, lmax_out):
    """One matrix per degree, written out: x (..., S, i), weight (degrees, o, i)."""
    blocks = []
    for degree, part in enumerate(degrees_of(lmax_out)):
        if degree < len(weight):
            blocks.append(torch.einsum("oi,...mi->...mo", weight[degree], x[..., part, :]))
        else:
            blocks.append(x.new_zeros(*x.shape[:-2], 2 * degree + 1, len(weight[0])))
    blocks[0] = blocks[0] + bias
    return torch.cat(blocks, -2)


@pytest.mark.parametrize(("lmax", "lmax_out"), [(0, 0), (3, 3), (4, 2), (1, 3), (0, 2), (2, 0)])
@pytest.mark.parametrize(("channels_in", "channels_out"), [(1, 4), (5, 5), (7, 3)])
@parities
def test_is_one_matrix_per_degree(lmax, lmax_out, channels_in, channels_out, complete, rng):
    module = EquivariantLinear(
        lmax, channels_in, channels_out, complete=complete, lmax_out=lmax_out
    ).double()
    torch.nn.init.normal_(module.bias, generator=rng)
    x = features(rng, 2, 3, lmax=lmax, complete=complete, channels=channels_in)
    assert module.signature.inputs["features"] == SphericalTensor(lmax, complete)
    assert module.signature.outputs == SphericalTensor(lmax_out, complete)
    if complete:
        natural = by_degree(x[..., 0, :, :], module.weight[0], module.bias, lmax_out)
        other = by_degree(x[..., 1, :, :], module.weight[1], 0.0, lmax_out)
        expected = torch.stack([natural, other], -3)
    else:
        expected = by_degree(x, module.weight, module.bias, lmax_out)
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("degree", [0, 1, 2, 5])
def test_matches_e3nn(degree, rng):
    # e3nn divides by the root of the channels in its forward pass, ours when the weights are drawn
    module = layer("linear", rng, 5).double()
    theirs = o3.Linear(f"4x{degree}e", f"5x{degree}e").double()
    with torch.no_grad():
        theirs.weight.copy_(2 * module.weight[degree].mT.flatten())
    x = features(rng, 3, lmax=5)
    part = degrees_of(5)[degree]
    expected = theirs(x[:, part].mT.flatten(1)).unflatten(1, (5, -1)).mT
    result = module(x)[:, part] - (module.bias if degree == 0 else 0)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-13)


@parities
def test_without_bias_the_map_is_linear(complete, rng):
    module = EquivariantLinear(2, 4, 5, bias=False, complete=complete).double()
    assert [name for name, _ in module.named_parameters()] == ["weight"]
    x, y = features(rng, 2, 3, complete=complete)
    torch.testing.assert_close(module(2 * x - y), 2 * module(x) - module(y))
    assert (module(0 * x) == 0).all()


def test_the_bias_moves_true_scalars_only(rng):
    module = layer("linear", rng, 2, complete=True)
    result = module(features(rng, 3, complete=True) * 0)
    assert torch.equal(result[:, 0, 0], module.bias.detach().expand(3, -1))
    assert (result[:, 0, 1:] == 0).all()
    assert (result[:, 1] == 0).all()


@parities
def test_variance_is_kept_at_the_start(complete, rng):
    module = EquivariantLinear(2, 400, 500, complete=complete)
    module.reset_parameters(rng)
    x = features(rng, 50, complete=complete, channels=400, dtype=torch.float32)
    assert (module.bias == 0).all()
    powers = module(x).square().mean((0, -1))
    torch.testing.assert_close(powers, torch.ones_like(powers), rtol=0, atol=0.05)


def test_weights_are_drawn_from_the_generator_given():
    module = EquivariantLinear(2, 4, 5)
    drawn = []
    for seed in (0, 0, 1):
        module.reset_parameters(torch.Generator().manual_seed(seed))
        drawn.append(module.weight.detach().clone())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    ("complete", "parameters"), [(False, 3 * 20 + 5), (True, 6 * 20 + 5)], ids=str
)
def test_there_is_one_matrix_per_degree_and_parity(complete, parameters):
    module = EquivariantLinear(2, 4, 5, complete=complete)
    assert sum(p.numel() for p in module.parameters()) == parameters
    assert module.weight.shape[-2:] == (5, 4)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((2, 0, 4), ValueError, "channels_in: expected an integer of at least 1, got 0"),
        ((2, 4, -1), ValueError, "channels_out: expected an integer of at least 1, got -1"),
        ((2, 4, 4.0), TypeError, "channels_out: expected an integer, got 4.0"),
        ((2, 4, 4, True, False, -1), ValueError, "lmax_out: expected an integer of at least 0"),
    ],
    ids=str,
)
def test_sizes_that_are_none_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        EquivariantLinear(*arguments)
