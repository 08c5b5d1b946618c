"""What frame averaging costs, counted in passes of the network that it wraps."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.registry import Benchmark, Inputs
from eqlib.frames import FrameAverage, minimal_frames, weighted_frames
from eqlib.geometry import gather_nodes, knn_graph, segment_sum
from eqlib.symmetry import SE, EdgeIndex, Point, Scalar, Signature, Vector

SIZES = {
    f"{clouds} clouds of {points:,} points": (clouds, points)
    for clouds, points in ((32, 1024), (256, 64))
}
NEIGHBOURS = 8
FULL = 4  # frames of SE(3)
LISTED = {"minimal": minimal_frames, "weighted": weighted_frames}
ONE_CALL = "full, one call"
COPIES = f"no frames, {FULL} copies"
CALLS = f"no frames, {FULL} calls"


class PointNet(nn.Module):
    """Scores of a cloud: features of each point, and their maximum."""

    signature = Signature(SE(3), {"points": Point()}, Scalar())

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 256))
        )
        self.scores = nn.Sequential(nn.ReLU(), nn.Linear(256, 40))

    def forward(self, points: Tensor) -> Tensor:
        """Scores (clouds, 40) of clouds (clouds, points, 3)."""
        scores: Tensor = self.scores(self.layers(points).amax(-2))
        return scores


class MessagePassing(nn.Module):
    """A vector at each node: two layers of messages along the edges."""

    signature = Signature(SE(3), {"points": Point(), "edge_index": EdgeIndex()}, Vector())

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 32)
        self.messages = nn.ModuleList(
            nn.Sequential(nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 32)) for _ in range(2)
        )
        self.vectors = nn.Linear(32, 3)

    def forward(self, points: Tensor, edge_index: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
        """Vectors (nodes, 3)."""
        source, target = edge_index
        features = self.embed(points)
        for message in self.messages:
            ends = [gather_nodes(features, source), gather_nodes(features, target)]
            summed = segment_sum(message(torch.cat(ends, -1)), target, len(points))
            features = features + torch.tanh(summed)
        vectors: Tensor = self.vectors(features)
        return vectors


class Averaged(FrameAverage):
    """One of these networks in a mode of frame averaging."""

    backbone_class: type[PointNet | MessagePassing]
    chosen: str
    frames_per_call: int | None

    def __init__(self) -> None:
        network = self.backbone_class()
        super().__init__(
            network,
            mode=self.chosen,
            eval_mode=self.chosen,
            signature=network.signature,
            chunk=self.frames_per_call,
        )


class Copies(nn.Module):
    """One of these networks on a batch in which each cloud stands as often as it has frames."""

    backbone_class: type[PointNet | MessagePassing]

    def __init__(self) -> None:
        super().__init__()
        self.backbone = self.backbone_class()

    def forward(self, points: Tensor, **graphs: Any) -> Tensor:
        """Outputs of all copies; those of a graph are numbered on."""
        copies: Inputs = {"points": torch.cat(FULL * [points])}
        if graphs:
            count, nodes = graphs["num_graphs"], len(points)
            edges, batch = (graphs[name] for name in ("edge_index", "batch"))
            copies["edge_index"] = torch.cat([edges + i * nodes for i in range(FULL)], 1)
            copies["batch"] = torch.cat([batch + i * count for i in range(FULL)])
            copies["num_graphs"] = FULL * count
        outputs: Tensor = self.backbone(**copies)
        return outputs


class Calls(nn.Module):
    """One of these networks, called as often as a cloud has frames: the mean of its outputs."""

    backbone_class: type[PointNet | MessagePassing]

    def __init__(self) -> None:
        super().__init__()
        self.backbone = self.backbone_class()

    def forward(self, **inputs: Any) -> Tensor:
        """The mean of equal outputs, whose activations all wait for the backward pass."""
        return torch.stack([self.backbone(**inputs) for _ in range(FULL)]).mean(0)


def _averaged(
    backbone: type[PointNet | MessagePassing], mode: str, chunk: int | None = None
) -> type[Averaged]:
    options = {"backbone_class": backbone, "chosen": mode, "frames_per_call": chunk}
    return type(mode, (Averaged,), options)


def _contenders(backbone: type[PointNet | MessagePassing]) -> dict[str, type[nn.Module]]:
    return {
        backbone.__name__: backbone,
        COPIES: type("Copied", (Copies,), {"backbone_class": backbone}),
        CALLS: type("Called", (Calls,), {"backbone_class": backbone}),
        **{mode: _averaged(backbone, mode) for mode in ("full", "stochastic", *LISTED)},
        ONE_CALL: _averaged(backbone, "full", chunk=FULL),
    }


def _clouds(clouds: int, points: int, generator: torch.Generator) -> Inputs:
    """Clouds of variances 9, 4 and 1, whose gaps are open, skewed by different amounts."""
    found = torch.randn(clouds, points, 3, generator=generator)
    skewness = 0.1 * torch.rand(clouds, 1, 3, generator=generator)
    found = found + skewness * (found.square() - 1)
    return {"points": found * torch.tensor([3.0, 2.0, 1.0])}


def _graphs(clouds: int, points: int, generator: torch.Generator) -> Inputs:
    nodes = _clouds(clouds, points, generator)["points"].flatten(0, 1)
    batch = torch.arange(clouds).repeat_interleave(points)
    edge_index = knn_graph(nodes, NEIGHBOURS, batch, clouds).edge_index
    return {"points": nodes, "edge_index": edge_index, "batch": batch, "num_graphs": clouds}


def _calls(inputs: Inputs, name: str) -> float:
    """Passes of the network over the batch: the mean number of frames of a cloud."""
    if name in LISTED:
        layout = {key: inputs[key] for key in ("batch", "num_graphs") if key in inputs}
        frames = LISTED[name](inputs["points"], "SE(3)", **layout)
        return len(frames.cloud) / frames.gap.numel()
    return FULL if name in ("full", ONE_CALL, COPIES, CALLS) else 1


BENCHMARKS = tuple(
    Benchmark(
        name=name,
        tests="tests/frames/test_average.py",
        problems={size: partial(make, *shape) for size, shape in SIZES.items()},
        implementations=_contenders(backbone),
        agree=False,
        calls=_calls,
    )
    for name, backbone, make in (
        ("frame_average_pointnet", PointNet, _clouds),
        ("frame_average_gnn", MessagePassing, _graphs),
    )
)
