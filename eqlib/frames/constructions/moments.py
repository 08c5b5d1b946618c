"""Centroid, covariance and radius of point clouds, in dense, masked and ragged batches."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eqlib.geometry import gather_nodes, segment_sum
from eqlib.geometry._checks import check_index
from eqlib.symmetry.group import Group

# A cloud with a radius of this many rounding errors of its coordinates is a single point.
_ROUNDING_ERRORS = 16


class Moments(NamedTuple):
    r"""Moments of each cloud of a batch, in float64.

    ``centroid`` and ``radius`` (the root mean square of the distances from it) are in the unit of
    the points; ``covariance`` is :math:`\sum_i (x_i - t)(x_i - t)^\top` up to a positive factor.
    """

    centroid: Float[Tensor, "*batch d"]
    covariance: Float[Tensor, "*batch d d"]
    radius: Float[Tensor, "*batch"]


def cloud_moments(
    points: Float[Tensor, "*clouds d"],
    group: Group,
    mask: Bool[Tensor, "*clouds"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
) -> Moments:
    """Moments about the centroid, or about the origin for groups without translations.

    Args:
        points: clouds in any unit of length: a dense batch, or with ``batch`` a ragged one, where
            a node may hold several points (nodes, *channels, d).
        group: acts on as many dimensions as the points have.
        mask: True where a point of a dense batch exists.
        batch: graph of each node of a ragged batch, sorted.
        num_graphs: number of graphs; by default up to the last one that has a node.

    Returns:
        Moments of each cloud. Without points, all are zero.

    Raises:
        ValueError: shapes do not fit.
        TypeError: ``points``, ``mask`` or ``batch`` has the wrong dtype.

    Note:
        Extents of fewer than 16 rounding errors of the coordinates are set to zero. Clouds are
        scaled before squares are taken, so that these neither overflow nor vanish.
    """
    check_cloud(points, group, mask, batch, num_graphs)
    cloud = points.double()
    if batch is None:
        return _dense_moments(cloud, mask, group.translations)
    return _ragged_moments(cloud, batch, count_graphs(batch, num_graphs), group.translations)


def positive(scale: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Replace what cannot be divided by, zero and NaN, by one."""
    return torch.where(scale > 0, scale, 1.0)


def count_graphs(batch: Int[Tensor, "nodes"], num_graphs: int | None) -> int:
    """Number of graphs, by default up to the last one that has a node; then waits for the device.

    Raises:
        ValueError: a node is in none of them, which is seen on the CPU only.
    """
    if num_graphs is None:
        num_graphs = int(batch.max()) + 1 if len(batch) else 0
    check_index(batch, num_graphs, "batch", "num_graphs")
    return num_graphs


def check_cloud(
    points: Tensor,
    group: Group,
    mask: Tensor | None,
    batch: Tensor | None,
    num_graphs: int | None,
) -> None:
    """Refuse points that the group does not act on, and layouts that contradict each other.

    Raises:
        ValueError: a shape does not fit.
        TypeError: ``points``, ``mask`` or ``batch`` has the wrong dtype.
    """
    if group.dimension is None:
        raise ValueError(f"group: expected one that moves space, such as SE(3), got {group!r}")
    if points.ndim < 2 or points.shape[-1] != group.dimension:
        raise ValueError(
            f"points: expected shape (..., nodes, {group.dimension}) for {group!r}, "
            f"got {tuple(points.shape)}"
        )
    check_layout(points, mask, batch, num_graphs)


def check_layout(
    points: Tensor, mask: Tensor | None, batch: Tensor | None, num_graphs: int | None
) -> None:
    """Refuse what is no coordinates, and layouts that contradict each other.

    Raises:
        ValueError: a shape does not fit.
        TypeError: ``points``, ``mask`` or ``batch`` has the wrong dtype.
    """
    if not points.is_floating_point():
        raise TypeError(f"points: expected floating-point coordinates, got {points.dtype}")
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
    if batch is not None and batch.dtype != torch.int64:
        raise TypeError(f"batch: expected torch.int64, got {batch.dtype}; convert with .long()")
    if batch is not None and batch.shape != points.shape[:1]:
        raise ValueError(
            f"batch: expected shape {tuple(points.shape[:1])}, one graph per node, "
            f"got {tuple(batch.shape)}"
        )


