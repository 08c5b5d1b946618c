"""Surfaces with exact normals and area-uniform samples: what shapes are made of.

All stand upright about the origin. A primitive is described by `SIZES` numbers, of which it uses
the first few. Every function is vectorised over primitives of one kind.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

SIZES = 5
UNIFORMS = 3


class Candidates(NamedTuple):
    """Points of a surface, each to be kept with its own probability."""

    points: Float[Tensor, "parts samples 3"]
    normals: Float[Tensor, "parts samples 3"]
    """Of unit length, outwards."""
    keep: Float[Tensor, "parts samples"]
    """Probability with which keeping a point makes the points uniform in area."""


class Primitive(ABC):
    """One kind of closed surface."""

    name: ClassVar[str]

    @abstractmethod
    def implicit(
        self, points: Float[Tensor, "parts samples 3"], sizes: Float[Tensor, "parts sizes"]
    ) -> Float[Tensor, "parts samples"]:
        """Return a function that is negative inside, zero on the surface and positive outside."""

    @abstractmethod
    def mass(self, sizes: Float[Tensor, "parts sizes"]) -> Float[Tensor, "parts"]:
        """Return the area divided by the mean of `Candidates.keep`, in squared units of length."""

    @abstractmethod
    def sample(
        self, sizes: Float[Tensor, "parts sizes"], uniforms: Float[Tensor, "parts samples 3"]
    ) -> Candidates:
        """Return one candidate for each row of numbers, uniform in [0, 1).

        Among candidates of several surfaces, drawn in proportion to `mass` and kept with
        probability `Candidates.keep`, those kept are uniform in area over all the surfaces.
        """


class Superquadric(Primitive):
    r"""Semi-axes a, b, c and exponents s, t; with s = t = 2 an ellipsoid.

    .. math:: F(x, y, z) = \bigl((|x/a|^s + |y/b|^s)^{t/s} + |z/c|^t\bigr)^{1/t} = 1

    Exponents above 1 make it convex and smooth.

    Source:
        Barr, Superquadrics and Angle-Preserving Transformations, IEEE CG&A 1981. Directions, not
        angles, are drawn here: in the coordinates scaled by the semi-axes the surface is the unit
        sphere of a norm F, whose area element is :math:`abc\,\rho^3 |D^{-1} \nabla F|` per solid
        angle, with the distance :math:`\rho` and :math:`D = \operatorname{diag}(a, b, c)`.
    """

    name: ClassVar[str] = "superquadric"

    def implicit(self, points: Tensor, sizes: Tensor) -> Tensor:
        """Return F - 1."""
        return _nested_norm(points / sizes[:, None, :3], sizes) - 1

    def mass(self, sizes: Tensor) -> Tensor:
        """Return the largest area element times the solid angle."""
        axes, s, t = sizes[:, :3], sizes[:, 3], sizes[:, 4]
        # gradients of a norm lie on the unit sphere of the dual norm, with conjugate exponents
        steepest = _reach(s / (s - 1), t / (t - 1)) / axes.amin(1)
        return 4 * math.pi * axes.prod(1) * _reach(s, t) ** 3 * steepest

    def sample(self, sizes: Tensor, uniforms: Tensor) -> Candidates:
        """Return points in uniform directions of the scaled coordinates."""
        axes, s, t = sizes[:, None, :3], sizes[:, None, 3:4], sizes[:, None, 4:5]
        direction = _directions(uniforms)
        distance = 1 / _nested_norm(direction, sizes)
        scaled = direction * distance[..., None]
        magnitude, sign = scaled.abs(), scaled.sign()
        across = (magnitude[..., :2] ** s).sum(-1, keepdim=True) ** (t / s - 1)
        slopes = [across * magnitude[..., :2] ** (s - 1), magnitude[..., 2:] ** (t - 1)]
        gradient = sign * torch.cat(slopes, -1) / axes
        length = gradient.norm(dim=-1)
        element = axes.prod(-1) * distance**3 * length
        keep = 4 * math.pi * element / self.mass(sizes)[:, None]
        return Candidates(scaled * axes, gradient / length[..., None], keep)


class Box(Primitive):
    """Half the extents along x, y, z."""

    name: ClassVar[str] = "box"

    def implicit(self, points: Tensor, sizes: Tensor) -> Tensor:
        """Return the largest signed distance from the planes of the faces."""
        return (points.abs() - sizes[:, None, :3]).amax(-1)

    def mass(self, sizes: Tensor) -> Tensor:
        """Return the area."""
        return 8 * _opposite_areas(sizes).sum(1)

    def sample(self, sizes: Tensor, uniforms: Tensor) -> Candidates:
        """Return uniform points: a face by its area, then a point in it."""
        share = _opposite_areas(sizes).repeat_interleave(2, dim=1).cumsum(1)
        face = torch.searchsorted(share / share[:, -1:], uniforms[..., 0].contiguous(), right=True)
        face = face.clamp(max=5)
        axis, side = (face // 2)[..., None], 2 * (face % 2)[..., None] - 1
        normals = torch.zeros_like(uniforms[..., :3]).scatter(-1, axis, side.to(sizes.dtype))
        places = torch.cat([axis, (axis + 1) % 3, (axis + 2) % 3], -1)
        unit = torch.cat([side.to(sizes.dtype), 2 * uniforms[..., 1:3] - 1], -1)
        points = torch.zeros_like(normals).scatter(-1, places, unit) * sizes[:, None, :3]
        return Candidates(points, normals, torch.ones_like(uniforms[..., 0]))


class Torus(Primitive):
    """Distance R of the tube's centre from the z axis, and radius r < R of the tube."""

    name: ClassVar[str] = "torus"

    def implicit(self, points: Tensor, sizes: Tensor) -> Tensor:
        """Return the signed distance."""
        ring = points[..., :2].norm(dim=-1) - sizes[:, :1]
        return torch.hypot(ring, points[..., 2]) - sizes[:, 1:2]

    def mass(self, sizes: Tensor) -> Tensor:
        """Return the area of a tube whose circles all have the largest length."""
        ring, tube = sizes[:, 0], sizes[:, 1]
        return 4 * math.pi**2 * tube * (ring + tube)

    def sample(self, sizes: Tensor, uniforms: Tensor) -> Candidates:
        """Return points at uniform angles."""
        ring, tube = sizes[:, None, :1], sizes[:, None, 1:2]
        around = _circle(uniforms[..., 0])
        across = _circle(uniforms[..., 1])
        radius = ring + tube * across[..., :1]
        points = torch.cat([radius * around, tube * across[..., 1:]], -1)
        normals = torch.cat([across[..., :1] * around, across[..., 1:]], -1)
        return Candidates(points, normals, (radius / (ring + tube)).squeeze(-1))


