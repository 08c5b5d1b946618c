"""Point clouds with and without symmetry, and backbones that know nothing of either."""

import torch
from torch import Tensor, nn

from eqlib.geometry import complete_graph, segment_sum
from eqlib.symmetry import (
    BatchIndex,
    E,
    EdgeIndex,
    NodeOrder,
    Permutations,
    Point,
    Pseudoscalar,
    Pseudovector,
    Scalar,
    Signature,
    Vector,
)

GROUPS = ["SO(2)", "O(2)", "SE(2)", "E(2)", "SO(3)", "O(3)", "SE(3)", "E(3)"]

GRAPHS = Signature(
    E(3) * Permutations(),
    inputs={
        "points": Point() * NodeOrder(-2),
        "charges": Scalar() * NodeOrder(-1),
        "edge_index": EdgeIndex(),
        "batch": BatchIndex(),
    },
    outputs={
        "moved": Point() * NodeOrder(-2),
        "forces": Vector() * NodeOrder(-2),
        "energy": Scalar(),
        "dipole": Vector(),
        "spin": Pseudovector(),
        "chirality": Pseudoscalar(),
    },
)
LEVELS = dict.fromkeys(("dipole", "spin", "chirality"), "graph")

_CUBE = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0])])
_RING = torch.stack(
    [f(torch.arange(6) * torch.pi / 3) for f in (torch.cos, torch.sin, torch.zeros_like)], dim=-1
)
_LINE = torch.tensor([[1.0, 2.0, 3.0]]) * torch.tensor([[-1.0], [-0.5], [0.0], [2.0]])

DEGENERATE = {
    "no point": torch.zeros(0, 3),
    "one point": torch.tensor([[0.3, -2.0, 1.7]]),
    "two points": torch.tensor([[0.3, -2.0, 1.7], [0.1, 0.4, -0.9]]),
    "coincident": torch.tensor([[0.1, 0.2, 0.3]]).expand(7, 3),
    "at the origin": torch.zeros(4, 3),
    "collinear": _LINE,
    "planar": torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [-1.0, 1.0, 0.0], [3.0, 3.0, 0.0]]),
    "ring": _RING,
    "prism": torch.cat([_RING - torch.tensor([0, 0, 2.0]), _RING + torch.tensor([0, 0, 2.0])]),
    "cube": _CUBE,
    "octahedron": torch.cat([torch.eye(3), -torch.eye(3)]),
    "tetrahedron": torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]),
}


def separated(
    rng: torch.Generator,
    *shape: int,
    dtype: torch.dtype = torch.float64,
    dimension: int = 3,
) -> Tensor:
    """Random clouds (*shape, dimension) whose variances along the axes are 9, 3 and 1."""
    points = torch.randn(*shape, dimension, dtype=torch.float64, generator=rng)
    turn = torch.linalg.qr(torch.randn(dimension, dimension, dtype=torch.float64, generator=rng)).Q
    return (points * torch.tensor([3.0, 3.0**0.5, 1.0])[:dimension] @ turn + 0.5).to(dtype)


def graphs(
    rng: torch.Generator, sizes: list[int], dtype: torch.dtype = torch.float64
) -> dict[str, Tensor | int]:
    """A ragged batch of complete graphs."""
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return {
        "points": separated(rng, sum(sizes), dtype=dtype),
        "charges": torch.rand(sum(sizes), dtype=torch.float64, generator=rng).to(dtype),
        "edge_index": complete_graph(batch, len(sizes)),
        "batch": batch,
        "num_graphs": len(sizes),
    }


def mlp(width_in: int = 3, width_out: int = 3) -> nn.Sequential:
    """A network that acts on each point, far from linear, the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(width_in, 32), nn.Tanh(), nn.Linear(32, width_out))
    network[0].weight.data *= 2
    return network.double()


class MessagePassing(nn.Module):
    """One layer of messages without symmetry: node fields, and sums over each graph."""

    def __init__(self) -> None:
        super().__init__()
        self.message = mlp(7, 8)
        self.update = mlp(8 + 4, 11)

    def forward(
        self,
        points: Tensor,
        charges: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        num_graphs: int = 1,
    ) -> dict[str, Tensor]:
        source, target = edge_index
        batch = target.new_zeros(len(points)) if batch is None else batch
        nodes = torch.cat([points, charges[:, None]], dim=-1)
        messages = self.message(torch.cat([nodes[source], points[target]], dim=-1))
        features = segment_sum(messages, target, len(points))
        features = self.update(torch.cat([features, nodes], dim=-1))
        moved, force, spin, energy, chirality = features.split([3, 3, 3, 1, 1], dim=-1)
        return {
            "moved": moved,
            "forces": force,
            "energy": segment_sum(energy[:, 0], batch, num_graphs),
            "dipole": segment_sum(force * charges[:, None], batch, num_graphs),
            "spin": segment_sum(spin, batch, num_graphs),
            "chirality": segment_sum(chirality[:, 0], batch, num_graphs),
        }
