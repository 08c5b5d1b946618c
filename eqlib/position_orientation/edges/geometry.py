"""The geometry that all layers of a network share: edges, offsets and axes of orientations."""

from math import inf
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eqlib.geometry import complete_graph, knn_graph, radius_graph
from eqlib.kernels.tracing import is_readable
from eqlib.position_orientation._arguments import (
    check_edges,
    check_orientations,
    check_points,
    check_positive,
)
from eqlib.position_orientation.edges.connectivity import (
    Edges,
    come_in_pairs,
    join_all,
    sort_edges,
    sort_pairs,
)
from eqlib.position_orientation.grids import OrientationGrid
from eqlib.symmetry.group import Group

Search = Literal["dense", "knn", "radius"]


class Geometry(NamedTuple):
    """Edges, offsets and orientations, in the form of the convolution.

    Attributes:
        offsets: source minus target of each edge, rescaled.
        scalars: further invariants of each edge.
        orientations: the grid of every graph, or of all.
        axes: axes of these orientations.
        source: node that each edge leaves.
        target: node that each edge enters, ascending.
        starts: where the edges of each target begin, and the number of edges.
        by_source: the edges, sorted stably by source.
        source_starts: where those of each source begin, and the number of edges.
        frame: row of ``axes`` of each edge; empty: the first.
        opposite: orientation opposite to each, where an edge stands for both directions; or empty.
        batch: graph of each node; None: there is one graph.
        mask: nodes that there are; None: all.
        attributes: name of what the kernels know about an offset.
        radius: where the window ends, in the unit of the rescaled offsets; infinite: no window.
    """

    offsets: Float[Tensor, "edges n"]
    scalars: Float[Tensor, "edges scalars"]
    orientations: Tensor
    axes: Float[Tensor, "graphs grid axes n"]
    source: Int[Tensor, "edges"]
    target: Int[Tensor, "edges"]
    starts: Int[Tensor, "nodes_1"]
    by_source: Int[Tensor, "edges"]
    source_starts: Int[Tensor, "nodes_1"]
    frame: Int[Tensor, "edges_or_0"]
    opposite: Int[Tensor, "grid_or_0"]
    batch: Int[Tensor, "nodes"] | None
    mask: Bool[Tensor, "nodes"] | None
    attributes: str
    radius: float

    @property
    def num_nodes(self) -> int:
        """Number of nodes, those that a mask excludes included."""
        return self.starts.shape[0] - 1


