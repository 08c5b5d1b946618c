"""How many copies reach the backbone at once."""

import pytest
import torch
from torch import nn

from eqlib.frames import FrameAverage
from eqlib.frames.chunks import POINTS_PER_CALL
from tests.frames.clouds import separated


class Rows(nn.Module):
    """A network on the points of each cloud that remembers the size of its batches."""

    def __init__(self, normalise: bool = False) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm1d(3) if normalise else nn.Identity()
        self.seen: list[int] = []

    def forward(self, points):
        self.seen.append(len(points))
        return torch.sin(self.normalise(points.flatten(0, -2))).view_as(points)


@pytest.mark.parametrize(
    ("mode", "nodes", "calls"),
    [
        ("full", 32, 1),
        ("full", POINTS_PER_CALL // 8, 2),
        ("full", POINTS_PER_CALL, 4),
        ("stochastic", POINTS_PER_CALL, 1),
        ("minimal", 32, 1),
    ],
)
def test_large_clouds_take_several_calls(mode, nodes, calls, rng):
    layer = FrameAverage(Rows(), mode=mode, eval_mode=mode)
    points = separated(rng, 4, nodes, dtype=torch.float32)
    torch.manual_seed(0)
    result = layer(points)
    assert len(layer.backbone.seen) == calls
    if mode != "stochastic":
        together = FrameAverage(layer.backbone, mode=mode, chunk=1000)
        torch.testing.assert_close(together(points), result)
        assert len(layer.backbone.seen) == calls + 1


def test_large_clouds_with_a_list_of_frames_take_several_calls(rng):
    layer = FrameAverage(Rows(), mode="weighted")
    points = separated(rng, 6, POINTS_PER_CALL // 4, dtype=torch.float32)
    layer(points)
    assert max(layer.backbone.seen) == 4
    assert sum(layer.backbone.seen) >= 24


def test_batch_normalisation_in_training_gets_all_copies(rng):
    layer = FrameAverage(Rows(normalise=True))
    points = separated(rng, 2, POINTS_PER_CALL, dtype=torch.float32)
    layer(points)
    assert layer.backbone.seen == [8]
    layer.eval()(points)
    assert layer.backbone.seen == [8, 2, 2, 2, 2]
