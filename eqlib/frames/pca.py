"""Principal frames of point clouds, in dense, masked and ragged batches."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eqlib.geometry import gather_nodes, segment_sum, symmetric_eigh
from eqlib.symmetry import as_group
from eqlib.symmetry.group import Group

# A cloud with a radius of this many rounding errors of its coordinates is a single point.
_ROUNDING_ERRORS = 16


class PCAFrames(NamedTuple):
    """Frames of the clouds of a batch, as :func:`pca_frames` makes them.

    ``frames`` are orthogonal matrices whose columns are the axes (no unit), ``centroid`` is their
    common origin in the unit of the points, and ``gap`` (no unit, 0 to 1) tells how well the axes
    are determined. Frame k of a cloud is its frame 0 with the columns times row k of ``signs``.
    """

    frames: Float[Tensor, "*batch frames d d"]
    centroid: Float[Tensor, "*batch d"]
    gap: Float[Tensor, "*batch"]

    @property
    def axes(self) -> Float[Tensor, "*batch d d"]:
        """Frame 0 of each cloud."""
        return self.frames.select(-3, 0)

    @property
    def signs(self) -> Float[Tensor, "frames d"]:
        """Signs of the columns of each frame; all +1 in the first row."""
        copies, dimension = self.frames.shape[-3], self.frames.shape[-1]
        if copies not in (2**dimension, 2 ** (dimension - 1)):
            raise ValueError(
                f"frames: expected all {2**dimension} or {2 ** (dimension - 1)} of a cloud in "
                f"{dimension} dimensions, got {copies}"
            )
        return _signs(self.frames, dimension, reflections=copies == 2**dimension)


def pca_frames(
    points: Float[Tensor, "*clouds d"],
    group: str | Group = "SE(3)",
    mask: Bool[Tensor, "*clouds"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    detach: bool = False,
) -> PCAFrames:
    r"""Principal frames of point clouds under O, SO, E or SE in two or three dimensions.

    The axes are the eigenvectors of :math:`\sum_i (x_i - t)(x_i - t)^\top`, column 0 that of the
    largest variance, where :math:`t` is the centroid for E and SE and zero for O and SO. Their
    signs run over all :math:`2^d` choices for O and E. For SO and SE the last axis completes a
    right-handed frame (cross product; in 2-D, a quarter turn), which leaves :math:`2^{d-1}`. As a
    set, the frames satisfy :math:`F(R X + s) = R\,F(X)` for every element :math:`(R, s)` of the
    group, and do not depend on the order of the points.

    Args:
        points: clouds in any unit of length: a dense batch, or with ``batch`` a ragged one, where
            a node may hold several points (nodes, *channels, d).
        group: a name, or a group that acts on 2 or 3 dimensions.
        mask: True where a point of a dense batch exists; the others may hold anything, NaN too.
        batch: graph of each node of a ragged batch, sorted.
        num_graphs: number of graphs of a ragged batch; by default up to the last one that has a
            node, which is read from ``batch`` (on a GPU this waits for the device).
        detach: treat the frames as constants in the backward pass. Outputs keep their values, but
            their gradients with respect to ``points``, such as forces, are then **wrong**.

    Returns:
        Frames, centroids and gaps in the dtype of ``points``, at least float32. The gap is the
        smallest difference of neighbouring eigenvalues, divided by the sum of all.

    Raises:
        ValueError: shapes do not fit, or the group does not act on 2 or 3 dimensions.
        TypeError: ``points``, ``mask`` or ``batch`` has the wrong dtype.

    Note:
        Exact up to rounding errors divided by the gap: the frames jump where two variances cross,
        and their gradient grows like one over the gap, up to the guard of
        :func:`~eqlib.geometry.symmetric_eigh` (1e-6 in float64, 1e-3 otherwise). Symmetric and
        collinear clouds have a gap of zero, to rounding, and in their eigenspaces the axes are an
        arbitrary orthonormal choice. A cloud without points or of coincident points has gap 0,
        coordinate axes and no gradient of them; without points its centroid is 0. A coordinate
        that is not finite makes NaN of its own cloud's frames only.

    Source:
        Puny et al., Frame Averaging for Invariant and Equivariant Network Design, ICLR 2022.
    """
    group = as_group(group)
    _check(points, group, mask, batch, num_graphs)
    # Float64 brings float32 clouds 3 to 30 times closer to equivariance, and autocast spares it.
    cloud = points.double()
    if batch is None:
        centroid, covariance = _dense_moments(cloud, mask, group.translations)
    else:
        num_graphs = _count_graphs(batch) if num_graphs is None else num_graphs
        centroid, covariance = _ragged_moments(cloud, batch, num_graphs, group.translations)
    eigenvalues, axes = symmetric_eigh(
        covariance, guard=1e-6 if points.dtype == torch.float64 else 1e-3
    )
    frames, gap = _frames(axes.flip(-1), group.reflections), _relative_gap(eigenvalues)
    if detach:
        frames, gap = frames.detach(), gap.detach()
    dtype = torch.promote_types(points.dtype, torch.float32)
    return PCAFrames(frames.to(dtype), centroid.to(dtype), gap.to(dtype))


def _dense_moments(
    points: Float[Tensor, "*batch nodes d"], mask: Tensor | None, centred: bool
) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch d d"]]:
    """Centroid, zero unless ``centred``, and covariance up to a positive factor."""
    count: int | Tensor = max(points.shape[-2], 1)
    exists = None if mask is None else mask[..., None]
    if exists is not None:
        count = exists.sum(-2, keepdim=True).clamp(min=1)  # (*batch, 1, 1)
        points = torch.where(exists, points, 0.0)
    scale = _positive(_magnitude(points).sum(-1)[..., None, None] / count)
    points = points / scale
    centroid = points.new_zeros(*points.shape[:-2], 1, points.shape[-1])
    if centred:
        centroid = points.sum(-2, keepdim=True) / count
        points = points - centroid
        points = points if exists is None else torch.where(exists, points, 0.0)
    return (centroid * scale).squeeze(-2), _significant(points.mT @ points, count)


def _ragged_moments(
    points: Float[Tensor, "nodes *channels d"], batch: Tensor, num_graphs: int, centred: bool
) -> tuple[Float[Tensor, "graphs d"], Float[Tensor, "graphs d d"]]:
    """As for dense points, from sums over the nodes of each graph."""
    points = points.unsqueeze(1).flatten(1, -2)
    count = segment_sum(points.new_full(batch.shape, points.shape[1]), batch, num_graphs)
    count = count.clamp(min=1)[:, None]
    scale = _positive(
        segment_sum(_magnitude(points).sum(1, keepdim=True), batch, num_graphs) / count
    )
    points = points / gather_nodes(scale, batch)[:, None]
    centroid = points.new_zeros(num_graphs, points.shape[-1])
    for _ in range(2 * centred):  # twice, as the sum over many nodes, one by one, is rounded
        shift = segment_sum(points.sum(1), batch, num_graphs) / count
        points = points - gather_nodes(shift, batch)[:, None]
        centroid = centroid + shift
    covariance = segment_sum(points.mT @ points, batch, num_graphs)
    return centroid * scale, _significant(covariance, count[..., None])


def _magnitude(points: Float[Tensor, "*clouds d"]) -> Float[Tensor, "*clouds"]:
    """Largest coordinate of each point; clouds are divided by its mean, lest squares overflow."""
    return points.detach().abs().amax(-1)


def _significant(covariance: Tensor, count: Tensor | int) -> Tensor:
    """Set covariances that are rounding errors of a centroid to zero; the mean magnitude is 1."""
    floor = count * (_ROUNDING_ERRORS * torch.finfo(covariance.dtype).eps) ** 2
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    return torch.where(trace <= floor, 0.0, covariance)


def _frames(axes: Float[Tensor, "*batch d d"], reflections: bool) -> Tensor:
    """All frames with these axes, right-handed ones unless there are ``reflections``."""
    if not reflections:
        first = axes[..., 0]
        if axes.shape[-1] == 3:
            last = torch.linalg.cross(first, axes[..., 1])
        else:
            last = torch.stack([-first[..., 1], first[..., 0]], dim=-1)
        axes = torch.cat([axes[..., :-1], last[..., None]], dim=-1)
    return axes.unsqueeze(-3) * _signs(axes, axes.shape[-1], reflections).unsqueeze(-2)


def _signs(like: Tensor, dimension: int, reflections: bool) -> Float[Tensor, "frames d"]:
    """Signs of d axes: all choices, or all of product one."""
    free = dimension if reflections else dimension - 1
    choice, axis = torch.arange(2**free, device=like.device), torch.arange(free, device=like.device)
    signs = (1 - 2 * (choice[:, None] >> axis & 1)).to(like.dtype)
    return signs if reflections else torch.cat([signs, signs.prod(-1, keepdim=True)], dim=-1)


def _relative_gap(eigenvalues: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    total = _positive(eigenvalues.sum(-1))
    return eigenvalues.diff(dim=-1).amin(-1) / total


def _positive(scale: Tensor) -> Tensor:
    """Replace what cannot be divided by, zero and NaN, by one."""
    return torch.where(scale > 0, scale, 1.0)


def _count_graphs(batch: Tensor) -> int:
    return int(batch.max()) + 1 if len(batch) else 0


def _check(
    points: Tensor,
    group: Group,
    mask: Tensor | None,
    batch: Tensor | None,
    num_graphs: int | None,
) -> None:
    if group.dimension not in (2, 3):
        raise ValueError(f"group: expected SO, O, SE or E in 2 or 3 dimensions, got {group!r}")
    if not points.is_floating_point():
        raise TypeError(f"points: expected floating-point coordinates, got {points.dtype}")
    if points.ndim < 2 or points.shape[-1] != group.dimension:
        raise ValueError(
            f"points: expected shape (..., nodes, {group.dimension}) for {group!r}, "
            f"got {tuple(points.shape)}"
        )
    if mask is not None:
        if batch is not None:
            raise ValueError("mask: a ragged batch has none; give either mask or batch")
        if mask.dtype != torch.bool:
            raise TypeError(f"mask: expected booleans, got {mask.dtype}; convert with .bool()")
        if mask.shape != points.shape[:-1]:
            raise ValueError(
                f"mask: expected shape {tuple(points.shape[:-1])}, one entry per point, "
                f"got {tuple(mask.shape)}"
            )
    if batch is None and num_graphs is not None:
        raise ValueError("num_graphs: only a ragged batch has graphs; give batch as well")
    if batch is not None and batch.shape != points.shape[:1]:
        raise ValueError(
            f"batch: expected shape {tuple(points.shape[:1])}, one graph per node, "
            f"got {tuple(batch.shape)}"
        )
