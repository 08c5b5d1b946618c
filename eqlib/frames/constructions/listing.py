"""Clouds of every layout as one list of points with principal axes, and lists of their frames."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eqlib.frames.constructions.axes import (
    inverse_of_scaled,
    principal_axes,
    relative_gap,
    sign_choices,
)
from eqlib.frames.constructions.moments import Moments, cloud_moments, positive
from eqlib.frames.spans import sorting_order
from eqlib.frames.types import RaggedFrames
from eqlib.geometry import gather_nodes
from eqlib.symmetry.group import Group

# What weighs less than this changes no digit of an average, nor of its gradient.
NEGLIGIBLE = 1e-20


class Clouds(NamedTuple):
    """A batch of clouds in float64: all points in one list, and what belongs to each cloud.

    ``points`` are relative to the centroid and divided by the ``radius``, which makes their mean
    square one (all are zero in a cloud without extent). ``variances`` (ascending) are those along
    the ``axes`` (column 0 that of the largest; right-handed unless the group has reflections) and
    sum to one. The points of cloud i stand at ``first[i]`` and the next ``sizes[i] - 1`` places.
    ``shape`` is that of the batch; ``nodes`` is the size of all clouds of a dense batch without a
    mask, otherwise None.
    """

    points: Float[Tensor, "nodes d"]
    graph: Int[Tensor, "nodes"]
    first: Int[Tensor, "clouds"]
    sizes: Int[Tensor, "clouds"]
    centroid: Float[Tensor, "clouds d"]
    radius: Float[Tensor, "clouds"]
    variances: Float[Tensor, "clouds d"]
    axes: Float[Tensor, "clouds d d"]
    shape: torch.Size
    nodes: int | None

    @property
    def extended(self) -> Bool[Tensor, "clouds"]:
        """Whether a cloud has an extent; false also where a coordinate is NaN."""
        return self.radius.detach() > 0


class Listing(NamedTuple):
    """Some weighted frames, and the cloud of each."""

    frames: Float[Tensor, "frames d d"]
    cloud: Int[Tensor, "frames"]
    weights: Float[Tensor, "frames"]


def list_clouds(
    points: Float[Tensor, "*clouds d"],
    group: Group,
    mask: Bool[Tensor, "*clouds"] | None,
    batch: Int[Tensor, "nodes"] | None,
    num_graphs: int | None,
    guard: float,
) -> Clouds:
    """All clouds of a dense, masked or ragged batch, checked.

    Args:
        points: as in :func:`~eqlib.frames.pca_frames`.
        group: isometries or similarities.
        mask: True where a point of a dense batch exists.
        batch: graph of each node of a ragged batch.
        num_graphs: number of graphs of a ragged batch.
        guard: that of :func:`~eqlib.geometry.symmetric_eigh`.
    """
    if points.is_floating_point():  # what is not is refused below
        points = points.double()
    moments = cloud_moments(points, group, mask, batch, num_graphs)
    variances, axes = principal_axes(moments.covariance, group, guard)
    shape, width = moments.radius.shape, points.shape[-1]
    clouds = shape.numel()
    radius, centroid = moments.radius.reshape(clouds), moments.centroid.reshape(clouds, width)
    rows, graph = _rows(points, moments, mask, batch)
    variances = variances.reshape(clouds, width)
    nodes = points.shape[-2] if batch is None and mask is None else None
    if nodes is None:
        sizes = torch.bincount(graph, minlength=clouds)
    else:
        sizes = graph.new_full((clouds,), nodes)
    return Clouds(
        points=rows,
        graph=graph,
        first=sizes.cumsum(0) - sizes,
        sizes=sizes,
        centroid=centroid,
        radius=radius,
        variances=variances / positive(variances.sum(-1, keepdim=True)),
        axes=axes.reshape(clouds, width, width),
        shape=shape,
        nodes=nodes,
    )


def all_signs(clouds: Clouds, group: Group) -> Float[Tensor, "clouds signs"]:
    """The same weight for every choice of signs."""
    signs = sign_choices(group, clouds.radius)
    return clouds.radius.new_full((len(clouds.radius), len(signs)), 1 / len(signs))


def list_principal(clouds: Clouds, group: Group, weights: Float[Tensor, "clouds signs"]) -> Listing:
    """Principal frames, one for each choice of signs that has a weight, NaN included."""
    cloud, choice = (~(weights.detach() <= NEGLIGIBLE)).nonzero(as_tuple=True)
    signs = sign_choices(group, weights)[choice]
    return Listing(clouds.axes[cloud] * signs[:, None], cloud, weights[cloud, choice])


def collect(clouds: Clouds, parts: list[Listing], group: Group, dtype: torch.dtype) -> RaggedFrames:
    """All parts in one list, sorted by cloud, in the dtype of the points (at least float32)."""
    dtype = torch.promote_types(dtype, torch.float32)
    frames, cloud, weights = parts[0]
    if len(parts) > 1:  # a single part is sorted
        order = torch.cat([part.cloud for part in parts]).argsort(stable=True)
        frames, cloud, weights = (torch.cat(kind)[order] for kind in zip(*parts, strict=True))
    inverse = None
    if group.preserves == "angles":
        size = clouds.radius[cloud, None, None]
        # All coordinates of a cloud of radius 0 are zero, and its matrices have no inverse.
        inverse, frames = inverse_of_scaled(frames, size).to(dtype), frames * size
    return RaggedFrames(
        frames=frames.to(dtype),
        cloud=cloud,
        weights=weights.to(dtype),
        centroid=clouds.centroid.reshape(*clouds.shape, frames.shape[-1]).to(dtype),
        gap=relative_gap(clouds.variances).reshape(clouds.shape).to(dtype),
        inverse=inverse,
    )


def detached(frames: RaggedFrames) -> RaggedFrames:
    """The same frames as constants; the centroid keeps its gradient."""
    parts = {name: part for name, part in frames._asdict().items() if part is not None}
    constants = {name: part.detach() for name, part in parts.items()}
    return RaggedFrames(**{**constants, "centroid": frames.centroid})


def check_threshold(threshold: float, largest: float) -> None:
    """Refuse a threshold that is not between zero and ``largest``.

    Raises:
        ValueError: it is not.
    """
    if not 0 < threshold <= largest:
        raise ValueError(
            f"threshold: expected a number above 0, at most {largest:g}, got {threshold}"
        )


def _rows(
    points: Tensor, moments: Moments, mask: Tensor | None, batch: Tensor | None
) -> tuple[Tensor, Tensor]:
    """All points that exist in one list, normalised and sorted by cloud, and the cloud of each."""
    width = points.shape[-1]
    if batch is None:
        clouds, nodes = points.shape[:-2].numel(), points.shape[-2]
        graph = torch.arange(clouds, device=points.device).repeat_interleave(nodes)
        if mask is None:
            centroid, radius = moments.centroid[..., None, :], moments.radius[..., None, None]
            return _normalised(points, centroid, radius).reshape(-1, width), graph
        # What the mask excludes may be NaN, and must not reach the derivatives of the radius.
        exists = mask.reshape(-1)
        rows, graph = points.reshape(clouds * nodes, width)[exists], graph[exists]
    else:
        order, channels = sorting_order(batch), points.shape[1:-1].numel()
        if order is not None:
            points, batch = points[order], batch[order]
        rows = points.reshape(len(batch) * channels, width)
        graph = batch.repeat_interleave(channels)
    centroid = gather_nodes(moments.centroid.reshape(-1, width), graph)
    radius = gather_nodes(moments.radius.reshape(-1, 1), graph)
    return _normalised(rows, centroid, radius), graph


def _normalised(points: Tensor, centroid: Tensor, radius: Tensor) -> Tensor:
    """Points relative to the centroid in units of the radius; all zero where that is."""
    return (points - centroid) * torch.where(radius == 0, 0.0, 1 / positive(radius))
