"""Position-orientation networks and their convolution, against all kernels in memory."""

from collections.abc import Callable
from functools import partial
from math import inf

import torch
from torch import Tensor, nn

from benchmarks.materialising import MaterialisingNet
from benchmarks.registry import Benchmark, Inputs, Problem
from eqlib.geometry import complete_graph
from eqlib.kernels.position_orientation_conv import count_monomials
from eqlib.kernels.problems import MESSAGE_SIZES
from eqlib.position_orientation import EdgeOptions, KernelOptions, PositionOrientationNet
from eqlib.position_orientation.net import Prediction

ORIENTATIONS = 20
LAYERS = 4
BASIS = 64
SOFTENING = 0.1
SYSTEMS, PARTICLES = 100, 5  # of a batch of the N-body task
NBODY = f"{SYSTEMS} systems of {PARTICLES} particles"
MEDIUM = "1,000 points, 20,000 edges"
LARGE = "10,000 points, 200,000 edges"


class Step(nn.Module):
    """A network with random weights, the same for all; its scalars and vectors in one tensor."""

    network: type[PositionOrientationNet] = PositionOrientationNet
    channels = 64
    recompute = False
    compiled = False

    def __init__(self) -> None:
        super().__init__()
        self.net = self.network(
            scalars_in=2,
            vectors_in=1,
            scalars_out=1,
            vectors_out=1,
            orientations=ORIENTATIONS,
            exact=False,
            channels=self.channels,
            layers=LAYERS,
            group="E(3)",
            edge_scalars=1,
            kernel=KernelOptions(hidden=BASIS, basis=BASIS, softening=SOFTENING),
            edges=EdgeOptions(paired=True),
            recompute=self.recompute,
        )
        call: Callable[..., Prediction] = self.net.forward
        self.call = torch.compile(call, dynamic=False) if self.compiled else call

    def forward(
        self,
        points: Tensor,
        scalars: Tensor,
        vectors: Tensor,
        edge_index: Tensor,
        edge_scalars: Tensor,
        batch: Tensor,
        num_graphs: int,
    ) -> Tensor:
        """Outputs (nodes, 4)."""
        found = self.call(points, scalars, vectors, edge_index, edge_scalars, batch, num_graphs)
        return torch.cat([found.scalars, found.vectors.flatten(1)], -1)


def _contenders(channels: int) -> dict[str, type[nn.Module]]:
    """The networks by name; their weights are the same."""
    common = {"channels": channels}
    whole = {**common, "network": MaterialisingNet}
    return {
        "eqlib": type("Ours", (Step,), common),
        "eqlib, recompute": type("Recomputed", (Step,), {**common, "recompute": True}),
        "materialising": type("Materialising", (Step,), whole),
        "materialising, torch.compile": type("Compiled", (Step,), {**whole, "compiled": True}),
    }


def _systems(generator: torch.Generator) -> Inputs:
    """All pairs of particles are joined in each system."""
    batch = torch.arange(SYSTEMS).repeat_interleave(PARTICLES)
    return _cloud(complete_graph(batch, SYSTEMS), batch, SYSTEMS, generator)


def _ring(nodes: int, edges: int, generator: torch.Generator) -> Inputs:
    """Points that are joined to as many before as after them, so that edges go both ways."""
    reach = edges // nodes // 2
    target = torch.arange(nodes).repeat_interleave(2 * reach)
    step = torch.cat([torch.arange(-reach, 0), torch.arange(1, reach + 1)]).repeat(nodes)
    edge_index = torch.stack([(target + step) % nodes, target])
    return _cloud(edge_index, torch.zeros(nodes, dtype=torch.int64), 1, generator)


def _cloud(edge_index: Tensor, batch: Tensor, graphs: int, generator: torch.Generator) -> Inputs:
    """Points with a charge, a speed and a velocity, and products of charges on the edges."""
    nodes = len(batch)
    points, velocities = torch.randn(2, nodes, 3, generator=generator)
    charges = torch.randint(2, (nodes,), generator=generator) * 2.0 - 1
    source, target = edge_index
    return {
        "points": points,
        "scalars": torch.stack([charges, velocities.norm(dim=-1)], -1),
        "vectors": velocities[:, None],
        "edge_index": edge_index,
        "edge_scalars": (charges[source] * charges[target])[:, None],
        "batch": batch,
        "num_graphs": graphs,
    }


def _messages(
    nodes: int,
    edges: int,
    orientations: int,
    channels: int,
    hidden: int,
    basis: int,
    generator: torch.Generator,
) -> Inputs:
    """Edges of no order, each in one direction, and weights that keep the size of features."""
    source, target = torch.randint(nodes, (2, edges), generator=generator)
    target = target.sort().values
    by_source = source.argsort(stable=True)
    ends = torch.arange(nodes + 1)
    monomials = count_monomials("perpendicular", 1, 3) + 1

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    directions = nn.functional.normalize(normal(1, orientations, 1, 3), dim=-1)
    return {
        "x": normal(nodes, orientations, channels),
        "offsets": normal(edges, 3),
        "axes": directions,
        "scalars": normal(edges, 1),
        "w1": normal(hidden, monomials) / monomials**0.5,
        "b1": normal(hidden) / 4,
        "w2": normal(basis, hidden) / hidden**0.5,
        "b2": normal(basis) / 4,
        "w3": normal(channels, basis) / basis**0.5,
        "source": source,
        "target": target,
        "starts": torch.searchsorted(target, ends),
        "by_source": by_source,
        "source_starts": torch.searchsorted(source[by_source], ends),
    }


def _ours(implementation: str) -> Callable[..., Tensor]:
    def run(x: Tensor, source: Tensor, **others: Tensor) -> Tensor:
        real = [others[name] for name in ("offsets", "axes", "scalars", *_WEIGHTS)]
        edges = [others[name] for name in ("target", "starts", "by_source", "source_starts")]
        none = source[:0]
        how = ("perpendicular", 3, SOFTENING, inf, implementation)
        y: Tensor = torch.ops.eqlib.position_orientation_conv(
            x, *real, source, *edges, none, none, *how
        )
        return y

    return run


_WEIGHTS = ("w1", "b1", "w2", "b2", "w3")
_FOLDER = "tests/kernels/position_orientation_conv"
_GPU_ONLY = frozenset({"200,000 edges"})
_MESSAGES = {
    name: Problem(
        partial(_messages, *sizes), devices=("cuda",) if name in _GPU_ONLY else ("cpu", "cuda")
    )
    for name, sizes in MESSAGE_SIZES.items()
}

BENCHMARKS = (
    Benchmark(
        name="position_orientation_step",
        tests="tests/benchmarks/test_position_orientation.py",
        problems={NBODY: _systems, MEDIUM: partial(_ring, 1_000, 20_000)},
        implementations=_contenders(64),
        passes=("forward+backward",),
        tolerance=5e-5,
    ),
    Benchmark(
        name="position_orientation_large_step",
        tests="tests/benchmarks/test_position_orientation.py",
        problems={LARGE: Problem(partial(_ring, 10_000, 200_000), devices=("cuda",))},
        implementations=_contenders(128),
        passes=("forward+backward",),
        tolerance=2e-4,
    ),
    Benchmark(
        name="position_orientation_conv",
        tests=" ".join(f"{_FOLDER}/test_{name}.py" for name in ("op", "blocked", "compiled")),
        problems=_MESSAGES,
        implementations={
            "auto": _ours("auto"),
            "naive": _ours("naive"),
            "blocked": _ours("blocked"),
        },
        differentiate=("x", "offsets", *_WEIGHTS),
        tolerance=1e-4,
    ),
)