class Frustum(Primitive):
    """Radius at the bottom, radius at the top, half the height: a cylinder, a cone or between."""

    name: ClassVar[str] = "frustum"

    def implicit(self, points: Tensor, sizes: Tensor) -> Tensor:
        """Return the larger signed distance from the planes and from the (double) cone."""
        bottom, top, half = sizes[:, :3].unbind(1)
        middle, slope = (bottom + top) / 2, (top - bottom) / (2 * half)
        radius = middle[:, None] + slope[:, None] * points[..., 2]
        side = (points[..., :2].norm(dim=-1) - radius) / (1 + slope**2).sqrt()[:, None]
        return torch.maximum(side, points[..., 2].abs() - half[:, None])

    def mass(self, sizes: Tensor) -> Tensor:
        """Return the area."""
        return _frustum_areas(sizes).sum(1)

    def sample(self, sizes: Tensor, uniforms: Tensor) -> Candidates:
        """Return uniform points: side, bottom or top by area, then a point of it."""
        bottom, top, half = sizes[:, None, :3].unbind(2)
        share = _frustum_areas(sizes).cumsum(1)
        face = torch.searchsorted(share / share[:, -1:], uniforms[..., 0].contiguous(), right=True)
        face = face.clamp(max=2)
        level, angle = uniforms[..., 1], _circle(uniforms[..., 2])
        # the height at which the area below is the fraction `level` of the side's
        root = (bottom**2 + level * (top**2 - bottom**2)).sqrt()
        height = level * (bottom + top) / (bottom + root)
        sign = torch.where(face == 1, -1.0, 1.0)
        on_side = face == 0
        cap = torch.where(face == 1, bottom, top) * level.sqrt()
        radius = torch.where(on_side, root, cap)
        z = torch.where(on_side, (2 * height - 1), sign) * half
        slant = torch.hypot(2 * half, top - bottom)
        outwards = torch.where(on_side, 2 * half / slant, 0.0)
        upwards = torch.where(on_side, (bottom - top) / slant, sign)
        points = torch.cat([radius[..., None] * angle, z[..., None]], -1)
        normals = torch.cat([outwards[..., None] * angle, upwards[..., None]], -1)
        return Candidates(points, normals, torch.ones_like(level))


