"""Primitive surfaces: exact normals, areas, volumes and uniform samples."""

import math
from functools import cache

import pytest
import torch

from eqlib.models.normals.primitives import PRIMITIVES, SIZES, UNIFORMS

KIND = {kind.name: kind for kind in PRIMITIVES}
CASES = {
    "sphere": ("superquadric", (1.3, 1.3, 1.3, 2, 2)),
    "ellipsoid": ("superquadric", (0.5, 0.8, 1.4, 2, 2)),
    "rounded box": ("superquadric", (0.6, 0.9, 1.2, 5, 4)),
    "diamond": ("superquadric", (0.7, 1.0, 0.6, 1.4, 1.5)),
    "pillow": ("superquadric", (0.9, 0.7, 0.5, 5, 1.5)),
    "box": ("box", (0.4, 0.7, 1.5)),
    "torus": ("torus", (0.9, 0.3)),
    "cylinder": ("frustum", (0.6, 0.6, 1.1)),
    "cone": ("frustum", (0.8, 0.0, 0.7)),
    "frustum": ("frustum", (0.4, 0.9, 0.5)),
    "capsule": ("capsule", (0.4, 0.8)),
}
SAMPLES = 60_000


def sizes_of(case: str) -> torch.Tensor:
    sizes = CASES[case][1]
    return torch.tensor([[*sizes, *[0.0] * (SIZES - len(sizes))]], dtype=torch.float64)


def drawn(case: str, rng, samples: int = 2_000):
    uniforms = torch.rand(1, samples, UNIFORMS, generator=rng, dtype=torch.float64)
    return KIND[CASES[case][0]].sample(sizes_of(case), uniforms)


def kept(case: str, rng):
    """Return uniform points, their normals and the area that the sampler claims."""
    candidates = drawn(case, rng, SAMPLES)
    keep = torch.rand(1, SAMPLES, generator=rng, dtype=torch.float64) < candidates.keep
    area = KIND[CASES[case][0]].mass(sizes_of(case)) * candidates.keep.mean()
    return candidates.points[keep], candidates.normals[keep], area.item()


def superellipse_area(s: float) -> float:
    return 4 * math.gamma(1 + 1 / s) ** 2 / math.gamma(1 + 2 / s)


def volume(case: str) -> float:
    kind, sizes = CASES[case]
    if kind == "superquadric":
        a, b, c, s, t = sizes
        beta = math.gamma(1 / t) * math.gamma(1 + 2 / t) / math.gamma(1 + 3 / t)
        return a * b * c * superellipse_area(s) * 2 / t * beta
    if kind == "box":
        return 8 * math.prod(sizes)
    if kind == "torus":
        return 2 * math.pi**2 * sizes[0] * sizes[1] ** 2
    if kind == "frustum":
        bottom, top, half = sizes
        return 2 * half * math.pi / 3 * (bottom**2 + bottom * top + top**2)
    radius, half = sizes
    return math.pi * radius**2 * (2 * half + 4 / 3 * radius)


@cache
def meshed_area(case: str, steps: int = 600) -> tuple[float, float]:
    """Return the area of a superquadric and its part with |z| < c / 2, from fine triangles."""
    a, b, c, s, t = CASES[case][1]
    # angles as Barr has them, denser towards the axes, where powers of sines are steep
    grid = torch.linspace(0, 1, steps, dtype=torch.float64)
    angle = math.pi / 2 * grid**2 * (3 - 2 * grid)
    power = [angle.cos() ** (2 / s), angle.sin() ** (2 / s)]
    up, out = angle.sin() ** (2 / t), angle.cos() ** (2 / t)
    across = [a * power[0] * out[:, None], b * power[1] * out[:, None]]
    surface = torch.stack([*across, (c * up)[:, None].expand(steps, steps)], -1)
    low, high = surface[:-1], surface[1:]
    corners = low[:, :-1], low[:, 1:], high[:, :-1], high[:, 1:]
    areas = sum(
        torch.linalg.cross(q - p, r - p).norm(dim=-1) / 2 for p, q, r in (corners[:3], corners[1:])
    )
    below = (surface[:-1, :-1, 2] + surface[1:, 1:, 2]) / 2 < c / 2
    return 8 * areas.sum().item(), 8 * areas[below].sum().item()


