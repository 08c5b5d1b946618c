"""Local frames: one for the patch around every point of a cloud."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eqlib.frames.dispatch import FrameFunction, frame_function
from eqlib.frames.local.patches import Neighbours, Origin, find_patches, relative_points
from eqlib.frames.sampling import Draws
from eqlib.frames.signatures import rotations_of
from eqlib.frames.types import Frames, RaggedFrames
from eqlib.symmetry.group import Group


def local_frames(
    points: Float[Tensor, "*clouds d"],
    k: int = 20,
    group: str | Group = "SO(3)",
    origin: Origin = "point",
    neighbours: Neighbours | None = None,
    mask: Bool[Tensor, "*clouds"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    detach: bool = False,
    mode: str | FrameFunction = "full",
    frame_options: Mapping[str, Any] | None = None,
) -> Frames | RaggedFrames:
    r"""Frames of the patch around each point, of its k nearest points.

    In the mode "full" the axes at point i are the eigenvectors of
    :math:`\sum_{j \in N(i)} (x_j - t_i)(x_j - t_i)^\top`, with all signs for groups with
    reflections and the right-handed ones for others, as in :func:`pca_frames`. The origin
    :math:`t_i` is :math:`x_i` or the centroid of the patch; either moves with the cloud, so that
    :math:`F_i(R X + s) = R\,F_i(X)` for all rigid motions, for the groups SO and O as well.

    Args:
        points: clouds in any unit of length: a dense batch, or with ``batch`` a ragged one.
        k: number of points of a patch, the point itself counted; smaller clouds give all.
        group: a name, or a group of isometries, its translations immaterial. With a fixed axis, as
            in "SE(3) about z", frames turn about it only.
        origin: "point" or "centroid", that of the patch.
        neighbours: the patches, instead of the k nearest points: edges, whose sources are the
            neighbours of their targets, or :class:`Patches`. The clouds of a dense batch share
            edges. A point is in its own patch only where it is among its neighbours.
        mask: True where a point of a dense batch exists; the others may hold anything, NaN too.
        batch: graph of each node of a ragged batch, sorted.
        num_graphs: number of graphs of a ragged batch.
        detach: treat the frames as constants in the backward pass; gradients with respect to
            ``points`` are then **wrong**.
        mode: as in :class:`FrameAverage`: "weighted" frames do not jump at patches without gap.
        frame_options: further arguments of the function that makes the frames.

    Returns:
        Frames with the batch axes (*batch, points) or (nodes,), their origins and their gaps, in
        the dtype of ``points``, at least float32.

    Raises:
        ValueError: shapes do not fit, or ``origin`` is none of the two.
        TypeError: ``points``, ``mask`` or ``batch`` has the wrong dtype.

    Note:
        Exact where the gap is not zero and no tie decides which point is the k-th: a patch of a
        plane has a gap as others have, that of a lattice or of an evenly sampled surface has
        none and needs the mode "weighted". A patch of one point, or of coincident ones, has gap 0
        and coordinate axes. Where the k-th neighbour changes, frames jump in every mode. A point
        that is not finite has NaN frames, and is in no other patch. Which points are in a patch is
        not differentiated, their positions are.

    Source:
        Puny et al., Frame Averaging for Invariant and Equivariant Network Design, ICLR 2022, where
        a network sees patches of 20 points in frames of their own.
    """
    patches = find_patches(points, k, neighbours, mask, batch, num_graphs)
    relative, origins = relative_points(points, patches, origin, mask)
    dtype = torch.promote_types(points.dtype, torch.float32)
    function = frame_function(rotations_of(group), mode, detach, frame_options or {}, Draws(1))
    return function(relative.to(dtype))._replace(centroid=origins.to(dtype))