class Capsule(Primitive):
    """Radius, and half the length of the cylinder between the hemispheres."""

    name: ClassVar[str] = "capsule"

    def implicit(self, points: Tensor, sizes: Tensor) -> Tensor:
        """Return the signed distance."""
        half = sizes[:, 1:2]
        height = points[..., 2] - points[..., 2].clamp(-half, half)
        flat = torch.cat([points[..., :2], height[..., None]], -1)
        return flat.norm(dim=-1) - sizes[:, :1]

    def mass(self, sizes: Tensor) -> Tensor:
        """Return the area."""
        radius, half = sizes[:, 0], sizes[:, 1]
        return 4 * math.pi * radius * (radius + half)

    def sample(self, sizes: Tensor, uniforms: Tensor) -> Candidates:
        """Return uniform points: cylinder or hemispheres by area, then a point of them."""
        radius, half = sizes[:, None, :1], sizes[:, None, 1:2]
        on_side = uniforms[..., :1] < half / (radius + half)
        height, angle = 2 * uniforms[..., 1:2] - 1, _circle(uniforms[..., 2])
        side = torch.cat([angle, torch.zeros_like(height)], -1)
        normals = torch.where(on_side, side, _directions(uniforms[..., 1:]))
        middle = half * torch.where(on_side, height, normals[..., 2:].sign())
        points = radius * normals
        points = torch.cat([points[..., :2], points[..., 2:] + middle], -1)
        return Candidates(points, normals, torch.ones_like(middle).squeeze(-1))


PRIMITIVES: tuple[Primitive, ...] = (Superquadric(), Box(), Torus(), Frustum(), Capsule())


def _nested_norm(
    points: Float[Tensor, "parts samples 3"], sizes: Float[Tensor, "parts sizes"]
) -> Float[Tensor, "parts samples"]:
    """Return the superquadric's norm of scaled points."""
    s, t = sizes[:, 3:4], sizes[:, 4:5]
    across = (points[..., :2].abs() ** s[..., None]).sum(-1) ** (t / s)
    return (across + points[..., 2].abs() ** t) ** (1 / t)


def _reach(s: Float[Tensor, "parts"], t: Float[Tensor, "parts"]) -> Float[Tensor, "parts"]:
    """Return the largest distance from the origin on the unit sphere of the nested norm."""
    across = 2 ** (0.5 - 1 / s).clamp(min=0)
    power = 2 * t / (t - 2).clamp(min=1e-9)  # by Hölder's inequality; up to 2 an axis is furthest
    return torch.where(t > 2, across * (1 + across**-power) ** (1 / power), across)


def _directions(uniforms: Float[Tensor, "parts samples _"]) -> Float[Tensor, "parts samples 3"]:
    """Return uniform unit vectors from two uniform numbers each."""
    height = 2 * uniforms[..., :1] - 1
    return torch.cat([(1 - height**2).sqrt() * _circle(uniforms[..., 1]), height], -1)


def _circle(uniform: Float[Tensor, "parts samples"]) -> Float[Tensor, "parts samples 2"]:
    angle = 2 * math.pi * uniform
    return torch.stack([angle.cos(), angle.sin()], -1)


def _opposite_areas(sizes: Float[Tensor, "parts sizes"]) -> Float[Tensor, "parts 3"]:
    """Return the product of the two other half extents for each axis."""
    a, b, c = sizes[:, :3].unbind(1)
    return torch.stack([b * c, c * a, a * b], 1)


def _frustum_areas(sizes: Float[Tensor, "parts sizes"]) -> Float[Tensor, "parts 3"]:
    """Return the areas of side, bottom and top."""
    bottom, top, half = sizes[:, :3].unbind(1)
    side = (bottom + top) * torch.hypot(2 * half, top - bottom)
    return math.pi * torch.stack([side, bottom**2, top**2], 1)
