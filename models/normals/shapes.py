"""Random solids: primitives and their unions, intersections and differences, sampled exactly.

A candidate point of a part's surface belongs to the solid where it lies on the right side of the
other parts, and its normal is that of its part: nothing is approximated, also at edges.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eqlib.models.normals.primitives import PRIMITIVES, SIZES, UNIFORMS, Primitive

PARTS = 3
SINGLE, UNION, INTERSECTION, DIFFERENCE = range(4)
OPERATIONS = ("single", "union", "intersection", "difference")
GENERIC, AXIAL, ISOTROPIC = range(3)

_SHARES = (0.4, 0.25, 0.1, 0.25)  # of the operations, in their order
_REGULAR = 0.15  # share of the single shapes that are spheres, cubes and the like
_ROUND = 0.4  # share of the superquadrics and boxes that are as deep as they are wide
_COAXIAL = 0.25  # share of the composed solids whose parts have one axis
_CANDIDATES = 6  # for each point that is wanted
_BLOCK = 32  # solids at a time: their candidates stay in cache


class Solids(NamedTuple):
    """Solids of up to three parts; the first is the one that others are taken from."""

    operation: Int[Tensor, "solids"]
    kinds: Int[Tensor, "solids parts"]
    """Index into `PRIMITIVES`, or -1 where there is no such part."""
    sizes: Float[Tensor, "solids parts sizes"]
    turns: Float[Tensor, "solids parts"]
    """Angle about the z axis, in radians."""
    offsets: Float[Tensor, "solids parts 3"]
    symmetry: Int[Tensor, "solids"]
    """Whether two variances (`AXIAL`) or all three (`ISOTROPIC`) of the surface are equal."""


class Clouds(NamedTuple):
    """Points of surfaces with their outward normals."""

    points: Float[Tensor, "clouds points 3"]
    normals: Float[Tensor, "clouds points 3"]
    operation: Int[Tensor, "clouds"]
    symmetry: Int[Tensor, "clouds"]


def draw_clouds(clouds: int, points: int, generator: torch.Generator) -> Clouds:
    """Draw solids and uniform points of their surfaces.

    Args:
        clouds: number of solids. Those of which few candidates lie on the surface are drawn anew.
        points: points of each surface.
        generator: source of the numbers.

    Returns:
        Clouds with centroid 0 and root mean square distance from it 1, in float64.
    """
    parts: list[Clouds] = []
    found = 0
    while found < clouds:
        solids = draw_solids(_BLOCK, generator)
        block = sample_surfaces(solids, points, generator)
        parts.append(block)
        found += len(block.points)
    whole = Clouds(*(torch.cat(tensors)[:clouds] for tensors in zip(*parts, strict=True)))
    centred = whole.points - whole.points.mean(1, keepdim=True)
    scale = centred.square().sum(2).mean(1).sqrt()
    return whole._replace(points=centred / scale[:, None, None])


def draw_solids(solids: int, generator: torch.Generator) -> Solids:
    """Draw solids that stand upright: all parts are turned about the z axis only."""
    uniform = _Uniform(generator)
    shares = torch.tensor(_SHARES, dtype=torch.float64)
    operation = torch.multinomial(shares, solids, replacement=True, generator=generator)
    kinds = uniform.integers(len(PRIMITIVES), solids, PARTS)
    count = torch.where(operation == UNION, 2 + (uniform(0.0, 1.0, solids) < 0.5), 2)
    count = torch.where(operation == SINGLE, 1, count)
    sizes = _draw_sizes(kinds, uniform)
    regular = (operation == SINGLE) & (uniform(0.0, 1.0, solids) < _REGULAR)
    kinds[regular, 0] = uniform.integers(2, solids)[regular]
    sizes[regular, 0] = _regular_sizes(kinds[:, 0], uniform)[regular]
    coaxial = uniform(0.0, 1.0, solids) < _COAXIAL
    # tools that cut, and parts that are added, are smaller than what they are put to
    scale = torch.where(operation == INTERSECTION, 1.0, uniform(0.4, 0.9, solids))
    sizes[:, 1:, :3] *= scale[:, None, None]
    offsets = _draw_offsets(operation, kinds[:, 0], sizes[:, 0], coaxial, uniform)
    turns = uniform(0.0, 2 * math.pi, solids, PARTS)
    kinds = torch.where(torch.arange(PARTS) < count[:, None], kinds, -1)
    axial = _is_axial(kinds, sizes) & (coaxial | (count == 1))
    symmetry = torch.where(axial, AXIAL, GENERIC)
    symmetry = torch.where(regular, ISOTROPIC, symmetry)
    return Solids(operation, kinds, sizes, turns, offsets, symmetry)


def sample_surfaces(solids: Solids, points: int, generator: torch.Generator) -> Clouds:
    """Return uniform points of those solids of which enough candidates lie on the surface."""
    candidates = _CANDIDATES * points
    masses = _by_kind(solids, lambda kind, sizes, _: kind.mass(sizes), solids.sizes)
    part = torch.multinomial(masses, candidates, replacement=True, generator=generator)
    shape = (len(part), candidates, UNIFORMS + 1)
    uniforms = torch.rand(shape, generator=generator, dtype=torch.float64)
    drawn = _by_kind(solids, _draw, uniforms[:, None, :, :UNIFORMS].expand(-1, PARTS, -1, -1))
    chosen = drawn.gather(1, part[:, None, :, None].expand(-1, 1, -1, 7)).squeeze(1)
    own_points, own_normals, keep = chosen.split([3, 3, 1], -1)
    turns = solids.turns.gather(1, part)
    offsets = solids.offsets.gather(1, part[..., None].expand(-1, -1, 3))
    position, normals = _turn(own_points, turns) + offsets, _turn(own_normals, turns)
    on_surface, outwards = _combine(solids, position, part)
    kept = on_surface & (uniforms[..., -1] < keep.squeeze(-1))
    enough = kept.sum(1) >= points
    # the first of the kept, in the order in which they were drawn
    order = (~kept[enough]).to(torch.uint8).argsort(dim=1, stable=True)[:, :points, None]
    order = order.expand(-1, -1, 3)
    normals = torch.where(outwards[..., None], normals, -normals)
    return Clouds(
        position[enough].gather(1, order),
        normals[enough].gather(1, order),
        solids.operation[enough],
        solids.symmetry[enough],
    )


def implicit(
    solids: Solids, points: Float[Tensor, "solids samples 3"]
) -> Float[Tensor, "solids parts samples"]:
    """Return the implicit function of every part; 0 where there is no such part."""
    local = _turn(points[:, None] - solids.offsets[:, :, None], -solids.turns[..., None])
    return _by_kind(solids, lambda kind, sizes, at: kind.implicit(at, sizes), local)


def _combine(
    solids: Solids, points: Tensor, part: Int[Tensor, "solids samples"]
) -> tuple[Bool[Tensor, "solids samples"], Bool[Tensor, "solids samples"]]:
    """Return which points of the parts' surfaces are the solid's, and whose normals point out."""
    operation = solids.operation[:, None, None]
    missing = (solids.kinds < 0)[..., None]
    inside = implicit(solids, points) < 0
    first = torch.arange(PARTS)[:, None] == 0
    own = torch.arange(PARTS)[:, None] == part[:, None, :]
    wanted_inside = (operation == INTERSECTION) | ((operation == DIFFERENCE) & first)
    on_surface = (own | missing | (inside == wanted_inside)).all(1)
    return on_surface, (solids.operation[:, None] != DIFFERENCE) | (part == 0)


class _Uniform:
    """Draws uniform numbers in float64."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def __call__(self, low: float, high: float, *shape: int) -> Tensor:
        drawn = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return low + (high - low) * drawn

    def integers(self, end: int, *shape: int) -> Tensor:
        return torch.randint(end, shape, generator=self.generator)


