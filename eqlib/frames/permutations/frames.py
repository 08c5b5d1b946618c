"""Permutation frames of graphs: all orders of the nodes that sort keys which ignore labels."""

from functools import cache
from itertools import permutations
from math import log10
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from eqlib.frames.permutations.classes import NodeClasses, node_classes

LIMIT = 720


class PermutationFrames(NamedTuple):
    """Orders of the nodes of each graph of a batch, as a weighted list.

    ``order`` holds the orders one after the other: the node that stands in each slot, counted over
    the whole batch (the nodes of graph g of a dense batch of n are g n ... g n + n - 1, those that
    the mask excludes come last). ``frame`` is the order that each entry belongs to, ``graph`` the
    graph of each order, and ``weights`` sum to one over the orders of a graph.

    ``size`` is the number of orders that the frame of a graph has, ``log10_size`` its logarithm,
    and ``exact`` tells whether the average is that over all of them, or over samples. ``single``
    is True where all orders of a graph are known to give the same reordered graph. ``margin`` is
    that of :class:`NodeClasses`.
    """

    order: Int[Tensor, "entries"]
    frame: Int[Tensor, "entries"]
    graph: Int[Tensor, "frames"]
    weights: Float[Tensor, "frames"]
    exact: Bool[Tensor, "graphs"]
    size: tuple[int, ...]
    log10_size: Float[Tensor, "graphs"]
    margin: Float[Tensor, "graphs"]
    single: Bool[Tensor, "graphs"]


