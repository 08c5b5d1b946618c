"""Neighbour lists of point clouds: by distance or by number, with or without a lattice."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eqlib.geometry._cloud import Cloud, make_cloud
from eqlib.geometry._images import displacements
from eqlib.geometry._search import Edges, Method, neighbours_within, prefers_cells
from eqlib.geometry.segments import segment_max


class Neighbours(NamedTuple):
    """Edges of a neighbour list, sorted by target.

    Attributes:
        edge_index: source and target of each edge.
        offsets: with a cell, the lattice translation of the source, in whole lattice vectors:
            the edge goes from the target to ``points[source] + offsets @ cell``.
    """

    edge_index: Int[Tensor, "2 edges"]
    offsets: Int[Tensor, "edges d"] | None


def edge_vectors(
    points: Float[Tensor, "nodes d"],
    neighbours: Neighbours,
    cell: Float[Tensor, "*graphs d d"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
) -> Float[Tensor, "edges d"]:
    r"""Displacement of each edge, from its target to its source.

    .. math:: v_e = x_{\text{source}} - x_{\text{target}} + o_e\,C

    with :math:`o_e` the offset and :math:`C` the cell, its lattice vectors in rows. Differentiable
    in ``points`` and ``cell``.

    Args:
        points: positions, in any length unit.
        neighbours: what :func:`radius_graph` or :func:`knn_graph` returned for these points.
        cell: the cell given there, in the unit of ``points``.
        batch: the graph index given there.

    Returns:
        Displacements, in the unit of ``points``.

    Raises:
        ValueError: only one of ``cell`` and ``neighbours.offsets`` is given.
    """
    source, target = neighbours.edge_index
    if (cell is None) != (neighbours.offsets is None):
        raise ValueError(
            "expected a cell exactly where neighbours has offsets; "
            f"got cell={'None' if cell is None else tuple(cell.shape)} and "
            f"offsets={'None' if neighbours.offsets is None else 'given'}"
        )
    if cell is not None:
        cell = cell[batch[target]] if cell.ndim == 3 and batch is not None else cell
    return displacements(points, source, target, neighbours.offsets, cell)


def radius_graph(
    points: Float[Tensor, "nodes d"],
    radius: float,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    cell: Float[Tensor, "*graphs d d"] | None = None,
    pbc: Bool[Tensor, "*graphs d"] | Sequence[bool] | None = None,
    *,
    loop: bool = False,
    max_neighbours: int | None = None,
    method: Method = "auto",
    chunk: int | None = None,
) -> Neighbours:
    r"""Connect each node to all nodes of its graph within a distance, the distance included.

    .. math:: \lVert x_{\text{source}} - x_{\text{target}} + o\,C \rVert \le r

    as computed in the dtype of ``points`` (float32 for half and bfloat16) from direct differences.
    Every lattice translation :math:`o` counts that is near enough, also several of one node and,
    except at :math:`o = 0`, those of the target itself.

    Args:
        points: positions, in any length unit, in any number of dimensions.
        radius: largest distance, in the unit of ``points``.
        batch: graph index of each node, sorted; by default one graph.
        num_graphs: number of graphs; by default up to the last one that has a node.
        cell: lattice vectors in rows, in the unit of ``points``, one lattice for all graphs or
            one for each. Points may lie outside the cell.
        pbc: directions that repeat, for all graphs or for each; by default, with a cell, all. The
            lattice vector of another direction has no meaning, save that it completes the basis.
        loop: also connect each node to itself, at zero translation.
        max_neighbours: keep only so many of the nearest sources of each target, ties by lower
            source index; ``loop`` counts as one.
        method: ``dense`` compares all pairs of a graph; ``cells`` sorts nodes into cubes a radius
            wide, of the first three coordinates, and compares adjacent ones, which suits clouds
            of even density; ``auto`` takes cells for graphs from some 150 nodes on. The answer is
            the same.
        chunk: how many candidate pairs to hold at once, which bounds the memory beyond that of
            points, images and edges; by default 2^18 on the CPU, 2^24 elsewhere.

    Returns:
        Edges sorted by target, then by source and offset, or with ``max_neighbours`` by distance;
        ``offsets`` is None without a cell.

    Raises:
        TypeError: ``points`` is not floating point, or ``batch`` not int64.
        ValueError: an argument has an unfit shape, value or device, ``batch`` is not sorted, or a
            cell is singular.

    Note:
        A node with a coordinate that is not finite, and all nodes of a graph with such a cell,
        have no neighbours; the others are as without them. Distances that differ from the radius
        by less than rounding may fall on either side.
    """
    if not 0 <= radius < math.inf:
        raise ValueError(f"radius is {radius}; expected a finite distance, at least 0")
    if max_neighbours is not None and max_neighbours < 0:
        raise ValueError(f"max_neighbours is {max_neighbours}; expected None or at least 0")
    cloud, nodes = make_cloud(points, batch, num_graphs, cell, pbc)
    radius = min(radius, torch.finfo(cloud.points.dtype).max)
    scaled, reach = cloud.scaled(cloud.points.new_full((cloud.num_graphs,), radius))
    targets = torch.arange(len(nodes), device=points.device)
    chunk = _chunk(chunk, points)
    edges = neighbours_within(scaled, targets, reach, loop, max_neighbours, _known(method), chunk)
    return _neighbours(edges, nodes)


def knn_graph(
    points: Float[Tensor, "nodes d"],
    k: int,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    cell: Float[Tensor, "*graphs d d"] | None = None,
    pbc: Bool[Tensor, "*graphs d"] | Sequence[bool] | None = None,
    *,
    loop: bool = False,
    method: Method = "auto",
    chunk: int | None = None,
) -> Neighbours:
    """Connect each node to the k nearest nodes of its graph.

    Distances are those of :func:`radius_graph`; sources at the same distance are taken by lower
    index, then by offset.

    Args:
        points: positions, in any length unit, in any number of dimensions.
        k: number of sources of each target. A graph without period that has fewer gives all it
            has; with a period there is no end of images.
        batch: as in :func:`radius_graph`.
        num_graphs: as in :func:`radius_graph`.
        cell: as in :func:`radius_graph`.
        pbc: as in :func:`radius_graph`.
        loop: count each node, at distance 0, as a neighbour of its own.
        method: as in :func:`radius_graph`; ``cells`` widens the cubes until they hold k nodes.
        chunk: as in :func:`radius_graph`; at least the pairs of one target are held at once.

    Returns:
        Edges sorted by target, then by distance; ``offsets`` is None without a cell.

    Raises:
        TypeError: as in :func:`radius_graph`.
        ValueError: as in :func:`radius_graph`, or ``k`` is negative.

    Note:
        Nodes that are not finite are treated as in :func:`radius_graph`.
    """
    if k < 0:
        raise ValueError(f"k is {k}; expected at least 0")
    cloud, nodes = make_cloud(points, batch, num_graphs, cell, pbc)
    edges = _nearest(cloud, k, loop, _known(method), _chunk(chunk, points))
    return _neighbours(edges, nodes)


def _nearest(cloud: Cloud, k: int, loop: bool, method: Method, chunk: int) -> Edges:
    """Search within radii that grow until every target has its k neighbours."""
    sizes = cloud.sizes()
    wanted = (sizes if loop else sizes - 1).clamp(max=k)
    if cloud.pbc is not None:
        wanted = torch.where(cloud.pbc.any(1), k, wanted)
    cloud, radius = cloud.scaled(_spacing(cloud, k))
    if cloud.cell is None and method == "auto":
        large = prefers_cells(int(sizes.square().sum()), len(cloud.points))
        method = "cells" if large else "dense"
    if cloud.cell is None and method == "dense":
        radius = radius.new_full((cloud.num_graphs,), math.inf)
    targets = torch.arange(len(cloud.points), device=cloud.points.device)
    rounds = []
    while True:
        edges = neighbours_within(cloud, targets, radius, loop, k, method, chunk)
        found = torch.bincount(edges.target, minlength=len(cloud.points))
        done = found >= wanted[cloud.graph]
        rounds.append(edges.select(done[edges.target]))
        targets = targets[~done[targets]]
        if len(targets) == 0:
            break
        radius = 1.5 * radius
    edges = Edges.concatenate(rounds)
    return edges.select(edges.target.argsort(stable=True))


def _spacing(cloud: Cloud, k: int) -> Tensor:
    """Estimate, from below rather than above, the radius in each graph that holds k nodes.

    Half the side of a cube with k nodes at even density. Too small costs another round with few
    candidates, too large costs many candidates.
    """
    d = cloud.points.shape[1]
    highest, lowest = (
        sign * segment_max(sign * cloud.points, cloud.graph, cloud.num_graphs) for sign in (1, -1)
    )
    lengths = highest - lowest
    if cloud.cell is not None and cloud.pbc is not None:
        period = cloud.cell.abs().amax(2)  # a norm that cannot over- or underflow
        extent = lengths.amax(1, keepdim=True)
        lengths = torch.where(cloud.pbc, period, torch.minimum(period, extent))
    sizes = cloud.sizes().clamp(min=1)
    lengths = torch.maximum(lengths, lengths.amax(1, keepdim=True) / sizes[:, None])
    spacing = 0.5 * (lengths * (k / sizes[:, None]) ** (1 / d)).log().mean(1).exp()
    return torch.where(spacing > 0, spacing, 1.0)


def _known(method: Method) -> Method:
    if method not in ("auto", "dense", "cells"):
        raise ValueError(f"method is {method!r}; expected 'auto', 'dense' or 'cells'")
    return method


def _chunk(chunk: int | None, points: Tensor) -> int:
    if chunk is None:
        return 2**18 if points.device.type == "cpu" else 2**24
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; expected at least 1 pair")
    return chunk


def _neighbours(edges: Edges, nodes: Tensor) -> Neighbours:
    return Neighbours(torch.stack([nodes[edges.source], nodes[edges.target]]), edges.offsets)
