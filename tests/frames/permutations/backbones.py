"""Networks on graphs that know nothing of permutations, with signatures and inputs."""

import torch
from torch import Tensor, nn

from eqlib.symmetry import BatchIndex, EdgeIndex, NodeOrder, Permutations, Scalar, Signature
from tests.frames.clouds import mlp
from tests.frames.permutations.graphs import random_graphs

NODES = 6
DENSE = Signature(
    Permutations(),
    inputs={"adjacency": NodeOrder(-2, -1), "x": Scalar() * NodeOrder(-2)},
    outputs={
        "graph": Scalar(),
        "node": Scalar() * NodeOrder(-2),
        "pair": Scalar() * NodeOrder(-3, -2),
    },
)
RAGGED = Signature(
    Permutations(),
    inputs={
        "x": Scalar() * NodeOrder(0),
        "edge_index": EdgeIndex(),
        "batch": BatchIndex(),
        "edge_weight": Scalar(),
    },
    outputs={"node": Scalar() * NodeOrder(0), "graph": Scalar(), "edge_out": Scalar()},
)


class Flat(nn.Module):
    """A network on the flattened matrix and features of a graph, with no symmetry at all."""

    def __init__(self, nodes: int = NODES) -> None:
        super().__init__()
        self.nodes = nodes
        self.network = mlp(nodes * nodes + 2 * nodes, 3 + 2 * nodes + nodes * nodes)

    def forward(self, adjacency: Tensor, x: Tensor) -> dict[str, Tensor]:
        found = self.network(torch.cat([adjacency.flatten(-2), x.flatten(-2)], -1))
        graph, node, pair = found.split([3, 2 * self.nodes, self.nodes**2], -1)
        return {
            "graph": graph,
            "node": node.unflatten(-1, (self.nodes, 2)),
            "pair": pair.unflatten(-1, (self.nodes, self.nodes, 1)),
        }


class Numbered(nn.Module):
    """Message passing with the number of each node in its graph as a feature."""

    def __init__(self) -> None:
        super().__init__()
        self.network = mlp(4, 3)

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor, edge_weight: Tensor, num_graphs: int
    ) -> dict[str, Tensor]:
        sizes = torch.bincount(batch, minlength=num_graphs)
        slot = torch.arange(len(batch)) - (sizes.cumsum(0) - sizes)[batch]
        source, target = edge_index
        sent = self.network(torch.cat([x, slot[:, None], slot[:, None].to(x).sin()], -1))
        message = edge_weight[:, None] * sent[source] * (1 + slot[target, None])
        node = sent.index_add(0, target, message).tanh()
        graph = node.new_zeros(num_graphs, 3).index_add(0, batch, node)
        return {"node": node, "graph": graph, "edge_out": message}


def dense_inputs(rng, *batch, dtype=torch.float64):
    return {
        "adjacency": random_graphs(rng, *batch, NODES).to(dtype),
        "x": torch.randn(*batch, NODES, 2, generator=rng, dtype=dtype),
    }


def ragged_inputs(dtype=torch.float64):
    """A triangle with a tail, nothing, a path, one node, a square."""
    edges = [(0, 1), (1, 2), (2, 0), (2, 3), (4, 5), (5, 6), (8, 9), (9, 10), (10, 11), (11, 8)]
    edge_index = torch.tensor([*edges, *((j, i) for i, j in edges)]).mT
    sizes = torch.tensor([4, 0, 3, 1, 4])
    return {
        "x": torch.ones(12, 2, dtype=dtype),
        "edge_index": edge_index,
        "batch": torch.arange(5).repeat_interleave(sizes),
        "edge_weight": torch.ones(20, dtype=dtype),
        "num_graphs": 5,
    }
