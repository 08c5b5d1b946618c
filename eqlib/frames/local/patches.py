"""Patches: the neighbours of every point, in as many slots for each."""

from math import prod
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from eqlib.frames.constructions.moments import check_layout
from eqlib.geometry import gather_nodes, knn_graph
from eqlib.symmetry.representations import spread

Origin = Literal["point", "centroid"]


class Patches(NamedTuple):
    """The patch of each point of a batch of clouds.

    ``nodes`` (*batch, points, slots) are the neighbours of each point, numbered in its own cloud
    of a dense batch, and through all clouds of a ragged one. Slots beyond the last neighbour, where
    ``exists`` is False, hold the point itself.
    """

    nodes: Int[Tensor, "*points slots"]
    exists: Bool[Tensor, "*points slots"]


Neighbours = Int[Tensor, "2 edges"] | Patches


def nearest_patches(
    points: Float[Tensor, "*clouds d"],
    k: int = 20,
    mask: Bool[Tensor, "*clouds"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
) -> Patches:
    """Find the k points of the same cloud that are nearest to each point, itself the first.

    Args:
        points: clouds in any unit of length: a dense batch, or with ``batch`` a ragged one.
        k: number of points of a patch, the point itself counted; smaller clouds give all.
        mask: True where a point of a dense batch exists.
        batch: graph of each node of a ragged batch, sorted.
        num_graphs: number of graphs of a ragged batch.

    Returns:
        Patches of k slots, by distance. Points that the mask excludes, and those that are not
        finite, are in no patch but their own, which holds nothing else.

    Raises:
        ValueError: shapes do not fit, or ``k`` is less than one.
        TypeError: ``points``, ``mask`` or ``batch`` has the wrong dtype.

    Note:
        Points at the same distance are taken by lower index. Where such a tie falls on the last
        slot, the patch depends on the order of the points, and after a motion on rounding.
    """
    check_size(k)
    check_clouds(points, mask, batch, num_graphs)
    flat = points.detach().reshape(-1, points.shape[-1])
    nodes = flat.shape[0]
    if batch is None:
        shape = points.shape[:-1]
        clouds = torch.arange(nodes, device=points.device) // max(shape[-1], 1)
        num_graphs = prod(shape[:-1])
        if mask is not None:
            found = mask.flatten().nonzero().squeeze(1)
            edges = knn_graph(flat[found], k, clouds[found], num_graphs, loop=True).edge_index
            edges = found[edges]
        else:
            edges = knn_graph(flat, k, clouds, num_graphs, loop=True).edge_index
    else:
        edges = knn_graph(flat, k, batch, num_graphs, loop=True).edge_index
    patches = _in_slots(edges, nodes, k)
    if batch is not None:
        return patches
    index = patches.nodes.reshape(*shape, k) - _first_rows(points)[..., None]
    return Patches(index, patches.exists.reshape(*shape, k))


def patches_of_edges(
    edge_index: Int[Tensor, "2 edges"], nodes: int, slots: int | None = None
) -> Patches:
    """The sources of the edges into each node, in as many slots for each.

    Args:
        edge_index: source and target of each edge, in any order.
        nodes: number of nodes.
        slots: number of slots; by default the largest number of edges into one node, which is read
            from ``edge_index`` (on a GPU this waits for the device).

    Returns:
        One patch per node, its sources in the order of the edges.

    Raises:
        ValueError: a node has more edges than there are slots, or an index is out of range.
        TypeError: ``edge_index`` is not int64.
    """
    if edge_index.dtype != torch.int64:
        raise TypeError(
            f"edge_index: expected torch.int64, got {edge_index.dtype}; convert with .long()"
        )
    if edge_index.ndim != 2 or len(edge_index) != 2:
        raise ValueError(f"edge_index: expected shape (2, edges), got {tuple(edge_index.shape)}")
    target = edge_index[1]
    if edge_index.numel() and (int(edge_index.min()) < 0 or int(edge_index.max()) >= nodes):
        raise ValueError(
            f"edge_index: expected nodes 0 ... {nodes - 1}, "
            f"got {int(edge_index.min())} ... {int(edge_index.max())}"
        )
    most = int(torch.bincount(target, minlength=1).max())
    if slots is not None and slots < most:
        raise ValueError(f"slots: {slots} cannot hold the {most} edges into one node")
    order = target.argsort(stable=True)
    return _in_slots(edge_index[:, order], nodes, most if slots is None else slots)


def gather_patches(
    values: Shaped[Tensor, "*shape"], patches: Patches
) -> Shaped[Tensor, "*patched"]:
    """Values of the points of each patch.

    Args:
        values: per point, (*batch, points, ...), or (nodes, ...) in a ragged batch.
        patches: of these points.

    Returns:
        The values (*batch, points, slots, ...).

    Raises:
        ValueError: ``values`` does not begin with the axes of the points.
    """
    *points, slots = patches.nodes.shape
    if list(values.shape[: len(points)]) != points:
        raise ValueError(
            f"values: expected one row per point, shape ({', '.join(map(str, points))}, ...), "
            f"got {tuple(values.shape)}"
        )
    own = values.shape[len(points) :]
    index = patches.nodes + _first_rows(patches.nodes)[..., None]
    rows = gather_nodes(values.reshape(prod(points), *own), index.flatten())
    return rows.reshape(*points, slots, *own)


def find_patches(
    points: Tensor,
    k: int,
    neighbours: Neighbours | None = None,
    mask: Tensor | None = None,
    batch: Tensor | None = None,
    num_graphs: int | None = None,
) -> Patches:
    """The patches as given, or of the nearest points.

    Args:
        points: clouds: a dense batch, or with ``batch`` a ragged one.
        k: number of points of a patch where none are given.
        neighbours: edges, or patches.
        mask: True where a point of a dense batch exists; others are in no patch.
        batch: graph of each node of a ragged batch.
        num_graphs: number of graphs of a ragged batch.

    Raises:
        ValueError: shapes do not fit.
        TypeError: a tensor has the wrong dtype.
    """
    if neighbours is None:
        return nearest_patches(points, k, mask, batch, num_graphs)
    check_clouds(points, mask, batch, num_graphs)
    if isinstance(neighbours, Tensor):
        patches = patches_of_edges(neighbours, points.shape[-2])
        shape = (*points.shape[:-1], patches.nodes.shape[-1])
        patches = Patches(patches.nodes.expand(shape), patches.exists.expand(shape))
    else:
        patches = neighbours
    if patches.nodes.shape[:-1] != points.shape[:-1]:
        raise ValueError(
            f"neighbours: expected a patch for each point, shape {tuple(points.shape[:-1])}, "
            f"got {tuple(patches.nodes.shape[:-1])}"
        )
    if mask is None:
        return patches
    exists = patches.exists & gather_patches(mask, patches) & mask[..., None]
    own = torch.arange(points.shape[-2], device=points.device)[:, None]
    return Patches(torch.where(exists, patches.nodes, own), exists)


def relative_points(
    points: Float[Tensor, "*clouds d"], patches: Patches, origin: Origin, mask: Tensor | None
) -> tuple[Float[Tensor, "*clouds slots d"], Float[Tensor, "*clouds d"]]:
    """Points of each patch relative to its origin, zero in missing slots, and the origin.

    Args:
        points: clouds, dense or ragged.
        patches: of these points.
        origin: "point" or "centroid", that of the patch.
        mask: True where a point of a dense batch exists.

    Returns:
        Both in float64.

    Raises:
        ValueError: ``origin`` is none of the two.
    """
    check_origin(origin)
    points = without_padding(points.double(), mask)
    relative = gather_patches(points, patches) - points[..., None, :]
    if origin == "point":
        return relative, points
    exists = patches.exists[..., None]
    shift = (relative * exists).sum(-2) / exists.sum(-2).clamp(min=1)
    return relative - shift[..., None, :] * exists, points + shift


def without_padding(values: Tensor, mask: Tensor | None) -> Tensor:
    """Clear the rows of points that do not exist."""
    return values if mask is None else torch.where(spread(mask, values, own_axes=0), values, 0)


def check_size(k: int) -> None:
    """Refuse patches without points.

    Raises:
        ValueError: ``k`` is less than one, or no integer.
    """
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"k: expected at least one point in a patch, got {k}")


