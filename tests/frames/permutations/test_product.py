"""Averages over motions of space and orders of points together."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from eqlib.frames import FrameAverage
from eqlib.symmetry import (
    SE,
    SO,
    BatchIndex,
    EdgeIndex,
    NodeOrder,
    Permutations,
    Point,
    Scalar,
    Signature,
    Vector,
    equivariance_error,
)
from tests.frames.clouds import mlp
from tests.tolerances import EQUIVARIANCE

CLOUD = Signature(
    SE(3) * Permutations(),
    inputs={"points": Point() * NodeOrder(-2), "charges": Scalar() * NodeOrder(-1)},
    outputs={"moved": Point() * NodeOrder(-2), "energy": Scalar(), "dipole": Vector()},
)


class FlatCloud(nn.Module):
    """A network on the flattened coordinates of a cloud."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        self.nodes = nodes
        self.network = mlp(4 * nodes, 3 * nodes + 5)

    def forward(self, points: Tensor, charges: Tensor) -> dict[str, Tensor]:
        found = self.network(torch.cat([points.flatten(-2), charges], -1))
        moved, energy, dipole = found.split([3 * self.nodes, 2, 3], -1)
        return {"moved": moved.unflatten(-1, (-1, 3)), "energy": energy, "dipole": dipole}


@pytest.mark.parametrize("mode", ["full", "minimal", "weighted"])
@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
def test_motions_and_orders_together(batch, mode, rng):
    points = torch.randn(*batch, 6, 3, generator=rng, dtype=torch.float64)
    points = points * torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    points[..., 1, :] = points[..., 4, :]  # points that coincide are averaged over their orders
    inputs = {
        "points": points,
        "charges": torch.randn(*batch, 6, generator=rng, dtype=torch.float64),
    }
    layer = FrameAverage(FlatCloud(6), signature=CLOUD, mode=mode, orders=True).double()
    assert equivariance_error(layer, inputs, generator=rng).max < EQUIVARIANCE[torch.float64]
    # controls: neither the frames of space alone nor the bare network
    alone = FrameAverage(layer.backbone, signature=CLOUD, mode=mode)
    assert equivariance_error(alone, inputs, generator=rng).max > 1e-2
    bare = equivariance_error(layer.backbone, inputs, signature=CLOUD, generator=rng)
    assert bare.max > 1e-2


@pytest.mark.parametrize("chunk", [None, 3])
def test_motions_and_orders_of_ragged_batches(chunk, rng):
    signature = Signature(
        SO(3) * Permutations(),
        inputs={
            "points": Point() * NodeOrder(-2),
            "edge_index": EdgeIndex(),
            "batch": BatchIndex(),
        },
        outputs={"node": Vector() * NodeOrder(-2), "graph": Scalar()},
    )
    network = mlp(4, 4).double()

    def backbone(
        points: Tensor, edge_index: Tensor, batch: Tensor, num_graphs: int
    ) -> dict[str, Tensor]:
        sizes = torch.bincount(batch, minlength=num_graphs)
        slot = torch.arange(len(batch)) - (sizes.cumsum(0) - sizes)[batch]
        found = network(torch.cat([points, slot[:, None]], -1))
        node = found.index_add(0, edge_index[1], found[edge_index[0]] * slot[edge_index[1], None])
        graph = node.new_zeros(num_graphs, 1).index_add(0, batch, node[:, 3:].tanh())
        return {"node": node[:, :3], "graph": graph}

    inputs = {
        "points": torch.randn(7, 3, generator=rng, dtype=torch.float64) * torch.arange(1, 4),
        "edge_index": torch.tensor([[0, 1, 2, 3, 4, 5, 6], [1, 2, 0, 4, 5, 3, 3]]),
        "batch": torch.tensor([0, 0, 0, 2, 2, 2, 2]),
        "num_graphs": 4,
    }
    layer = FrameAverage(
        backbone, signature=signature, orders=True, chunk=chunk, levels={"graph": "graph"}
    )
    assert equivariance_error(layer, inputs, generator=rng).max < EQUIVARIANCE[torch.float64]
    alone = FrameAverage(backbone, signature=signature, levels={"graph": "graph"})
    assert equivariance_error(alone, inputs, generator=rng).max > 1e-2


def test_drawn_frames_and_orders(rng):
    inputs = {
        "points": torch.randn(2, 5, 3, generator=rng, dtype=torch.float64),
        "charges": torch.zeros(2, 5, dtype=torch.float64),
    }
    network = FlatCloud(5).double()
    layer = FrameAverage(
        network, signature=CLOUD, mode="stochastic", orders=True, generator=rng
    ).train()
    values = [layer(**inputs)["energy"] for _ in range(40)]
    assert (
        len(Counter(float(value[0, 0].detach()) for value in values)) == 4
    )  # one of 4 frames each
    full = FrameAverage(network, signature=CLOUD, orders=True)(**inputs)["energy"]
    distinct = {round(value[0, 0].item(), 12): value[0] for value in values}
    torch.testing.assert_close(torch.stack([*distinct.values()]).mean(0), full[0])