def permutation_frames(
    graph: Shaped[Tensor, "*batch rows columns"],
    features: Shaped[Tensor, "..."] | None = None,
    mask: Bool[Tensor, "*batch rows"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    *,
    edge_weight: Shaped[Tensor, "edges"] | None = None,
    normalised: bool = False,
    refine: bool = True,
    tolerance: float = 1e-4,
    limit: int = LIMIT,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> PermutationFrames:
    r"""Permutation frames of graphs: all orders of the nodes that sort their keys.

    The keys of node i are its features, its self loop, and
    :math:`s_k(i) = (\sum_{j \in E_k} V_{ij}^2)^{1/2}` for the eigenspaces :math:`E_k` of the
    Laplacian :math:`D - A` with eigenvectors V. Nodes are sorted by the first key, then the second
    and so on. Nodes with the same keys form a class of m nodes with m! orders, and the frame is the
    set of all :math:`\prod m!` orders. Relabelling the nodes relabels this set, hence an average
    over it is exactly invariant. Automorphisms permute nodes of the same class: the frame has at
    least as many orders as the graph has automorphisms.

    Args:
        graph: adjacency matrices (\*batch, nodes, nodes) of any real dtype, or with ``batch`` the
            ``edge_index`` (2, edges) of a ragged batch. Of matrices that are not symmetric,
            Laplacians see the symmetric part only, refinement all.
        features: (\*batch, nodes[, channels]) or (nodes[, channels]); the first keys. Integers and
            booleans are compared exactly.
        mask: True for the nodes of a dense batch that exist.
        batch: graph of each node of a ragged batch, sorted.
        num_graphs: number of graphs of a ragged batch; by default up to the last one with a node.
        edge_weight: of the edges of a ragged batch; by default one. Edges given twice add up, and
            weight zero is no edge.
        normalised: use :math:`D^{-1/2} (D - A) D^{-1/2}`.
        refine: split classes by colour refinement (1-WL) with the edges, which never separates
            nodes that an automorphism exchanges, and leaves far fewer orders.
        tolerance: keys are equal where their sorted values differ by less: by this number for
            :math:`s_k`, and times the largest magnitude in the graph for eigenvalues, features
            and weights.
        limit: list all orders of graphs that have at most so many; 0 draws samples of all graphs.
        samples: number of orders to draw, uniformly and independently, of all other graphs.
        generator: source of the samples; by default that of torch.

    Returns:
        The orders, their weights, and the sizes of the frames.

    Raises:
        ValueError: a frame has more than ``limit`` orders and there is no number of ``samples``; a
            shape does not fit, a value is not finite, or an option is out of range.
        TypeError: a tensor has the wrong dtype.

    Note:
        Samples make averages equivariant in expectation only. Keys are computed in float64. Exact
        equality would take rounding errors of repeated eigenvalues for gaps. With the gap above the
        tolerance, rounding moves :math:`s_k` by at most :math:`\sqrt{\epsilon / \text{gap}}` = 1e-6
        (near zero; 1e-12 elsewhere). An order may depend on the labels only where ``margin`` is
        below 1e-2. Cost: one eigendecomposition per graph, in batches of graphs of one size.

    Source:
        Puny et al., Frame Averaging for Invariant and Equivariant Network Design, ICLR 2022;
        gap tolerance, refinement and samples are added here.
    """
    classes = node_classes(
        graph, features, mask, batch, num_graphs, edge_weight, normalised, refine, tolerance
    )
    return class_frames(classes, limit, samples, generator)


def class_frames(
    classes: NodeClasses,
    limit: int = LIMIT,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> PermutationFrames:
    """The orders that sort given classes; the arguments are those of :func:`permutation_frames`.

    Raises:
        ValueError: as in :func:`permutation_frames`.
    """
    if limit < 0 or (samples is not None and samples < 1):
        raise ValueError(f"limit, samples: expected at least 0 and 1, got {limit} and {samples}")
    size = classes.size
    small = torch.tensor([count <= limit for count in size], dtype=torch.bool)
    if samples is None and not bool(small.all()):
        raise too_large(size, limit)
    device = classes.batch.device
    small = small.to(device)
    parts = _all_orders(classes, small)
    if samples is not None:
        parts += _drawn_orders(classes, ~small, samples, generator)
    order, frame, graph = _sorted(parts, device)
    share = torch.bincount(graph, minlength=len(size)).double().reciprocal()
    single = torch.tensor([count == 1 for count in size], dtype=torch.bool, device=device)
    return PermutationFrames(
        order,
        frame,
        graph,
        share[graph],
        small | single,
        size,
        classes.log10_size,
        classes.margin,
        single,
    )


def sample_orders(
    classes: NodeClasses, samples: int = 1, generator: torch.Generator | None = None
) -> Int[Tensor, "samples rows"]:
    """Draw orders of all graphs of a batch, uniformly among those that sort their classes.

    Args:
        classes: those of the nodes.
        samples: number of orders of each graph.
        generator: source of randomness; by default that of torch.

    Returns:
        The node that stands in each slot; nodes stay in the rows of their graph, and those that a
        mask excludes stand last.

    Raises:
        ValueError: ``samples`` is less than one.

    Note:
        One sort of the batch per sample, with no loop over graphs.
    """
    if samples < 1:
        raise ValueError(f"samples: expected at least one order of each graph, got {samples}")
    device = classes.batch.device if generator is None else generator.device
    noise = torch.rand(
        samples, len(classes.batch), generator=generator, dtype=torch.float64, device=device
    )
    shuffled = noise.to(classes.batch.device).argsort(dim=-1)
    by_class = _sorting_keys(classes)[shuffled].argsort(dim=-1, stable=True)
    return shuffled.gather(-1, by_class)


_Orders = tuple[Tensor, Tensor]  # graphs (frames,) and orders (frames, nodes)


def _sorting_keys(classes: NodeClasses) -> Tensor:
    """Numbers that sort nodes by graph, then class."""
    width = len(classes.batch) + 1
    # Excluded nodes, class -1, get the largest number in their graph.
    return classes.batch * width + classes.classes % width


def _all_orders(classes: NodeClasses, chosen: Tensor) -> list[_Orders]:
    """All orders of the chosen graphs; those whose classes have the same sizes at once."""
    order, number = _sorting_keys(classes).argsort(stable=True), len(classes.margin)
    counts = torch.bincount(classes.batch, minlength=number)
    start = counts.cumsum(0) - counts
    profiles: dict[tuple[int, ...], list[int]] = {}
    runs = _runs(classes.classes[order], classes.batch[order], number)
    for graph in chosen.nonzero()[:, 0].tolist():
        profiles.setdefault(runs[graph], []).append(graph)
    parts = []
    for profile, members in profiles.items():
        graph = torch.tensor(members, device=order.device)
        table = _table(profile).to(order.device)
        rows = start[graph, None, None] + table
        parts.append((graph.repeat_interleave(len(table)), order[rows].flatten(0, 1)))
    return parts


def _runs(classes: Tensor, batch: Tensor, number: int) -> list[tuple[int, ...]]:
    """Sizes of the classes of each graph, in order; excluded nodes count as classes of one."""
    found: list[list[int]] = [[] for _ in range(number)]
    last: tuple[int, int] = (-1, -1)
    for graph, kind in zip(batch.tolist(), classes.tolist(), strict=True):
        if (graph, kind) == last and kind >= 0:
            found[graph][-1] += 1
        else:
            found[graph].append(1)
        last = (graph, kind)
    return [tuple(sizes) for sizes in found]


def _table(profile: tuple[int, ...]) -> Int[Tensor, "orders slots"]:
    """All orders of slots that permute runs of the given sizes."""
    table = torch.zeros(1, 0, dtype=torch.int64)
    for size in profile:
        run = _permutations(size) + table.shape[1]
        table = torch.cat([table.repeat_interleave(len(run), 0), run.repeat(len(table), 1)], dim=1)
    return table


@cache
def _permutations(size: int) -> Tensor:
    return torch.tensor(list(permutations(range(size))), dtype=torch.int64)


def _drawn_orders(
    classes: NodeClasses, chosen: Tensor, samples: int, generator: torch.Generator | None
) -> list[_Orders]:
    """Orders of the chosen graphs, drawn; graphs of one size at once."""
    rows = chosen[classes.batch]
    if not bool(chosen.any()):
        return []
    part = NodeClasses(classes.classes[rows], classes.batch[rows], classes.margin)
    # Sorting moves nodes inside their graph only, so row i of an order belongs to graph batch[i].
    drawn = rows.nonzero()[:, 0][sample_orders(part, samples, generator)]
    counts = torch.bincount(part.batch, minlength=len(chosen))
    parts = []
    for size in counts[chosen].unique().tolist():
        graph = (chosen & (counts == size)).nonzero()[:, 0]
        orders = drawn[:, counts[part.batch] == size].reshape(samples, len(graph), size)
        parts.append((graph.repeat(samples), orders.flatten(0, 1)))
    return parts


def _sorted(parts: list[_Orders], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Entries, their frames, and the graphs of frames, sorted by graph."""
    empty = torch.zeros(0, dtype=torch.int64, device=device)
    graphs = [graph for graph, _ in parts]
    widths = [torch.full_like(graph, order.shape[1]) for graph, order in parts]
    graph, width = torch.cat([empty, *graphs]), torch.cat([empty, *widths])
    rank = graph.argsort(stable=True)
    frame = torch.empty_like(rank)
    frame[rank] = torch.arange(len(rank), device=device)  # where each frame goes
    entries = frame.repeat_interleave(width)
    place = entries.argsort(stable=True)
    order = torch.cat([empty, *(order.flatten() for _, order in parts)])
    return order[place], entries[place], graph[rank]


def too_large(size: tuple[int, ...], limit: int) -> ValueError:
    """The error of frames that are too large to be listed."""
    largest, many = max(size), sum(count > limit for count in size)
    # Python refuses to write integers of thousands of digits.
    written = str(largest) if largest < 10**9 else f"about 1e{int(log10(largest))}"
    return ValueError(
        f"limit: the frame of graph {size.index(largest)} has {written} orders, more than {limit}, "
        f"and {many} of {len(size)} graphs have too many; give samples=, the number of orders to "
        "draw (an approximation), or raise limit="
    )
