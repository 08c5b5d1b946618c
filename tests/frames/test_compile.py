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

def frames(points, **layout):
    found = pca_frames(points, "E(3)", **layout)
    return found.frames[..., 0, :, :].square(), found.centroid, found.gap

signature = Signature(E(3), {"points": Point(), "edge_index": EdgeIndex()}, Point())
ragged = FrameAverage(Messages(), signature=signature)
dense = FrameAverage(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)).double(), "SO(3)")
generator = torch.Generator().manual_seed(0)
for function in (frames, dense, ragged):
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for nodes in (6, 8):
        points = torch.randn(nodes, 3, dtype=torch.float64, generator=generator).requires_grad_()
        batch = torch.arange(nodes) // 4
        graph = {"batch": batch, "num_graphs": 3, "edge_index": complete_graph(batch, 3)}
        layouts = [{}, {"mask": torch.arange(nodes) < 5}, {"batch": batch, "num_graphs": 3}]
        for layout in {frames: layouts, dense: [{}]}.get(function, [graph]):
            expected, found = function(points, **layout), compiled(points, **layout)
            torch.testing.assert_close(found, expected)
            first, second = (
                torch.autograd.grad(out[0].sum(), points)[0] for out in (expected, found)
            )
            torch.testing.assert_close(first, second)
"""


def test_forward_and_backward_compile_to_one_graph():
    # In a process of its own: the checks of annotations in the tests do not compile.
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", COMPILED], check=True, cwd=root)
