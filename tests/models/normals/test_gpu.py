"""The networks for normals on a GPU."""

import pytest
import torch

from eqlib.models.normals import Normals
from eqlib.models.normals.data import random_rotations

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", list(Normals.models))
def test_networks_agree_with_the_cpu(name, rng):
    points = torch.randn(3, 40, 3, generator=rng, dtype=torch.float64)
    network = Normals.models[name]().double().eval()
    expected = network(points)
    found = network.cuda()(points.cuda())
    assert torch.allclose(found.cpu(), expected, atol=1e-9)


@pytest.mark.parametrize("name", list(Normals.models))
def test_networks_train(name, rng):
    points = torch.randn(2, 40, 3, generator=rng).cuda()
    turns = random_rotations(2, "so3", points.device)
    batch = {"points": points, "normals": points / points.norm(dim=-1, keepdim=True)}
    network = Normals.models[name]().cuda().train()
    Normals().losses(network, {**batch, "turn_so3": turns}).mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    assert turns.is_cuda
