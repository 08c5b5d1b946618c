"""The N-body networks on a GPU: the same values as on the CPU, eager and compiled."""

import pytest
import torch

from eqlib.models.nbody import EGNN, FAGNN, GNN, PNITA, PONITA, GauntNet, Integrator, Linear
from eqlib.models.nbody.task import network_inputs
from eqlib.models.training import to_device

pytestmark = [pytest.mark.gpu, pytest.mark.unchecked]
NETWORKS = [Linear, GNN, EGNN, FAGNN, GauntNet, PONITA, PNITA, Integrator]


@pytest.fixture
def inputs(rng):
    systems = {
        "points": torch.randn(10, 5, 3, generator=rng) * torch.tensor([3.0, 2.0, 1.0]),
        "velocities": torch.randn(10, 5, 3, generator=rng),
        "charges": torch.randint(2, (10, 5), generator=rng).float() * 2 - 1,
    }
    return network_inputs(systems)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_values_and_gradients_equal_those_of_the_cpu(network, inputs):
    torch.manual_seed(0)
    host = network().double().eval()
    device = network().double().eval().cuda()
    device.load_state_dict(host.state_dict())
    here = to_device(inputs, torch.device("cpu"), torch.float64)
    there = to_device(inputs, torch.device("cuda"), torch.float64)
    expected, found = host(**here), device(**there)
    assert torch.allclose(found.cpu(), expected, atol=1e-10)
    expected.square().sum().backward()
    found.square().sum().backward()
    for one, other in zip(host.parameters(), device.parameters(), strict=True):
        assert torch.allclose(other.grad.cpu(), one.grad, atol=1e-9)


@pytest.mark.parametrize(
    ("network", "mode"),
    [
        (EGNN, "reduce-overhead"),
        (GNN, "reduce-overhead"),
        (FAGNN, "default"),
        (GauntNet, "reduce-overhead"),
        (PONITA, "default"),
        (PNITA, "reduce-overhead"),
    ],
)
def test_compiled_networks_equal_eager_ones(network, mode, inputs):
    torch.manual_seed(0)
    model = network().eval().cuda()
    there = to_device(inputs, torch.device("cuda"), torch.float32)
    compiled = torch.compile(model, mode=mode)
    for _ in range(3):
        assert torch.allclose(compiled(**there), model(**there), atol=1e-4)
