"""Frames of point clouds under all invertible linear and affine maps."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eqlib.frames.constructions.axes import guard_of, sign_choices
from eqlib.frames.constructions.whitening import whiten
from eqlib.frames.types import Frames
from eqlib.geometry import symmetric_eigh
from eqlib.symmetry import as_group
from eqlib.symmetry.group import Group, moving_factor
from eqlib.symmetry.linear import GL, Affine


def affine_frames(
    points: Float[Tensor, "*clouds d"],
    group: str | Group = "Affine(3)",
    mask: Bool[Tensor, "*clouds"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    detach: bool = False,
) -> Frames:
    r"""Frames of point clouds under the linear maps GL(d) or the affine maps, in any dimension.

    Coordinates :math:`z = A^{-1}(x - t)`, with :math:`A A^\top = \frac1n \sum_i (x_i - t)(x_i -
    t)^\top`, leave only an orthogonal matrix undetermined. The covariance of :math:`z` is the
    identity and does not determine it, but the eigenvectors :math:`V` of the fourth moments

    .. math:: \frac1n \sum_i |z_i|^2 z_i z_i^\top

    do. The frames are :math:`F = A V`, with all :math:`2^d` choices of the signs of the columns,
    column 0 that of the largest eigenvalue. :math:`t` is the centroid, or zero for GL(d). As a set,
    the frames satisfy :math:`F(M X + u) = M\,F(X)` for every element :math:`(M, u)` of the group,
    and do not depend on the order of the points.

    Args:
        points: clouds in any unit of length: a dense batch, or with ``batch`` a ragged one, where
            a node may hold several points (nodes, *channels, d).
        group: a name, or a group: GL(d) or Affine(d).
        mask: True where a point of a dense batch exists; the others may hold anything, NaN too.
        batch: graph of each node of a ragged batch, sorted.
        num_graphs: number of graphs of a ragged batch; by default up to the last one that has a
            node, which is read from ``batch`` (on a GPU this waits for the device).
        detach: treat the frames as constants in the backward pass. Outputs keep their values, but
            their gradients with respect to ``points`` are then **wrong**.

    Returns:
        Frames with their inverses, centroids and gaps in the dtype of ``points``, at least float32.
        Frames are in the unit of the points. The gap is the smallest difference of neighbouring
        eigenvalues of the fourth moments, divided by the sum of all.

    Raises:
        ValueError: shapes do not fit, the group is another, or a cloud is flat: its rank is below
            d. The rank is read on the host, so on a GPU this waits for the device. Under
            torch.compile and torch.export nothing is read, and such a cloud has NaN.
        TypeError: ``points``, ``mask`` or ``batch`` has the wrong dtype.

    Note:
        Errors are rounding errors times the condition number of the cloud, divided by the gap.
        Frames jump where two eigenvalues cross. As many points as d (d + 1 for Affine) are an
        affine image of a regular simplex, and so have gap 0, as have the affine images of all
        clouds with the symmetry of a cube. A cloud without points has the coordinate axes and gap
        0. A coordinate that is not finite makes NaN of its own cloud's frames only.

    Source:
        Puny et al., Frame Averaging for Invariant and Equivariant Network Design, ICLR 2022, for
        frames; the fourth moments are those of Cardoso, Source separation using higher order
        moments, ICASSP 1989.
    """
    moving = moving_factor(as_group(group))
    if not isinstance(moving, GL | Affine):
        raise ValueError(f"group: expected GL(n) or Affine(n), got {as_group(group)!r}")
    root, inverse, centroid, fourth, empty = whiten(points, moving, mask, batch, num_graphs)
    values, vectors = symmetric_eigh(
        torch.where(root.isfinite(), fourth, root), guard=guard_of(points.dtype)
    )
    gap = values.diff(dim=-1).amin(-1) / torch.where(empty, 1.0, values.sum(-1))
    vectors = vectors.flip(-1)
    axes, inverse = root @ vectors, vectors.mT @ inverse
    if detach:
        axes, inverse, gap = axes.detach(), inverse.detach(), gap.detach()
    signs = sign_choices(moving, axes)
    dtype = torch.promote_types(points.dtype, torch.float32)
    return Frames(
        frames=(axes.unsqueeze(-3) * signs.unsqueeze(-2)).to(dtype),
        centroid=centroid.to(dtype),
        gap=gap.to(dtype),
        inverse=(inverse.unsqueeze(-3) * signs.unsqueeze(-1)).to(dtype),
        signs=signs.to(dtype),
    )
