"""What remains of an average when a rotation about an axis is undetermined."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.harmonics import spherical_harmonics
from eqlib.symmetry import (
    Irreps,
    Point,
    Pseudoscalar,
    Pseudovector,
    Scalar,
    SphericalTensor,
    Vector,
)
from eqlib.symmetry.representations import Components
from eqlib.symmetry.representations import spread as spread_over


def project_on_axis(
    values: Float[Tensor, "*shape"],
    component: Components,
    axis: Float[Tensor, "*rows d"],
    spread: Float[Tensor, "*rows"],
) -> Float[Tensor, "*shape"]:
    r"""Damp what a rotation about an axis would average out, :math:`v \mapsto P v + s (v - P v)`.

    :math:`P` is the average of irreps of degree :math:`l \ge 2` over all rotations about the unit
    vector :math:`a`, :math:`Y_l(a) Y_l(a)^\top / |Y_l|^2`: the part with :math:`m = 0` about the
    axis. Scalars and vectors stay: frames stand with all signs of their axes where a rotation is
    undetermined, which averages out the part of a vector that is normal to the axis.

    Args:
        values: averages over frames; their first axes are those of ``axis``.
        component: what acts on the components of the values.
        axis: unit vectors, or zero where nothing but scalars remains.
        spread: the factors s, from 0 to 1.

    Raises:
        TypeError: the average of such a component over rotations is not known.
    """
    if isinstance(component, Scalar | Pseudoscalar | Point | Vector | Pseudovector):
        return values
    with torch.autocast(values.device.type, enabled=False):
        if isinstance(component, Irreps):
            kept = _irreps_along(values, component, axis)
        elif isinstance(component, SphericalTensor):
            units = _harmonics(axis, component.lmax)
            blocks = values.split([unit.shape[-1] for unit in units], dim=-2)
            kept = torch.cat(
                [
                    _along(block.mT, spread_over(unit, block, own_axes=1)).mT
                    if unit.shape[-1] > 3
                    else block
                    for unit, block in zip(units, blocks, strict=True)
                ],
                dim=-2,
            )
        else:
            raise TypeError(f"{component!r}: its average over rotations is not known")
        return kept + spread_over(spread, values, own_axes=0) * (values - kept)


def _along(values: Tensor, unit: Tensor) -> Tensor:
    """The part of vectors along unit vectors."""
    return (values * unit).sum(-1, keepdim=True) * unit


def _harmonics(axis: Float[Tensor, "*rows 3"], lmax: int) -> list[Tensor]:
    """Unit vectors of the harmonics of an axis, by degree."""
    values = spherical_harmonics(axis, lmax)
    degrees = range(lmax + 1)
    blocks = values.split([2 * degree + 1 for degree in degrees], dim=-1)
    return [
        math.sqrt(4 * math.pi / (2 * degree + 1)) * block
        for degree, block in zip(degrees, blocks, strict=True)
    ]


def _irreps_along(values: Tensor, irreps: Irreps, axis: Tensor) -> Tensor:
    units = _harmonics(axis, max((degree for _, degree, _ in irreps.blocks), default=0))
    sizes = [multiplicity * (2 * degree + 1) for multiplicity, degree, _ in irreps.blocks]
    kept = []
    parts = values.split(sizes, dim=-1)
    for (multiplicity, degree, _), part in zip(irreps.blocks, parts, strict=True):
        unit = units[degree]
        if degree < 2:
            kept.append(part)
        elif irreps.layout == "mul_ir":
            rows = part.unflatten(-1, (multiplicity, 2 * degree + 1))
            kept.append(_along(rows, spread_over(unit, rows, own_axes=1)).flatten(-2))
        else:
            rows = part.unflatten(-1, (2 * degree + 1, multiplicity)).mT
            kept.append(_along(rows, spread_over(unit, rows, own_axes=1)).mT.flatten(-2))
    return torch.cat(kept, dim=-1) if kept else values