def _draw_sizes(
    kinds: Int[Tensor, "solids parts"], uniform: _Uniform
) -> Float[Tensor, "solids parts sizes"]:
    """Return sizes for the kind of each part; vertical extents are the larger ones."""
    shape = tuple(kinds.shape)
    width, depth, height = (uniform(*r, *shape) for r in ((0.4, 1.0), (0.4, 1.0), (0.4, 1.6)))
    depth = torch.where(uniform(0.0, 1.0, *shape) < _ROUND, width, depth)
    exponents = torch.exp(uniform(math.log(1.4), math.log(6), *shape, 2))
    ellipsoid = uniform(0.0, 1.0, *shape, 1) < 1 / 3
    exponents = torch.where(ellipsoid, 2.0, exponents)
    axes = torch.stack([width, depth, height], -1)
    # a third of the frusta are cylinders, a third are cones
    top = width * torch.stack(
        [*uniform(0.0, 1.0, 1, *shape), torch.ones(shape), torch.zeros(shape)]
    )
    top = top.gather(0, uniform.integers(3, *shape)[None]).squeeze(0)
    sizes = {
        "superquadric": torch.cat([axes, exponents], -1),
        "box": axes,
        "torus": torch.stack([width, width * uniform(0.2, 0.6, *shape)], -1),
        "frustum": torch.stack([width, top, height], -1),
        "capsule": torch.stack([0.7 * width, 0.7 * height], -1),
    }
    padded = [
        torch.nn.functional.pad(sizes[kind.name], (0, SIZES - sizes[kind.name].shape[-1]))
        for kind in PRIMITIVES
    ]
    index = kinds[None, ..., None].expand(1, -1, -1, SIZES)
    return torch.stack(padded).gather(0, index).squeeze(0)