def area(case: str) -> float:
    kind, sizes = CASES[case]
    if kind == "superquadric":
        return meshed_area(case)[0]
    if kind == "box":
        a, b, c = sizes
        return 8 * (a * b + b * c + c * a)
    if kind == "torus":
        return 4 * math.pi**2 * sizes[0] * sizes[1]
    if kind == "frustum":
        bottom, top, half = sizes
        slant = math.hypot(2 * half, top - bottom)
        return math.pi * (bottom**2 + top**2 + (bottom + top) * slant)
    radius, half = sizes
    return 4 * math.pi * radius * (radius + half)


@pytest.mark.parametrize("case", list(CASES))
def test_samples_lie_on_the_surface_with_its_gradient_as_normal(case, rng):
    candidates = drawn(case, rng)
    points = candidates.points.clone().requires_grad_()
    values = KIND[CASES[case][0]].implicit(points, sizes_of(case))
    assert values.abs().max() < 1e-13
    (gradient,) = torch.autograd.grad(values.sum(), points)
    gradient = gradient / gradient.norm(dim=-1, keepdim=True)
    # the power of a coordinate near zero is steep: there rounding of the coordinate is amplified
    assert torch.allclose(candidates.normals, gradient, atol=1e-9)
    assert torch.allclose(candidates.normals.norm(dim=-1), torch.ones(()).double(), atol=1e-13)


@pytest.mark.parametrize("case", list(CASES))
def test_normals_point_outwards(case, rng):
    candidates = drawn(case, rng)
    implicit, sizes = KIND[CASES[case][0]].implicit, sizes_of(case)
    assert (implicit(candidates.points + 1e-4 * candidates.normals, sizes) > 0).all()
    inside = implicit(candidates.points - 1e-4 * candidates.normals, sizes) < 0
    assert inside.double().mean() > 0.99  # a step from close to an edge may leave through it


@pytest.mark.parametrize("case", list(CASES))
def test_probabilities_of_keeping_are_at_most_one(case, rng):
    keep = drawn(case, rng).keep
    assert keep.min() > 0
    assert keep.max() <= 1 + 1e-12


@pytest.mark.parametrize("case", list(CASES))
def test_area_and_volume_are_those_of_the_solid(case, rng):
    points, normals, claimed = kept(case, rng)
    assert claimed == pytest.approx(area(case), rel=5e-3)
    # the divergence theorem, with the mean over uniform points as integral over the surface
    height = (points * normals).sum(-1)
    noise = 4 * height.std().item() / math.sqrt(len(height))
    assert height.mean().item() == pytest.approx(3 * volume(case) / area(case), abs=noise + 5e-3)


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0] == "superquadric"])
def test_superquadrics_are_uniform_in_area_along_their_axis(case, rng):
    points, _, _ = kept(case, rng)
    below = points[:, 2].abs() < CASES[case][1][2] / 2
    whole, part = meshed_area(case)
    noise = 4 * 0.5 / math.sqrt(len(points))
    assert below.double().mean().item() == pytest.approx(part / whole, abs=noise + 2e-3)


@pytest.mark.parametrize(
    ("case", "height", "share"),
    [
        ("box", 0.3, 0.2 * (1.05 + 0.6) / (1.05 + 0.6 + 0.28)),
        ("capsule", 0.8, 0.8 / 1.2),
        ("cone", 0.0, 0.75 * math.hypot(1.4, 0.8) / (0.8 + math.hypot(1.4, 0.8))),
        ("torus", 0.15, 1 / 3),
    ],
    ids=["box", "capsule", "cone", "torus"],
)
def test_samples_are_uniform_in_area_along_the_axis(case, height, share, rng):
    points, _, _ = kept(case, rng)
    z = points[:, 2]
    if case == "cone":  # its side below the middle, without the bottom
        below = (z < height) & (z > -0.7 + 1e-9)
    elif case == "box":  # its sides
        below = (z.abs() < height) & (z.abs() < 1.5)
    else:
        below = z.abs() < height
    noise = 4 * 0.5 / math.sqrt(len(points))
    assert below.double().mean().item() == pytest.approx(share, abs=noise)


def test_the_check_of_uniformity_rejects_samples_that_keep_all(rng):
    points = drawn("torus", rng, SAMPLES).points[0]
    inner = points[:, :2].norm(dim=-1) < 0.9
    assert inner.double().mean().item() == pytest.approx(0.5, abs=1e-2)
    uniform, _, _ = kept("torus", rng)
    inner = (uniform[:, :2].norm(dim=-1) < 0.9).double().mean().item()
    assert inner == pytest.approx(0.5 - 0.3 / (0.9 * math.pi), abs=1e-2)
