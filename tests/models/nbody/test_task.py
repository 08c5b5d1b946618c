"""The N-body task: losses, figures, the check of a trained network and its picture."""

import pytest
import torch

from eqlib.models.nbody import EGNN, GNN, DataOptions, Linear, NBody
from eqlib.models.nbody.networks.base import SIGNATURE
from eqlib.models.nbody.task import network_inputs
from eqlib.models.training import InMemory, to_device
from tests.tolerances import EQUIVARIANCE

CPU = torch.device("cpu")


@pytest.fixture
def split(rng) -> InMemory:
    systems = 20
    points = torch.randn(systems, 5, 3, generator=rng, dtype=torch.float64) * 2
    velocities = torch.randn(systems, 5, 3, generator=rng, dtype=torch.float64)
    return InMemory(
        points=points,
        velocities=velocities,
        charges=torch.randint(2, (systems, 5), generator=rng).double() * 2 - 1,
        targets=points + 0.5 * velocities,
        sensitivity=torch.logspace(-12, 0, systems, dtype=torch.float64),
    )


def everything(split: InMemory, dtype=torch.float32):
    return to_device(split[torch.arange(len(split))], CPU, dtype)


def test_losses_are_the_mean_squared_error_of_each_system(split):
    losses = NBody().losses(Linear(), everything(split))
    expected = (0.5 * everything(split)["velocities"]).square().mean((1, 2))
    assert torch.allclose(losses, expected, rtol=1e-5)


def test_summary_gives_mean_median_trimmed_and_reproducible():
    errors = torch.cat([torch.full((199,), 1.0), torch.tensor([100.0])]).double()
    sensitivity = torch.cat([torch.zeros(100), torch.ones(100)]).double()
    figures = NBody().summarise({"mse": errors, "sensitivity": sensitivity})
    expected = {"mse": 1.495, "mse_median": 1.0, "mse_trimmed": 1.0, "mse_reproducible": 1.0}
    assert figures == pytest.approx(expected)


def test_equivariance_passes_egnn_and_rejects_the_plain_network(split):
    errors = NBody().equivariance(EGNN().eval(), split)
    assert errors["float32"] < EQUIVARIANCE[torch.float32]
    assert errors["float64"] < EQUIVARIANCE[torch.float64]
    assert NBody().equivariance(GNN().eval(), split)["float64"] > 1e-2


def test_equivariance_leaves_the_network_in_its_dtype(split):
    network = EGNN().eval()
    NBody().equivariance(network, split)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_inputs_are_those_of_the_signature(split):
    inputs = network_inputs(everything(split))
    assert set(inputs) == {*SIGNATURE.inputs, "num_graphs"}
    assert inputs["edge_index"].shape == (2, 20 * 20)
    assert torch.equal(inputs["points"].view(20, 5, 3), everything(split)["points"])


def test_example_is_one_batch_of_at_most_100_systems(split):
    example = NBody().example(split)
    assert example["num_graphs"] == 20
    assert Linear().double()(**example).shape == (100, 3)


def test_picture_is_a_png(split, tmp_path):
    pytest.importorskip("matplotlib", reason="the picture needs the extra eqlib[plot]")
    path = tmp_path / "predictions.png"
    NBody().picture(Linear().eval(), split, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert 10_000 < path.stat().st_size < 200_000


def test_data_options_are_the_task_s(tmp_path):
    assert NBody().settings == DataOptions(train=3000)
