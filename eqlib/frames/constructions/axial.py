"""Frames with a fixed axis, such as that of gravity: they turn in the horizontal plane only."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eqlib.frames.constructions.minimal import minimal_frames
from eqlib.frames.constructions.moments import cloud_moments
from eqlib.frames.constructions.pca import pca_frames
from eqlib.frames.constructions.weighted import weighted_frames
from eqlib.frames.types import Frames, RaggedFrames
from eqlib.symmetry import SE, SO, Axial, E, O, as_group
from eqlib.symmetry.group import Group, moving_factor

# By reflections and translations.
_PLANAR: dict[tuple[bool, bool], Group] = {
    (False, False): SO(2),
    (True, False): O(2),
    (False, True): SE(2),
    (True, True): E(2),
}


def axial_frames(
    points: Float[Tensor, "*clouds 3"],
    group: str | Group = "SE(3) about z",
    mask: Bool[Tensor, "*clouds"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    detach: bool = False,
) -> Frames:
    r"""Principal frames of the horizontal projections of point clouds.

    .. math:: F = B \begin{pmatrix} V & 0 \\ 0 & 1 \end{pmatrix} B^\top

    with the principal frames :math:`V` of the points in the plane orthogonal to the axis, two of
    determinant one or, for groups with mirrors, four; :math:`B` is a basis of which the axis is the
    last column. So :math:`F a = a` for the axis :math:`a`: what is up stays up, and coordinates
    keep their place. The origin is the centroid, its projection on the plane through zero where
    translations are horizontal, and zero where there are none.

    Args:
        points: clouds in any unit of length: a dense batch, or with ``batch`` a ragged one, where
            a node may hold several points (nodes, *channels, 3).
        group: a name, or a group with a fixed axis.
        mask: True where a point of a dense batch exists; the others may hold anything, NaN too.
        batch: graph of each node of a ragged batch, sorted.
        num_graphs: number of graphs of a ragged batch; by default up to the last one that has a
            node, which is read from ``batch`` (on a GPU this waits for the device).
        detach: treat the frames as constants in the backward pass. Gradients with respect to
            ``points``, such as forces, are then **wrong**.

    Returns:
        Frames, origins and gaps in the dtype of ``points``, at least float32. The gap is that of
        the two horizontal variances, divided by their sum.

    Raises:
        ValueError: shapes do not fit, or the group is another.
        TypeError: ``points``, ``mask`` or ``batch`` has the wrong dtype.

    Note:
        Exact where the gap is not zero, for collinear and planar clouds too. It is zero where the
        projection has no direction: for upright lines, prisms and whatever looks round from above.
        Everything else is as in :func:`pca_frames`.
    """
    axial, planar, centroid = _projected(points, group, mask, batch, num_graphs)
    basis = axial.basis(points.device)
    frames = pca_frames(planar, _in_the_plane(axial), mask, batch, num_graphs, detach)
    return Frames(
        _lifted(frames.frames, basis),
        centroid,
        frames.gap,
        signs=_lifted_signs(frames.signs, axial, basis),
    )


def axial_minimal_frames(
    points: Float[Tensor, "*clouds 3"],
    group: str | Group = "SE(3) about z",
    mask: Bool[Tensor, "*clouds"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    detach: bool = False,
    *,
    threshold: float = 0.1,
) -> RaggedFrames:
    """Frames as :func:`axial_frames`, with signs that follow the horizontal skewness of a cloud.

    Args:
        points: as in :func:`axial_frames`.
        group: as in :func:`axial_frames`.
        mask: as in :func:`axial_frames`.
        batch: as in :func:`axial_frames`.
        num_graphs: as in :func:`axial_frames`.
        detach: as in :func:`axial_frames`.
        threshold: as in :func:`minimal_frames`, of which these are the planar ones.

    Returns:
        One or two frames of each cloud, or up to four for groups with mirrors.

    Raises:
        ValueError: shapes do not fit, the group is another, or the threshold is out of range.
        TypeError: ``points``, ``mask`` or ``batch`` has the wrong dtype.
    """
    axial, planar, centroid = _projected(points, group, mask, batch, num_graphs)
    plane = _in_the_plane(axial)
    frames = minimal_frames(planar, plane, mask, batch, num_graphs, detach, threshold=threshold)
    basis = axial.basis(points.device)
    return frames._replace(frames=_lifted(frames.frames, basis), centroid=centroid)


def axial_weighted_frames(
    points: Float[Tensor, "*clouds 3"],
    group: str | Group = "SE(3) about z",
    mask: Bool[Tensor, "*clouds"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    detach: bool = False,
    *,
    threshold: float = 0.05,
    signs: Literal["all", "soft"] = "all",
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> RaggedFrames:
    """Weighted frames with a fixed axis, whose averages are continuous at every cloud.

    Args:
        points: as in :func:`axial_frames`.
        group: as in :func:`axial_frames`.
        mask: as in :func:`axial_frames`.
        batch: as in :func:`axial_frames`.
        num_graphs: as in :func:`axial_frames`.
        detach: as in :func:`axial_frames`.
        threshold: as in :func:`weighted_frames`, of which these are the planar ones.
        signs: as in :func:`weighted_frames`.
        samples: as in :func:`weighted_frames`.
        generator: as in :func:`weighted_frames`.

    Returns:
        Frames with their weights. Of points on one upright line, where no horizontal direction is
        determined, averaged vectors keep their part along the axis only.

    Raises:
        ValueError: shapes do not fit, the group is another, or an option is out of range.
        TypeError: ``points``, ``mask`` or ``batch`` has the wrong dtype.
    """
    axial, planar, centroid = _projected(points, group, mask, batch, num_graphs)
    frames = weighted_frames(
        planar,
        _in_the_plane(axial),
        mask,
        batch,
        num_graphs,
        detach,
        threshold=threshold,
        signs=signs,
        samples=samples,
        generator=generator,
    )
    basis = axial.basis(points.device)
    return frames._replace(
        frames=_lifted(frames.frames, basis),
        centroid=centroid,
        axis=basis[:, 2].to(centroid.dtype).expand_as(centroid),
    )


def _projected(
    points: Tensor, group: str | Group, mask: Tensor | None, batch: Tensor | None, count: int | None
) -> tuple[Axial, Tensor, Tensor]:
    """The group, horizontal coordinates and origins, in the dtype of the frames."""
    axial = moving_factor(as_group(group))
    if not isinstance(axial, Axial):
        raise ValueError(f"group: expected one with a fixed axis, 'SE(3) about z', got {group!r}")
    basis = axial.basis(points.device)
    centroid = cloud_moments(points, axial, mask, batch, count).centroid
    if axial.horizontal:
        centroid = centroid - centroid @ basis[:, 2:] @ basis[:, 2:].mT
    dtype = torch.promote_types(points.dtype, torch.float32)
    return axial, (points.double() @ basis[:, :2]).to(dtype), centroid.to(dtype)


def _in_the_plane(group: Axial) -> Group:
    """What the group does with horizontal coordinates."""
    return _PLANAR[group.reflections, group.translations]


def _lifted(planar: Float[Tensor, "*frames 2 2"], basis: Tensor) -> Float[Tensor, "*frames 3 3"]:
    """Matrices that act as given on the plane, and keep the axis."""
    plane, axis = basis[:, :2], basis[:, 2:]
    return (plane @ planar.double() @ plane.mT + axis @ axis.mT).to(planar.dtype)


def _lifted_signs(signs: Tensor | None, group: Axial, basis: Tensor) -> Tensor | None:
    """Signs of the columns; oblique axes have none, as there frames differ by other matrices."""
    if signs is None or not group.aligned:
        return None
    ones = torch.ones_like(signs[:, :1])
    return torch.cat([signs, ones], dim=-1) @ basis.mT.to(signs.dtype)
