"""GauntNet: its products against e3nn's, its degrees, its options, and that it learns."""

import pytest
import torch
from torch import nn

from eqlib.geometry import complete_graph
from eqlib.models.nbody import GauntNet
from eqlib.models.nbody.networks import gaunt_net
from eqlib.symmetry import equivariance_error
from tests.tolerances import EQUIVARIANCE


def build(dtype=torch.float64, **options) -> GauntNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GauntNet(**options).to(dtype).eval()


@pytest.fixture
def inputs(rng):
    points = torch.randn(15, 3, generator=rng, dtype=torch.float64) * 2
    batch = torch.arange(3).repeat_interleave(5)
    return {
        "points": points,
        "velocities": torch.randn(15, 3, generator=rng, dtype=torch.float64),
        "charges": torch.randint(2, (15,), generator=rng).double() * 2 - 1,
        "edge_index": complete_graph(batch, 3),
        "batch": batch,
        "num_graphs": 3,
    }


def single(inputs):
    return {
        name: value.float()
        if value is not None and name in ("points", "velocities", "charges")
        else value
        for name, value in inputs.items()
    }


@pytest.mark.parametrize("lmax", [1, 2], ids=lambda lmax: f"lmax={lmax}")
def test_products_of_e3nn_give_the_same_function_of_the_same_weights(lmax, inputs):
    ours = build(torch.float32, lmax=lmax, width=8)
    theirs = build(torch.float32, lmax=lmax, width=8, products="e3nn")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
    found, expected = ours(**single(inputs)), theirs(**single(inputs))
    assert torch.allclose(found, expected, atol=1e-5)
    found.square().sum().backward()
    expected.square().sum().backward()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert (one.grad - other.grad).abs().max() < 1e-5 * other.grad.abs().max() + 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("lmax", [2, 3], ids=lambda lmax: f"lmax={lmax}")
def test_networks_of_higher_degree_commute_with_motions_and_relabellings(lmax, dtype, inputs, rng):
    network = build(dtype, lmax=lmax, width=8, layers=2)
    inputs = single(inputs) if dtype == torch.float32 else inputs
    assert equivariance_error(network, inputs, generator=rng).max < EQUIVARIANCE[dtype]


def test_the_check_rejects_harmonics_in_a_wrong_order(inputs, rng, monkeypatch):
    network = build(width=8)
    right = gaunt_net.smooth_harmonics
    monkeypatch.setattr(
        gaunt_net, "smooth_harmonics", lambda vectors, lmax: right(vectors.roll(1, -1), lmax)
    )
    assert equivariance_error(network, inputs, generator=rng).max > 1e-2


def test_products_leave_the_size_of_features_about_as_it_is(rng):
    for lmax in (1, 2, 3, 4):
        vectors = torch.randn(4000, 3, generator=rng)
        features = torch.randn(4000, (lmax + 1) ** 2, 4, generator=rng)
        harmonics = gaunt_net.smooth_harmonics(vectors, lmax)[..., None]
        product = gaunt_net.product_by_gaunt(features, harmonics)
        assert 0.5 < product.square().mean() < 2, lmax


def test_a_new_network_depends_on_charges_velocities_and_every_particle(inputs):
    network = build(width=8)
    for name in ("points", "velocities", "charges"):
        inputs[name].requires_grad_()
    (network(**inputs)[0] ** 2).sum().backward()
    for name in ("points", "velocities", "charges"):
        gradient = inputs[name].grad.view(15, -1).abs().sum(1)
        assert (gradient[:5] > 1e-9).all(), name
        assert (gradient[5:] == 0).all(), name


@pytest.mark.parametrize("products", ["gaunt", "e3nn"])
def test_half_precision_under_autocast_is_near_single(products, inputs):
    network = build(torch.float32, width=8, products=products)
    inputs = single(inputs)
    expected = network(**inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(**inputs)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < EQUIVARIANCE[torch.bfloat16] * expected.abs().max()
    found.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_all_charges_reversed_change_nothing(inputs):
    network = build(width=8)
    reversed_charges = inputs | {"charges": -inputs["charges"]}
    assert torch.equal(network(**inputs), network(**reversed_charges))


def test_training_lowers_the_loss(inputs):
    network = build(torch.float32, width=8).train()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-2)
    batch = single(inputs)
    target = batch["points"] + 0.7 * batch["velocities"]
    losses = []
    for _ in range(40):
        loss = nn.functional.mse_loss(network(**batch), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"lmax": 0}, "lmax: got 0, expected at least 1"),
        ({"products": "fourier"}, "products: got 'fourier', expected one of"),
        ({"width": 0}, "expected an integer of at least 1"),
    ],
    ids=["lmax", "products", "width"],
)
@pytest.mark.unchecked
def test_a_wrong_option_is_named(option, message):
    with pytest.raises(ValueError, match=message):
        GauntNet(**option)
