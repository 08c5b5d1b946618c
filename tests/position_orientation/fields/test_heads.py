"""Read-outs of a network: the size of what a new one returns."""

import pytest
import torch

from eqlib.position_orientation import PositionOrientationNet


def mean_square(nets, *inputs):
    return torch.stack([net(*inputs).vectors.square().mean() for net in nets]).mean()


@pytest.mark.parametrize("space", ["R2", "R3"])
def test_new_networks_of_positions_make_vectors_of_the_size_of_offsets(space, rng):
    n = int(space[1])
    inputs = torch.randn(20, n, generator=rng), torch.randn(20, 1, generator=rng)
    offsets = (inputs[0][:, None] - inputs[0]).square().mean()
    torch.manual_seed(0)
    nets = [PositionOrientationNet(1, 0, 0, 1, space, layers=2) for _ in range(8)]
    assert 0.1 * offsets < mean_square(nets, *inputs) < 2 * offsets
    # control: weights of the usual size would make them longer
    for net in nets:
        with torch.no_grad():
            net.readout.offsets.message.weight.mul_(10)
    assert mean_square(nets, *inputs) > 10 * offsets
