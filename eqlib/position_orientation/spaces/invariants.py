"""Invariants of pairs of positions with orientations."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.position_orientation.spaces.space import Space, as_space, quarter_turn
from eqlib.symmetry.group import Group

INVARIANTS = ("complete", "ponita")


def pair_invariants(
    offset: Float[Tensor, "*batch n"],
    target_orientation: Float[Tensor, "*target"],
    source_orientation: Float[Tensor, "*source"],
    space: str | Space = "R3xS2",
    invariants: str = "complete",
    group: str | Group | None = None,
    axial: bool = False,
    softening: float = 0.1,
) -> Float[Tensor, "*pairs invariants"]:
    r"""Numbers that no motion of both points changes.

    With the offset :math:`r = p_j - p_i`, the orientations :math:`o_i` of the target and
    :math:`o_j` of the source, :math:`|v|` softened to :math:`\sqrt{v^2 + s^2} - s`, and in the
    plane :math:`a_1 = o_i \cdot r`, :math:`a_2 = o_i \times r`, :math:`c = o_i \cdot o_j`,
    :math:`d = o_i \times o_j`, the complete invariants are:

    ==========  =========  ===================================================================
    space       group      invariants
    ==========  =========  ===================================================================
    R2, R3      both       :math:`|r|`
    R2xS1, SE2  SE(2)      :math:`a_1, a_2, c, d`
    R2xS1, SE2  E(2)       :math:`a_1, |a_2|, c, a_2 d`
    R3xS2       E(3)       :math:`o_i \cdot r,\ o_j \cdot r,\ |r|,\ o_i \cdot o_j`
    R3xS2       SE(3)      and also :math:`\det[r, o_i, o_j]`
    SE3         SE(3)      :math:`R_i^\top r,\ R_i^\top R_j`
    ==========  =========  ===================================================================

    Two pairs have the same complete invariants only if a motion of the group takes one to the
    other. With ``axial`` this holds up to the sign of each orientation.

    Args:
        offset: position of the source minus that of the target, in any unit of length.
        target_orientation: unit vectors or rotation matrices, without components (..., 0) for R2
            and R3; leading axes are broadcast.
        source_orientation: as ``target_orientation``.
        space: name of the space.
        invariants: "complete", or "ponita", those that were published first:
            :math:`o_i \cdot r,\ |r - (o_i \cdot r) o_i|,\ o_i \cdot o_j`, in the plane
            :math:`a_1, a_2, c` and under reflections :math:`a_1, |a_2|, c`. They leave out how
            :math:`o_j` is turned about :math:`o_i`.
        group: rigid motions, "SE(n)", or with reflections, "E(n)"; by default without.
        axial: directions are axes, without a sign: products that are even in each of them.
        softening: s, in the unit of ``offset``.

    Returns:
        The invariants in the order of the table, in powers of the unit of ``offset`` up to the
        second, or with ``axial`` the third. Computed in float32 at least, and returned in the
        dtype of ``offset``.

    Raises:
        ValueError: a shape does not fit, ``softening`` is not positive, or there are no such
            invariants for the space and the group.
        TypeError: ``offset`` is not floating point.

    Note:
        They are polynomials and softened lengths, so derivatives of every order are finite, also
        at coincident points and where directions are parallel. A softened length loses no
        information, since it grows with the length.

    Source:
        Bekkers et al., Fast, Expressive SE(n) Equivariant Networks through Weight-Sharing in
        Position-Orientation Space, ICLR 2024, for the shorter set. The Gram matrix of the three
        vectors, which fixes them up to a rotation or a reflection, makes it complete, and the
        determinant tells these two apart.
    """
    space = as_space(space)
    reflections = space.group(group).reflections
    _check(offset, target_orientation, source_orientation, space, softening)
    _check_choice(space, invariants, axial)
    dtype = torch.promote_types(offset.dtype, torch.float32)
    r, first, second = _aligned(
        space, offset.to(dtype), target_orientation.to(dtype), source_orientation.to(dtype)
    )
    if space.kind == "positions":
        values = [_soft_length(r, softening)]
    elif space.kind == "frames":
        values = [(first.mT @ r[..., None])[..., 0], (first.mT @ second).flatten(-2)]
    elif space.dimension == 2:
        values = _planar(r, first, second, invariants, reflections, axial, softening)
    else:
        values = _spatial(r, first, second, invariants, reflections, axial, softening)
    return torch.cat(values, dim=-1).to(offset.dtype)


def count_invariants(
    space: str | Space = "R3xS2",
    invariants: str = "complete",
    group: str | Group | None = None,
    axial: bool = False,
) -> int:
    """The number of invariants that :func:`pair_invariants` returns for a pair.

    Args:
        space: name of the space.
        invariants: "complete" or "ponita".
        group: rigid motions, or with reflections; by default without.
        axial: directions are axes.

    Raises:
        ValueError: there are no such invariants for the space and the group.
    """
    space = as_space(space)
    orientation = torch.zeros(space.orientation_shape)
    offset = torch.zeros(space.dimension)
    return len(pair_invariants(offset, orientation, orientation, space, invariants, group, axial))


def _planar(
    r: Tensor,
    first: Tensor,
    second: Tensor,
    invariants: str,
    reflections: bool,
    axial: bool,
    softening: float,
) -> list[Tensor]:
    turned = quarter_turn(first)
    along, across = _dot(first, r), _dot(turned, r)
    cosine, sine = _dot(first, second), _dot(turned, second)
    if axial:
        # Squares of the complex numbers a1 + i a2 and c + i d, which have twice the angle.
        product, double = along * across, cosine * sine
        handed = [product * double] if reflections else [product, double]
        even = [along.square() - across.square(), _soft_length(r, softening), cosine.square()]
        return [*even, *handed]
    if reflections:
        across_length = _soft_length(across, softening)
        parity = [] if invariants == "ponita" else [across * sine]
        return [along, across_length, cosine, *parity]
    return [along, across, cosine, *([] if invariants == "ponita" else [sine])]


def _spatial(
    r: Tensor,
    first: Tensor,
    second: Tensor,
    invariants: str,
    reflections: bool,
    axial: bool,
    softening: float,
) -> list[Tensor]:
    along, cosine = _dot(first, r), _dot(first, second)
    if invariants == "ponita":
        # The vector itself: the difference of squares would cancel where it is short.
        return [along, _soft_length(r - along * first, softening), cosine]
    other, length = _dot(second, r), _soft_length(r, softening)
    volume = _dot(torch.linalg.cross(r, first), second)
    if axial:
        product = along * other
        even = [along.square(), other.square(), length, cosine.square(), product * cosine]
        return even if reflections else [*even, volume * cosine, volume * product]
    complete = [along, other, length, cosine]
    return complete if reflections else [*complete, volume]


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(-1, keepdim=True)


def _soft_length(vector: Tensor, softening: float) -> Tensor:
    """The length, rounded off at zero: smooth in the components of the vector."""
    square = vector.square().sum(-1, keepdim=True)
    return square / ((square + softening**2).sqrt() + softening)


def _aligned(space: Space, *tensors: Tensor) -> list[Tensor]:
    """The offset and both orientations, broadcast to one batch."""
    tails = [(space.dimension,), space.orientation_shape, space.orientation_shape]
    heads = [
        tensor.shape[: tensor.ndim - len(tail)] for tensor, tail in zip(tensors, tails, strict=True)
    ]
    batch = torch.broadcast_shapes(*heads)
    return [tensor.expand(*batch, *tail) for tensor, tail in zip(tensors, tails, strict=True)]


def _check(offset: Tensor, target: Tensor, source: Tensor, space: Space, softening: float) -> None:
    """Raise unless shapes and dtypes fit."""
    if not offset.is_floating_point():
        raise TypeError(
            f"offset: expected floating-point numbers, got {offset.dtype}; "
            "convert with .to(torch.get_default_dtype())"
        )
    if offset.shape[-1:] != (space.dimension,):
        raise ValueError(
            f"offset: {space.name} expects shape (..., {space.dimension}), "
            f"got {tuple(offset.shape)}"
        )
    tail = space.orientation_shape
    for name, tensor in (("target_orientation", target), ("source_orientation", source)):
        if tensor.shape[-len(tail) :] != tail:
            raise ValueError(
                f"{name}: {space.name} expects shape (..., {', '.join(map(str, tail))}), "
                f"got {tuple(tensor.shape)}"
            )
    if not 0 < softening < math.inf:
        raise ValueError(f"softening: expected a positive length, got {softening}")


def _check_choice(space: Space, invariants: str, axial: bool) -> None:
    """Raise unless there are such invariants."""
    if invariants not in INVARIANTS:
        raise ValueError(
            f"invariants: expected {' or '.join(map(repr, INVARIANTS))}, got {invariants!r}"
        )
    if invariants == "ponita" and (space.kind == "frames" or axial):
        what = "axes" if axial else space.name
        raise ValueError(f"invariants: 'ponita' has none for {what}; use invariants='complete'")
    if axial and space.kind != "directions":
        raise ValueError(
            f"axial: orientations of {space.name} are no directions; use R2xS1 or R3xS2"
        )