def make_geometry(
    points: Float[Tensor, "*clouds n"],
    grid: OrientationGrid,
    group: str | Group | None = None,
    *,
    orientations: Tensor | None = None,
    edge_index: Int[Tensor, "2 edges"] | None = None,
    search: Search = "dense",
    k: int | None = None,
    radius: float | None = None,
    edge_scalars: Tensor | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    mask: Bool[Tensor, "clouds nodes"] | None = None,
    self_loops: bool = True,
    length: float = 1.0,
    reach: float | None = None,
    paired: bool | None = None,
) -> Geometry:
    r"""Edges of a cloud or of a batch of clouds, with their offsets, seen from a grid.

    .. math:: r_e = \frac{d_e}{\sqrt{1 + |d_e|^2 / \rho^2}}, \qquad
        d_e = (p_{\text{source}} - p_{\text{target}}) / \ell

    with :math:`\ell` the length and :math:`\rho` the reach.

    Where the grid holds the opposite of each orientation, the kernel of an edge at o is that of its
    reverse at -o. One edge then stands for both directions, which halves the work and changes
    results by rounding only.

    Args:
        points: positions of the nodes (nodes, n), in any unit; or of the nodes of clouds of one
            size, (clouds, nodes, n), which are taken as one batch with a graph for each.
        grid: orientations; it states the space.
        group: "SE(n)", the default, or "E(n)".
        orientations: the grid turned, or turned for each graph on its own, (graphs, ...). Lengths
            and angles are checked on the CPU outside of compilers.
        edge_index: source and target of each edge, in any order, both in one graph; by default
            there is a search. An edge that is there twice counts twice.
        search: what it joins: "dense" all nodes of a graph, "knn" each with its nearest, "radius"
            those within a distance.
        k: number of nearest nodes, for "knn".
        radius: where the kernels end, in the unit of ``points``, and the distance for "radius";
            by default they do not end.
        edge_scalars: invariants of each edge, (edges, s), in the order of ``edge_index``; or, for
            clouds of one size, (clouds, nodes, nodes, s), targets first.
        batch: graph of each node, sorted; by default there is one graph.
        num_graphs: number of graphs; by default up to the last one that has a node.
        mask: nodes that there are, in clouds of one size; the others send and receive nothing.
        self_loops: add an edge from each node to itself, with scalars 0 (or the diagonal ones).
            ``edge_index`` should then have none, as a loop in it counts as one more edge.
        length: unit of the kernels, in the unit of ``points``.
        reach: length that rescaled offsets stay below, in units of ``length``; it keeps polynomials
            bounded. By default there is none.
        paired: whether edges come in both directions, each once, with the same scalars. By default
            it is found out where that needs no synchronisation and no gradient of the scalars: in
            dense searches, and on the CPU outside of compilers. True is a promise, of edges
            without loops; it is checked on the CPU. False asks for one edge per direction.

    Returns:
        What every layer of a network takes, the same for all.

    Raises:
        TypeError: an argument has the wrong dtype.
        ValueError: an argument has an unfit shape or value, or the arguments contradict each other.

    Note:
        With ``edge_index``, and for clouds of one size or a single graph joined densely, compilers
        can trace this function. Other searches read sizes: call them before, and pass the edges.
    """
    check_points(points, grid.space, batch, mask, num_graphs)
    check_edges(points, edge_index, edge_scalars, batch, search, k, radius)
    clouds = points.shape[:2] if points.ndim == 3 else None
    if clouds is not None:
        points, edge_scalars, mask, batch, num_graphs = _flat(points, edge_scalars, mask)
    pairs = paired if grid.opposite.numel() else False
    wanted = _Wanted(search, k, radius, self_loops, pairs, batch, num_graphs, mask, clouds)
    edges, scalars = _connect(points, edge_index, edge_scalars, wanted)
    frames = _per_graph(orientations, grid, batch, num_graphs)
    offsets, radius = _offsets(points, edges, length, reach, radius)
    return Geometry(
        *(offsets, scalars.to(offsets.dtype), frames.to(offsets.dtype)),
        grid.space.axes(frames, group).to(offsets.dtype),
        *edges[:5],
        edges.target[:0] if batch is None or frames.shape[0] == 1 else batch[edges.target],
        grid.opposite if edges.paired else grid.opposite[:0],
        batch,
        mask,
        grid.space.attributes(group),
        radius,
    )


class _Wanted(NamedTuple):
    """Which edges are asked for."""

    search: str
    k: int | None
    radius: float | None
    loops: bool
    paired: bool | None
    batch: Tensor | None
    num_graphs: int | None
    mask: Tensor | None
    clouds: torch.Size | None


def _connect(
    points: Tensor, edge_index: Tensor | None, scalars: Tensor | None, wanted: _Wanted
) -> tuple[Edges, Tensor]:
    """Return the sorted edges and their scalars."""
    clouds, whole = wanted.clouds, wanted.clouds is not None or wanted.batch is None
    nodes, symmetric, paired = points.shape[0], False, wanted.paired is not False
    if edge_index is None and wanted.search == "dense" and whole:
        shape = torch.Size([1, nodes]) if clouds is None else clouds
        return _connect_clouds(shape, points, scalars, wanted)
    if edge_index is None:
        edge_index, symmetric = _search(points, wanted)
    source, target = edge_index
    scalars = points.new_zeros(source.shape[0], 0) if scalars is None else scalars
    if not symmetric and paired:
        paired = _come_in_pairs(source, target, nodes, scalars, wanted.paired)
    loops = nodes if wanted.loops else 0
    if loops:
        own = torch.arange(nodes, device=source.device)
        source, target = torch.cat([source, own]), torch.cat([target, own])
        scalars = torch.cat([scalars, scalars.new_zeros(nodes, scalars.shape[1])])
    edges = (
        sort_pairs(source, target, nodes, loops) if paired else sort_edges(source, target, nodes)
    )
    return edges, scalars.index_select(0, edges.rows)


def _search(points: Tensor, wanted: _Wanted) -> tuple[Tensor, bool]:
    """Return source and target of edges, and whether both directions of all are there."""
    points = points.detach()
    if wanted.mask is None or wanted.batch is None:
        return _found(points, wanted.batch, wanted)
    # What the mask excludes takes no place among the nearest.
    present = wanted.mask.nonzero().squeeze(-1)
    edge_index, symmetric = _found(points[present], wanted.batch[present], wanted)
    return present[edge_index], symmetric


