"""Small problems on which all implementations are compared."""

from dataclasses import dataclass
from math import inf, pi

import pytest
import torch

from eqlib.kernels.position_orientation_conv import Arguments, count_monomials, pick

TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}
"""Largest error over the largest entry, beside float64 on the same rounded operands."""

_FASTEST = pick(torch.device("cpu"), torch.float64)
implementations = pytest.mark.parametrize(
    "implementation",
    [
        "naive",
        "blocked",
        pytest.param(
            "compiled", marks=pytest.mark.skipif(_FASTEST[0] != "compiled", reason=_FASTEST[1])
        ),
    ],
)
"""Those that run on a CPU."""

NAMES = Arguments._fields[:9]
"""The arguments that have gradients."""


@dataclass(frozen=True)
class Case:
    """Sizes and settings of a problem."""

    attributes: str = "perpendicular"
    n: int = 3
    m: int = 1
    sources: int = 7
    targets: int = 7
    edges: int = 23
    orientations: int = 4
    channels: int = 5
    scalars: int = 1
    hidden: int = 6
    basis: int = 7
    frames: int = 1
    pairs: bool = False
    degree: int = 3
    radius: float = 2.5
    softening: float = 0.1


CASES = {
    "R3xS2": Case(),
    "R3xS2 pairs": Case(pairs=True, scalars=2),
    "R3xS2 pairs turned": Case(pairs=True, frames=3, radius=inf),
    "R3xS2 icosahedron": Case(orientations=12, channels=16, hidden=16, basis=16, edges=60),
    "R2xS1": Case("axes", n=2, m=2),
    "R2xS1 turned": Case("axes", n=2, m=2, frames=3, degree=2, radius=inf),
    "R2xS1 pairs": Case("axes", n=2, m=2, pairs=True, scalars=0),
    "SE3": Case("axes", m=3, scalars=0),
    "SE3 turned": Case("axes", m=3, frames=2, orientations=3, degree=2),
    "R3": Case("distance", m=0, orientations=1),
    "R2 degree 4": Case("distance", n=2, m=0, orientations=1, degree=4, scalars=3),
    "given orientations": Case("axes", m=0, orientations=1, scalars=5),
    "bipartite": Case(sources=4, targets=9, radius=inf, degree=1),
    "one edge": Case(edges=1, pairs=True),
    "one of all": Case(orientations=1, channels=1, hidden=1, basis=1, scalars=0),
    "odd sizes": Case(orientations=6, channels=33, hidden=34, basis=35, edges=70, pairs=True),
    "wide": Case(channels=64, hidden=32, basis=48, edges=50, orientations=2, scalars=3),
}


def make(case, rng, dtype=torch.float64, device="cpu"):
    """Draw the arguments of a case; node 0 has a self loop and the last target no edge."""

    def normal(*shape):
        values = torch.randn(*shape, dtype=torch.float64, generator=rng)
        return values.to(device, dtype)

    inputs = count_monomials(case.attributes, case.m, case.degree) + case.scalars
    source = torch.randint(case.sources, (case.edges,), generator=rng)
    target = torch.randint(max(case.targets - 1, 1), (case.edges,), generator=rng)
    source[0] = target[0] = 0
    offsets = torch.randn(case.edges, case.n, dtype=torch.float64, generator=rng)
    offsets[0] = 0
    frame = torch.randint(case.frames, (case.edges,), generator=rng)
    order = target.argsort(stable=True)
    return Arguments(
        normal(case.sources, case.orientations, case.channels),
        offsets[order].to(device, dtype),
        orientations(case, rng).to(device, dtype),
        normal(case.edges, case.scalars),
        normal(case.hidden, inputs) / max(inputs, 1) ** 0.5,
        normal(case.hidden) / 4,
        normal(case.basis, case.hidden) / case.hidden**0.5,
        normal(case.basis) / 4,
        normal(case.channels, case.basis) / case.basis**0.5,
        *(part.to(device) for part in graph(source[order], target[order], case)),
        (frame if case.frames > 1 else frame[:0]).to(device),
        opposite(case).to(device),
        case.attributes,
        case.degree,
        case.softening,
        case.radius,
    )


def graph(source, target, case):
    """The edges, sorted by target, and where those of each node are."""
    by_source = source.argsort(stable=True)
    starts = torch.searchsorted(target, torch.arange(case.targets + 1))
    source_starts = torch.searchsorted(source[by_source], torch.arange(case.sources + 1))
    return source, target, starts, by_source, source_starts


def orientations(case, rng):
    """Axes of unit length, right-handed where there are as many as dimensions."""
    shape = (case.frames, case.orientations, case.m, case.n)
    axes = torch.randn(*shape, dtype=torch.float64, generator=rng)
    if case.m == case.n == 2:
        angle = 2 * pi * torch.rand(shape[:2], dtype=torch.float64, generator=rng)
        axes = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], -1).view(shape)
    elif case.m == 3:
        axes = torch.linalg.qr(axes).Q
        axes = axes * torch.linalg.det(axes)[..., None, None]
    elif case.m:
        axes = axes / axes.norm(dim=-1, keepdim=True)
    if case.pairs:
        half = case.orientations // 2
        axes = torch.cat([axes[:, :half], -axes[:, :half]], dim=1)
    return axes


def opposite(case):
    """Index of the opposite orientation, where there are pairs."""
    index = torch.arange(case.orientations)
    return index.roll(case.orientations // 2) if case.pairs else index[:0]


def close(found, expected, tolerance):
    """Whether the largest error is small beside the largest entry."""
    scale = expected.abs().max().clamp(min=1e-30) if expected.numel() else 1.0
    error = (found.double() - expected.double()).abs()
    return found.shape == expected.shape and bool((error <= tolerance * scale).all())