def check_origin(origin: str) -> None:
    """Refuse an unknown origin.

    Raises:
        ValueError: it is neither "point" nor "centroid".
    """
    if origin not in ("point", "centroid"):
        raise ValueError(f"origin: expected 'point' or 'centroid', got {origin!r}")


def check_clouds(
    points: Tensor, mask: Tensor | None, batch: Tensor | None, num_graphs: int | None
) -> None:
    """Refuse what is no batch of clouds.

    Args:
        points: clouds: a dense batch, or with ``batch`` a ragged one.
        mask: True where a point of a dense batch exists.
        batch: graph of each node of a ragged batch.
        num_graphs: number of graphs of a ragged batch.

    Raises:
        ValueError: shapes do not fit.
        TypeError: ``points``, ``mask`` or ``batch`` has the wrong dtype.
    """
    if points.ndim < 2 or (batch is not None and points.ndim != 2):
        expected = "(..., points, d)" if batch is None else "(nodes, d)"
        raise ValueError(f"points: expected shape {expected}, got {tuple(points.shape)}")
    check_layout(points, mask, batch, num_graphs)


def _in_slots(edge_index: Tensor, nodes: int, slots: int) -> Patches:
    """Sources by target, of edges that are sorted by target."""
    source, target = edge_index
    count = torch.bincount(target, minlength=nodes)
    place = torch.arange(len(target), device=target.device) - (count.cumsum(0) - count)[target]
    own = torch.arange(nodes, device=target.device)
    index = own[:, None].repeat(1, slots)
    index[target, place] = source
    return Patches(index, torch.arange(slots, device=target.device) < count[:, None])


def _first_rows(points: Tensor) -> Tensor:
    """For each point of a dense batch, the row of the first point of its cloud among all points."""
    *batch, nodes, _ = points.shape
    first = nodes * torch.arange(prod(batch), device=points.device)
    return first.reshape(*batch, 1).expand(*batch, nodes)