def _found(points: Tensor, batch: Tensor | None, wanted: _Wanted) -> tuple[Tensor, bool]:
    """Return what the search among some points finds."""
    num_graphs = wanted.num_graphs
    if wanted.search == "knn":
        return knn_graph(points, wanted.k or 0, batch, num_graphs).edge_index, False
    if wanted.search == "radius":
        radius = inf if wanted.radius is None else wanted.radius
        return radius_graph(points, radius, batch, num_graphs).edge_index, True
    whole = points.new_zeros(points.shape[0], dtype=torch.int64) if batch is None else batch
    return complete_graph(whole, num_graphs), True


def _connect_clouds(
    clouds: torch.Size, points: Tensor, scalars: Tensor | None, wanted: _Wanted
) -> tuple[Edges, Tensor]:
    """Join all nodes of clouds of one size; the scalars stand in matrices."""
    paired = wanted.paired is not False
    if scalars is not None and paired:
        paired = _are_symmetric(scalars, wanted.paired)
    edges = join_all(clouds[0], clouds[1], points.device, wanted.loops, paired)
    if scalars is None:
        return edges, points.new_zeros(edges.source.shape[0], 0)
    rows = edges.target * clouds[1] + edges.source % max(clouds[1], 1)
    return edges, scalars.flatten(0, 2).index_select(0, rows)


def _are_symmetric(scalars: Tensor, promised: bool | None) -> bool:
    """Find out whether matrices of scalars are symmetric, or check the promise."""
    if not _readable(scalars.detach() if promised else scalars):
        return bool(promised)
    found = torch.equal(scalars, scalars.transpose(1, 2))
    if promised and not found:
        raise ValueError(
            "paired is True, but edge_scalars differ between the two directions of an edge; leave "
            "paired out to have it found out"
        )
    return found


def _come_in_pairs(
    source: Tensor, target: Tensor, nodes: int, scalars: Tensor, promised: bool | None
) -> bool:
    """Find out whether one edge may stand for both directions, or check the promise."""
    if not _readable(scalars.detach() if promised else scalars):
        return bool(promised)
    found = come_in_pairs(source, target, nodes, scalars)
    if promised and not found:
        raise ValueError(
            "paired is True, but edge_index does not hold both directions of every edge, each "
            "once, with equal edge_scalars and without loops; leave paired out to have it found out"
        )
    return found


def _readable(tensor: Tensor) -> bool:
    """Whether values may decide on the form of the edges: they are there, and are constants."""
    return is_readable(tensor) and not tensor.requires_grad


def _flat(
    points: Tensor, scalars: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor, int]:
    """Flatten clouds to nodes; what the mask excludes may hold anything, and counts as zero."""
    clouds, nodes = points.shape[:2]
    batch = torch.arange(clouds * nodes, device=points.device) // max(nodes, 1)
    if mask is not None:
        points = torch.where(mask.unsqueeze(-1), points, 0.0)
        if scalars is not None:
            both = mask[:, :, None, None] & mask[:, None, :, None]
            scalars = torch.where(both, scalars, 0.0)
        mask = mask.flatten()
    return points.flatten(0, 1), scalars, mask, batch, clouds


def _offsets(
    points: Tensor, edges: Edges, length: float, reach: float | None, radius: float | None
) -> tuple[Tensor, float]:
    """Return the offsets and the radius, rescaled."""
    check_positive("length", length)
    if reach is not None:
        check_positive("reach", reach)
    points = points.to(torch.promote_types(points.dtype, torch.float32))
    offsets = points.index_select(0, edges.source) - points.index_select(0, edges.target)
    offsets, radius = offsets / length, inf if radius is None else radius / length
    if reach is None:
        return offsets, radius
    shrunk = offsets / (1 + (offsets / reach).square().sum(-1, keepdim=True)).sqrt()
    return shrunk, inf if radius == inf else radius / (1 + (radius / reach) ** 2) ** 0.5


def _per_graph(
    orientations: Tensor | None,
    grid: OrientationGrid,
    batch: Tensor | None,
    num_graphs: int | None,
) -> Tensor:
    """Return orientations with an axis for the graphs, of length 1 where all share them."""
    orientations = grid.orientations if orientations is None else orientations
    own = len(grid.space.orientation_shape) + 1
    turned = orientations.unsqueeze(0) if orientations.ndim == own else orientations
    expected = (*turned.shape[:1], *grid.orientations.shape)
    graphs = 1 if batch is None else num_graphs
    count = turned.shape[0]
    if turned.shape != expected or (count != 1 and graphs not in (None, count)):
        raise ValueError(
            f"orientations has shape {tuple(orientations.shape)}; expected the grid turned, "
            f"{tuple(grid.orientations.shape)}, or one for each of {graphs or 'num_graphs'} "
            "graphs before that"
        )
    if orientations is not grid.orientations:
        check_orientations("orientations", orientations, grid.space)
    return turned
