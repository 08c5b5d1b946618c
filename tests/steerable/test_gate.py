"""Gates: values, and how the second moment is kept."""

import math

import pytest
import torch
from e3nn.nn import Gate as GateOfE3NN
from scipy.integrate import quad
from torch.nn.functional import silu

from eqlib.steerable import Gate
from eqlib.steerable.gate import SIGMOID_GAIN, SILU_GAIN
from tests.steerable.layers import CHANNELS, degrees_of, features, layer

parities = pytest.mark.parametrize("complete", [False, True], ids=["natural", "complete"])


@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "normalized"])
@pytest.mark.parametrize("lmax", [0, 1, 3])
def test_scalars_activate_and_gate_the_other_degrees(lmax, normalize, rng):
    gate = layer("gate" if normalize else "gate-plain", rng, lmax)
    a, b = (SILU_GAIN, SIGMOID_GAIN) if normalize else (1, 1)
    x = features(rng, 2, 3, lmax=lmax)
    result = gate(x)
    torch.testing.assert_close(result[..., 0, :], a * silu(x[..., 0, :]))
    for degree, part in enumerate(degrees_of(lmax)[1:]):
        gates = gate.linear(x[..., 0, :]).unflatten(-1, (lmax, CHANNELS))[..., degree, :]
        expected = b * x[..., part, :] * gates.sigmoid().unsqueeze(-2)
        torch.testing.assert_close(result[..., part, :], expected)


@pytest.mark.parametrize("lmax", [0, 2])
def test_the_other_parity_has_gates_of_its_own(lmax, rng):
    gate = layer("gate", rng, lmax, complete=True)
    x = features(rng, 5, lmax=lmax, complete=True)
    result = gate(x)
    gates = gate.linear(x[:, 0, 0]).sigmoid().unflatten(-1, (2 * lmax + 1, CHANNELS))
    torch.testing.assert_close(result[:, 0, 0], SILU_GAIN * silu(x[:, 0, 0]))
    for degree, part in enumerate(degrees_of(lmax)):
        if degree > 0:
            natural = SIGMOID_GAIN * x[:, 0, part] * gates[:, degree - 1, None]
            torch.testing.assert_close(result[:, 0, part], natural)
        other = SIGMOID_GAIN * x[:, 1, part] * gates[:, lmax + degree, None]
        torch.testing.assert_close(result[:, 1, part], other)


def test_matches_e3nn(rng):
    gate = layer("gate", rng, 2)
    theirs = GateOfE3NN(
        "4x0e", [silu], "4x0e+4x0e", [torch.sigmoid, torch.sigmoid], "4x1o+4x2e"
    ).double()
    x = features(rng, 5)
    scalars, vectors, tensors = (x[:, part].mT.flatten(1) for part in degrees_of(2))
    inputs = torch.cat([scalars, gate.linear(scalars), vectors, tensors], -1)
    parts = theirs(inputs).split([4, 12, 20], -1)
    expected = torch.cat([part.unflatten(-1, (4, -1)).mT for part in parts], 1)
    torch.testing.assert_close(gate(x), expected, rtol=5e-3, atol=0)  # their gains are sampled


@pytest.mark.parametrize(
    ("function", "gain"),
    [
        (lambda z: 1 / (1 + math.exp(-z)), SIGMOID_GAIN),
        (lambda z: z / (1 + math.exp(-z)), SILU_GAIN),
    ],
    ids=["sigmoid", "silu"],
)
def test_gains_are_one_over_the_root_mean_square(function, gain):
    def density(z):
        return function(z) ** 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    square, _ = quad(density, -30, 30, epsabs=1e-14, epsrel=1e-14, limit=200)
    assert gain == pytest.approx(square**-0.5, rel=1e-12)


@parities
def test_the_second_moment_is_kept_at_the_start(complete, rng):
    x = features(rng, 300, complete=complete, channels=300, dtype=torch.float32)
    powers = []
    for normalize in (True, False):
        gate = Gate(2, 300, complete, normalize)
        gate.reset_parameters(rng)
        powers.append(gate(x).square().mean((0, -1)))
    torch.testing.assert_close(powers[0], torch.ones_like(powers[0]), rtol=0, atol=0.05)
    assert (powers[1] < 0.5).all()  # control: without the gains it is not


def test_only_gates_that_are_needed_are_learned():
    assert Gate(0, 3).linear is None
    assert Gate(2, 3).linear.weight.shape == (6, 3)
    assert Gate(0, 3, complete=True).linear.weight.shape == (3, 3)
    assert Gate(2, 3, complete=True).linear.weight.shape == (15, 3)


def test_weights_are_drawn_from_the_generator_given():
    gate, drawn = Gate(2, 4), []
    for seed in (0, 0, 1):
        gate.reset_parameters(torch.Generator().manual_seed(seed))
        drawn.append(gate.linear.weight.detach().clone())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@parities
@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_extreme_features_stay_finite(size, complete, rng):
    gate = layer("gate", rng, 2, complete, torch.float32)
    x = (size * features(rng, 5, complete=complete, dtype=torch.float32)).requires_grad_()
    result = gate(x)
    assert result.isfinite().all()
    (gradient,) = torch.autograd.grad(result.sum(), x)
    assert gradient.isfinite().all()