def _regular_sizes(
    kinds: Int[Tensor, "solids"], uniform: _Uniform
) -> Float[Tensor, "solids sizes"]:
    """Return sizes of superquadrics and boxes with the symmetry of a cube or a sphere."""
    number = len(kinds)
    exponent = torch.exp(uniform(math.log(1.4), math.log(6), number))
    exponent = torch.where(uniform(0.0, 1.0, number) < 0.5, 2.0, exponent)
    length = torch.ones_like(exponent)
    return torch.stack([length, length, length, exponent, exponent], -1)


def _draw_offsets(
    operation: Tensor, kinds: Tensor, sizes: Tensor, coaxial: Tensor, uniform: _Uniform
) -> Float[Tensor, "solids parts 3"]:
    """Return offsets of the parts from the first, within its bounding box."""
    extent = torch.stack([_extent(kinds, sizes, axis) for axis in range(3)], -1)
    reach = torch.tensor([0.0, 0.8, 0.4, 1.0], dtype=torch.float64)[operation]
    offsets = uniform(-1.0, 1.0, len(kinds), PARTS, 3) * (reach[:, None] * extent)[:, None]
    offsets[coaxial, :, :2] = 0
    offsets[:, 0] = 0
    return offsets


def _extent(kinds: Tensor, sizes: Tensor, axis: int) -> Float[Tensor, "solids"]:
    """Return half the extent of primitives along an axis."""
    upright = axis == 2
    first, second, third = sizes[:, :3].unbind(1)
    extents = {
        "superquadric": sizes[:, axis],
        "box": sizes[:, axis],
        "torus": second if upright else first + second,
        "frustum": third if upright else first,
        "capsule": first + second if upright else first,
    }
    return torch.stack([extents[kind.name] for kind in PRIMITIVES]).gather(0, kinds[None])[0]


def _is_axial(kinds: Tensor, sizes: Tensor) -> Bool[Tensor, "solids"]:
    """Return whether a turn by 90 degrees about its own axis changes none of the parts."""
    has_depth = torch.tensor([kind.name in ("superquadric", "box") for kind in PRIMITIVES])
    return (~has_depth[kinds] | (kinds < 0) | (sizes[..., 0] == sizes[..., 1])).all(1)


def _draw(kind: Primitive, sizes: Tensor, uniforms: Tensor) -> Tensor:
    drawn = kind.sample(sizes, uniforms)
    return torch.cat([drawn.points, drawn.normals, drawn.keep[..., None]], -1)


def _by_kind(
    solids: Solids,
    function: Callable[[Primitive, Tensor, Tensor], Tensor],
    argument: Float[Tensor, "solids parts *axes"],
) -> Float[Tensor, "solids parts *axes_out"]:
    """Apply a function to sizes and arguments of all parts of one kind at a time."""
    results = []
    chosen = [solids.kinds == index for index in range(len(PRIMITIVES))]
    for kind, where in zip(PRIMITIVES, chosen, strict=True):
        results.append(function(kind, solids.sizes[where], argument[where]))
    whole = results[0].new_zeros(*solids.kinds.shape, *results[0].shape[1:])
    for where, result in zip(chosen, results, strict=True):
        whole[where] = result
    return whole


def _turn(
    vectors: Float[Tensor, "*shape 3"], angles: Float[Tensor, "*broadcast"]
) -> Float[Tensor, "*shape 3"]:
    """Turn vectors about the z axis, by an angle in radians each."""
    cosine, sine = angles.cos(), angles.sin()
    x, y, z = vectors.unbind(-1)
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y, z], -1)
