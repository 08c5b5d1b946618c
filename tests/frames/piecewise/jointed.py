"""Jointed boxes: bodies of several rigid parts, articulated by rigid motions."""

import torch
from torch import Tensor

from eqlib.symmetry import SE


def boxes(rng: torch.Generator, parts: int, points: int) -> tuple[Tensor, Tensor]:
    """A straight chain of boxes, each joined to the next, and the box of each point.

    Args:
        rng: the source of randomness.
        parts: number of boxes.
        points: number of points in each.
    """
    part = torch.arange(parts).repeat_interleave(points)
    size = torch.tensor([2.0, 0.8, 0.5], dtype=torch.float64)
    inside = (torch.rand(len(part), 3, generator=rng, dtype=torch.float64) - 0.5) * size
    return inside + part[:, None] * torch.tensor([2.0, 0.0, 0.0]), part


def articulated(rng: torch.Generator, points: Tensor, part: Tensor) -> Tensor:
    """The chain with each joint turned at random: boxes stay joined at the middle of their ends."""
    turns = SE(3).sample(rng, int(part.max()) + 1).matrix
    half = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    joint, moved = torch.zeros(3, dtype=torch.float64), torch.empty_like(points)
    for box, turn in enumerate(turns):
        here = part == box
        middle = joint + turn @ half
        moved[here] = (points[here] - 2 * box * half) @ turn.mT + middle
        joint = middle + turn @ half
    return moved


def voronoi(rng: torch.Generator, points: Tensor, cells: int) -> Tensor:
    """The nearest of so many points, drawn at random: a partition that knows nothing of parts."""
    seeds = points[torch.randperm(len(points), generator=rng)[:cells]]
    return torch.cdist(points, seeds).argmin(-1)
