"""Frames and frame averaging compile without graph breaks."""

import subprocess
import sys
from pathlib import Path

COMPILED = """
import torch
from torch import nn
from eqlib.frames import FrameAverage, pca_frames
from eqlib.geometry import complete_graph, segment_sum
from eqlib.symmetry import E, EdgeIndex, Point, Signature

class Messages(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3).double()

    def forward(self, points, edge_index, batch=None, num_graphs=None):
        source, target = edge_index
        pairs = torch.cat([points[source], points[target]], dim=-1)
        return segment_sum(self.linear(pairs).tanh(), target, len(points))

def frames(points, mask):
    found = pca_frames(points, "E(3)", mask)
    return found.frames[..., 0, :, :].square() + found.centroid.sum() + found.gap

def agree(function, points, **inputs):
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    expected, found = function(points, **inputs), compiled(points, **inputs)
    torch.testing.assert_close(found, expected)
    first, second = (torch.autograd.grad(out.sum(), points)[0] for out in (expected, found))
    torch.testing.assert_close(first, second)

generator = torch.Generator().manual_seed(0)
points = torch.randn(8, 3, dtype=torch.float64, generator=generator).requires_grad_()
batch = torch.tensor([0, 0, 0, 0, 2, 2, 2, 2])
signature = Signature(E(3), {"points": Point(), "edge_index": EdgeIndex()}, Point())
layer = FrameAverage(Messages(), signature=signature)
agree(frames, points, mask=torch.arange(8) < 5)
agree(layer, points, edge_index=complete_graph(batch, 4), batch=batch, num_graphs=4)

def repeated(layer, seed):
    def function(points):
        return layer(points)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
    for shape in ((2, 4, 3), (3, 5, 3)):
        points = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
        found = []
        for run in (function, compiled):
            seed()
            draws = [run(points) for _ in range(2)]
            found.append([*draws, torch.autograd.grad(sum(draws).square().sum(), points)[0]])
        torch.testing.assert_close(*found)
        assert layer.mode == "full" or not torch.equal(*found[1][:2])

network, source = nn.Linear(3, 3).double(), torch.Generator()
for options in (
    {"mode": "stochastic"},
    {"mode": "stochastic", "samples": 2, "generator": source},
    {"group": "Similarity(3)"},
):
    def seed():
        torch.manual_seed(1)
        source.manual_seed(1)
    layer = FrameAverage(lambda points: network(points).tanh(), **options)
    repeated(layer, seed)
"""


def test_forward_and_backward_compile_to_one_graph():
    # In a process of its own: the checks of annotations in the tests do not compile.
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", COMPILED], check=True, cwd=root)