def _dense_moments(
    points: Float[Tensor, "*batch nodes d"], mask: Tensor | None, centred: bool
) -> Moments:
    """Moments of dense clouds; the centroid is zero unless ``centred``."""
    count: int | Tensor = max(points.shape[-2], 1)
    exists = None if mask is None else mask[..., None]
    if exists is not None:
        count = exists.sum(-2, keepdim=True).clamp(min=1)  # (*batch, 1, 1)
        points = torch.where(exists, points, 0.0)
    scale = positive(_magnitude(points).sum(-1)[..., None, None] / count)
    points = points / scale
    centroid = points.new_zeros(*points.shape[:-2], 1, points.shape[-1])
    if centred:
        centroid = points.sum(-2, keepdim=True) / count
        points = points - centroid
        points = points if exists is None else torch.where(exists, points, 0.0)
    covariance, radius = _significant(points.mT @ points, count)
    return Moments((centroid * scale).squeeze(-2), covariance, (radius * scale)[..., 0, 0])


def _ragged_moments(
    points: Float[Tensor, "nodes *channels d"], batch: Tensor, num_graphs: int, centred: bool
) -> Moments:
    """As for dense points, from sums over the nodes of each graph."""
    points = points.unsqueeze(1).flatten(1, -2)
    count = segment_sum(points.new_full(batch.shape, points.shape[1]), batch, num_graphs)
    count = count.clamp(min=1)[:, None]
    scale = positive(
        segment_sum(_magnitude(points).sum(1, keepdim=True), batch, num_graphs) / count
    )
    points = points / gather_nodes(scale, batch)[:, None]
    centroid = points.new_zeros(num_graphs, points.shape[-1])
    for _ in range(2 * centred):  # twice, as the sum over many nodes, one by one, is rounded
        shift = segment_sum(points.sum(1), batch, num_graphs) / count
        points = points - gather_nodes(shift, batch)[:, None]
        centroid = centroid + shift
    covariance = _segment_covariance(points, batch, num_graphs)
    covariance, radius = _significant(covariance, count[..., None])
    return Moments(centroid * scale, covariance, radius[..., 0, 0] * scale[..., 0])


def _segment_covariance(
    points: Float[Tensor, "nodes channels d"], batch: Tensor, num_graphs: int
) -> Float[Tensor, "graphs d d"]:
    if points.shape[1] > 1:
        return segment_sum(points.mT @ points, batch, num_graphs)
    # One column at a time takes half as long as products of a column and a row.
    rows = points[:, 0]
    columns = [
        segment_sum(rows * rows[:, axis : axis + 1], batch, num_graphs)
        for axis in range(rows.shape[-1])
    ]
    return torch.stack(columns, dim=-1)


def _magnitude(points: Float[Tensor, "*clouds d"]) -> Float[Tensor, "*clouds"]:
    """Largest coordinate of each point; clouds are divided by its mean, lest squares overflow."""
    return points.detach().abs().amax(-1)


def _significant(
    covariance: Float[Tensor, "*batch d d"], count: Tensor | int
) -> tuple[Float[Tensor, "*batch d d"], Float[Tensor, "*batch 1 1"]]:
    """Covariance and root mean square distance, where the mean magnitude of the points is 1.

    Both are zero, and have no derivatives, where they are rounding errors of the centroid.
    """
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    single = trace <= count * (_ROUNDING_ERRORS * torch.finfo(covariance.dtype).eps) ** 2
    radius = (torch.where(single, 1.0, trace) / count).sqrt()
    return torch.where(single, 0.0, covariance), torch.where(single, 0.0, radius)
