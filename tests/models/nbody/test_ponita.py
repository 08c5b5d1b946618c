"""PONITA and PNITA on particles: what kernels see, what is exact, and that both learn."""

import pytest
import torch

from eqlib.geometry import complete_graph
from eqlib.models.nbody import PNITA, PONITA
from eqlib.models.nbody.networks import ponita as module
from eqlib.models.nbody.networks.base import Particles
from eqlib.symmetry import equivariance_error
from tests.tolerances import EQUIVARIANCE

NETWORKS = {"ponita": PONITA, "pnita": PNITA}


def build(network=PONITA, dtype=torch.float64, **options):
    options = {"channels": 8, "layers": 2, "basis": 8, "hidden": 8} | options
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return network(**options).to(dtype).eval()


def particles(graphs: int, rng, dtype=torch.float64) -> dict[str, torch.Tensor]:
    nodes = 5 * graphs
    batch = torch.arange(graphs).repeat_interleave(5)
    points = torch.randn(nodes, 3, generator=rng, dtype=dtype)
    return {
        "points": points * torch.tensor([3, 2, 1], dtype=dtype),
        "velocities": torch.randn(nodes, 3, generator=rng, dtype=dtype),
        "charges": torch.randint(2, (nodes,), generator=rng).to(dtype) * 2 - 1,
        "edge_index": complete_graph(batch, graphs),
        "batch": batch,
        "num_graphs": graphs,
    }


@pytest.mark.parametrize("orientations", [6, 8, 12, 16, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_grid_that_turns_with_the_cloud_is_exact(orientations, dtype, rng):
    network = build(orientations=orientations, dtype=dtype)
    error = equivariance_error(network, particles(3, rng, dtype), generator=rng)
    assert error.max < EQUIVARIANCE[dtype]


@pytest.mark.parametrize("orientations", [6, 12, 20])
def test_a_grid_that_stays_is_not(orientations, rng):
    network = build(orientations=orientations, exact=False)
    errors = equivariance_error(network, particles(3, rng), generator=rng)
    # relative to the positions, of which the displacements of a new network are a small part
    assert errors.max > 1e-4


def test_a_finer_grid_that_stays_errs_less(rng):
    inputs = particles(8, rng)
    errors = [
        equivariance_error(build(orientations=size, exact=False), inputs, generator=rng).max
        for size in (6, 12, 48)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_edge_invariants_are_those_of_their_formula(rng):
    inputs = particles(1, rng)
    source, target = inputs["edge_index"]
    named = (inputs["points"], inputs["velocities"], inputs["charges"])
    found = module.edge_invariants(Particles(*named, source, target, inputs["batch"], 1))
    for edge in range(len(source)):
        j, i = int(source[edge]), int(target[edge])
        charges = named[2][i].item() * named[2][j].item()
        offset, motion = (named[k][i].numpy() - named[k][j].numpy() for k in (0, 1))
        logs = [
            0.5 * torch.log(torch.tensor(((offset + t * motion) ** 2).sum() + 0.05**2)).item()
            for t in (0, 0.5, 1)
        ]
        expected = [charges, *logs, *(charges * x for x in logs), (motion**2).sum() ** 0.5]
        assert found[edge].tolist() == pytest.approx(expected, abs=1e-12)


def test_edge_invariants_are_the_same_in_both_directions(rng):
    inputs = particles(1, rng)
    source, target = inputs["edge_index"]
    state = (inputs["points"], inputs["velocities"], inputs["charges"])
    there = module.edge_invariants(Particles(*state, source, target, inputs["batch"], 1))
    back = module.edge_invariants(Particles(*state, target, source, inputs["batch"], 1))
    # to the last bit: only then one edge stands for both, at half the cost
    assert torch.equal(there, back)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_new_network_depends_on_charges_velocities_and_every_particle(name, rng):
    inputs = particles(3, rng)
    for key in ("points", "velocities", "charges"):
        inputs[key].requires_grad_()
    (build(NETWORKS[name])(**inputs)[0] ** 2).sum().backward()
    for key in ("points", "velocities", "charges"):
        gradient = inputs[key].grad.view(15, -1).abs().sum(1)
        assert (gradient[:5] > 1e-12).all(), key
        assert (gradient[5:] == 0).all(), key


@pytest.mark.parametrize("name", list(NETWORKS))
def test_all_charges_reversed_change_nothing(name, rng):
    inputs, network = particles(2, rng), build(NETWORKS[name])
    assert torch.equal(network(**inputs), network(**inputs | {"charges": -inputs["charges"]}))


@pytest.mark.parametrize("name", list(NETWORKS))
def test_saved_weights_give_the_same_network(name, rng, tmp_path):
    network, inputs = build(NETWORKS[name]), particles(2, rng)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        other = build(NETWORKS[name])
        for parameter in other.parameters():
            parameter.data.normal_()
    assert not torch.allclose(other(**inputs), network(**inputs))
    other.load_state_dict(torch.load(tmp_path / "weights.pt"))
    assert torch.equal(other(**inputs), network(**inputs))


@pytest.mark.parametrize("name", list(NETWORKS))
def test_training_lowers_the_loss(name, rng):
    network = build(NETWORKS[name], torch.float32).train()
    inputs = particles(8, rng, torch.float32)
    target = inputs["points"] + 0.7 * inputs["velocities"]
    optimiser = torch.optim.AdamW(network.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = (network(**inputs) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("name", list(NETWORKS))
def test_clouds_far_away_and_far_apart_have_finite_values_and_gradients(name, rng):
    inputs = particles(2, rng, torch.float32)
    inputs["points"] = inputs["points"] * 1e6 + 1e6
    inputs["points"].requires_grad_()
    network = build(NETWORKS[name], torch.float32)
    moved = network(**inputs) - inputs["points"]
    assert moved.isfinite().all()
    moved.square().sum().backward()
    assert inputs["points"].grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"orientations": 13}, "13"),
        ({"channels": 0}, "channels"),
        ({"layers": 0}, "layers"),
        ({"length": 0.0}, "length"),
        ({"basis": 0}, "basis"),
    ],
    ids=["orientations", "channels", "layers", "length", "basis"],
)
@pytest.mark.unchecked
def test_a_wrong_option_is_named(option, message, rng):
    with pytest.raises(ValueError, match=message):
        build(**option)(**particles(1, rng))
