"""Smaller permutation frames: ties are broken one node at a time, each followed by refinement."""

from math import log10, prod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from eqlib.frames.permutations.classes import NodeClasses, linked_classes
from eqlib.frames.permutations.frames import LIMIT, PermutationFrames, too_large
from eqlib.frames.permutations.ranks import Links, refine
from eqlib.frames.spans import list_spans

_ROWS = 2**20  # nodes that are refined at once


def search_frames(
    graph: Shaped[Tensor, "*batch rows columns"],
    features: Shaped[Tensor, "..."] | None = None,
    mask: Bool[Tensor, "*batch rows"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    *,
    edge_weight: Shaped[Tensor, "edges"] | None = None,
    normalised: bool = False,
    tolerance: float = 1e-4,
    invariant: bool = False,
    limit: int = LIMIT,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> PermutationFrames:
    r"""Permutation frames by individualisation and refinement.

    Sort the nodes as :func:`permutation_frames` does. While nodes are tied, put one node of the
    first tied class before the others, and refine by the edges. The frame is the set of all orders
    that come of all choices, each weighted by :math:`\prod 1 / m` over the sizes m of the classes
    chosen from. Relabelling the nodes relabels the choices, hence averages are exactly invariant.

    Where one order is reached from every node that could have been chosen instead, up to an
    automorphism of the graph, all orders give the same reordered graph: the frame is ``single``,
    its size is the number of automorphisms of the graph (those that keep the features), and for
    outputs that do not depend on the order of the nodes one of its orders has the exact average.

    Args:
        graph: as in :func:`permutation_frames`, like all arguments that are not named here.
        features: the first keys.
        mask: True for the nodes of a dense batch that exist.
        batch: graph of each node of a ragged batch.
        num_graphs: number of graphs of a ragged batch.
        edge_weight: of the edges of a ragged batch.
        normalised: normalise the Laplacian.
        tolerance: keys are equal where they differ by less.
        invariant: outputs belong to graphs; list one order of single frames.
        limit: list all orders of frames that have at most so many; 0 draws samples of all.
        samples: number of orders to draw of all others.
        generator: source of choices and samples; by default that of torch.

    Returns:
        The orders. Of a frame that is neither single nor listed, ``size`` is an estimate.

    Raises:
        ValueError: as in :func:`permutation_frames`.
        TypeError: as in :func:`permutation_frames`.

    Note:
        That a frame is single is proved with one order for each node of each class on one path of
        choices, save nodes that have the same neighbours: at most n^2 orders. Frames of many
        regular graphs are not single.

    Source:
        McKay, Practical Graph Isomorphism, Congressus Numerantium 1981 (search tree); Puny et al.,
        Frame Averaging for Invariant and Equivariant Network Design, ICLR 2022 (frames).
    """
    if limit < 0 or (samples is not None and samples < 1):
        raise ValueError(f"limit, samples: expected at least 0 and 1, got {limit} and {samples}")
    classes, links = linked_classes(
        graph,
        features,
        mask,
        batch,
        num_graphs,
        edge_weight=edge_weight,
        normalised=normalised,
        refined=True,
        tolerance=tolerance,
    )
    with torch.no_grad():
        root = _root(classes, links)
        single, size = _single(root, generator)
        return _frames(root, classes.margin, single, size, invariant, limit, samples, generator)


class _Copies(NamedTuple):
    """Copies of graphs whose classes are refined each in its own way.

    ``batch`` is the copy of each node, ``row`` its number in the batch of graphs and ``graph`` the
    graph of each copy. Nodes and links are sorted by copy.
    """

    classes: Tensor
    batch: Tensor
    row: Tensor
    links: Links
    graph: Tensor

    @property
    def sizes(self) -> Tensor:
        return torch.bincount(self.batch, minlength=len(self.graph))

    @property
    def starts(self) -> Tensor:
        return _starts(self.sizes)

    @property
    def places(self) -> Tensor:
        """The class of each node, numbered on from copy to copy."""
        return self.starts[self.batch] + self.classes


def _root(classes: NodeClasses, links: Links) -> _Copies:
    """One copy of each graph; nodes that a mask excludes come last and are told apart."""
    slots = torch.arange(len(classes.batch), device=classes.batch.device)
    graphs = torch.arange(len(classes.margin), device=slots.device)
    starts = _starts(torch.bincount(classes.batch, minlength=len(graphs)))
    local = slots - starts[classes.batch]
    kept = torch.bincount(classes.batch[classes.classes >= 0], minlength=len(graphs))
    excluded = kept[classes.batch] + local
    tied = torch.where(classes.classes < 0, excluded, classes.classes)
    order = classes.batch[links.source].argsort(stable=True)
    links = Links(*(part[order] for part in links))
    return _Copies(refine(tied, classes.batch, links), classes.batch, slots, links, graphs)


def _frames(
    root: _Copies,
    margin: Tensor,
    single: Tensor,
    size: list[int],
    invariant: bool,
    limit: int,
    samples: int | None,
    generator: torch.Generator | None,
) -> PermutationFrames:
    """One order of single frames that need no more, all of small ones, samples of the rest."""
    one = single & (invariant and limit > 0)
    listed, weights = _leaves(_take(root, root.graph[~one]), limit)
    counts = torch.bincount(listed.graph, minlength=len(single))
    for index in counts.nonzero()[:, 0].tolist():
        size[index] = int(counts[index])
    rest = root.graph[~one & (counts == 0)]
    if samples is None and len(rest):
        raise too_large(tuple(size), limit)
    drawn = _take(root, torch.cat([root.graph[one], rest.repeat_interleave(samples or 1)]))
    drawn = _descend(drawn, generator)
    share = 1 / torch.bincount(drawn.graph, minlength=len(single)).double()
    order, frame, graph, rank = _orders([listed, drawn])
    alone = torch.tensor([count == 1 for count in size], dtype=torch.bool, device=single.device)
    return PermutationFrames(
        order,
        frame,
        graph,
        torch.cat([weights, share[drawn.graph]])[rank],
        (counts > 0) | alone | (single & invariant),
        tuple(size),
        torch.tensor([log10(count) for count in size], dtype=torch.float64, device=single.device),
        margin,
        single,
    )


def _orders(parts: list[_Copies]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Entries, their frames, the graph of each frame, and where it stood before sorting."""
    graph = torch.cat([copies.graph for copies in parts])
    sizes = torch.cat([copies.sizes for copies in parts])
    order = torch.cat([copies.row[copies.places.argsort()] for copies in parts])
    rank = graph.argsort(stable=True)
    frame, entries = list_spans(_starts(sizes)[rank], sizes[rank])
    return order[entries], frame, graph[rank], rank


def _leaves(copies: _Copies, limit: int) -> tuple[_Copies, Tensor]:
    """All orders of the graphs that have at most ``limit``, and their weights."""
    weights = torch.ones(len(copies.graph), dtype=torch.float64, device=copies.graph.device)
    while True:
        index = torch.arange(len(copies.graph), device=weights.device)
        member, tied = _tied(copies)
        # Every copy that is still tied leads to as many orders as its class has nodes, or more.
        counts = torch.bincount(copies.graph, tied.double())
        kept = index[counts[copies.graph] <= limit]
        if len(kept) < len(index):
            copies, weights = _take(copies, kept), weights[kept]
            continue
        if not bool(member.any()):
            return copies, weights
        children, chosen = _children(copies, member)
        final = index[tied == 1]
        weights = torch.cat([weights[final], (weights / tied)[copies.batch[member]]])
        copies = _joined(_take(copies, final), _split(children, chosen))
        rank = copies.graph.argsort(stable=True)
        copies, weights = _take(copies, rank), weights[rank]


def _single(root: _Copies, generator: torch.Generator | None) -> tuple[Tensor, list[int]]:
    """Whether all orders of a graph agree, and the product of class sizes on one path."""
    path, trail, copies = [], [], root
    while True:
        member, tied = _tied(copies)
        if not bool(member.any()):
            break
        path.append((copies, member, tied))
        trail.append(_drawn(copies, member, generator))
        copies = _split(copies, trail[-1][trail[-1] >= 0])
    single = torch.ones_like(root.graph, dtype=torch.bool)
    for level, (parent, member, _) in enumerate(path):
        rows = member.nonzero()[:, 0]
        chosen = trail[level][parent.batch[rows]]
        rows = rows[~_twins(root, parent.row[rows], parent.row[chosen])]
        for part in rows.split(max(_ROWS // max(int(parent.sizes.max()), 1), 1)):
            agree = _agree(parent, part, copies, trail[: level + 1], generator)
            single[parent.batch[part[~agree]]] = False
    columns = [[1] * len(root.graph), *(tied.tolist() for _, _, tied in path)]
    return single, [prod(sizes) for sizes in zip(*columns, strict=True)]


def _agree(
    parent: _Copies,
    rows: Tensor,
    leaf: _Copies,
    trail: list[Tensor],
    generator: torch.Generator | None,
) -> Tensor:
    """Whether the order after another choice is an automorphism away from that of the path.

    The automorphism that maps one order to the other has to keep all earlier choices of the path
    and to map its choice at this level to the other.
    """
    chosen = torch.zeros_like(parent.batch, dtype=torch.bool)
    chosen[rows] = True
    children, first = _children(parent, chosen)
    graph, shift = parent.batch[rows], children.starts - parent.starts[parent.batch[rows]]
    other = _descend(_split(children, first), generator)
    agree = other.classes[first] == leaf.classes[trail[-1][graph]]
    for earlier in trail[:-1]:
        node = earlier[graph]
        agree &= other.classes[node + shift] == leaf.classes[node]
    same = _form(other) == _form(_take(leaf, graph))
    copy = other.batch[other.links.source]
    wrong = torch.zeros_like(graph).index_add_(0, copy, (~same.all(0)).long())
    return agree & (wrong == 0)


def _twins(root: _Copies, first: Tensor, second: Tensor) -> Tensor:
    """Whether it is an automorphism to exchange two nodes; a node is its own twin."""
    pairs = len(first)
    lists = [_neighbours(root, *pair) for pair in ((first, second), (second, first))]
    degrees = [torch.bincount(pair, minlength=pairs) for pair, _, _ in lists]
    twins = degrees[0] == degrees[1]
    kept = [torch.stack(found)[:, twins[found[0]]] for found in lists]
    wrong = kept[0][0, (kept[0] != kept[1]).any(0)]
    twins[wrong] = False
    return twins


def _neighbours(root: _Copies, node: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pair, source and label of the links to each node, in which the pair is anonymous."""
    by_target = root.links.target.argsort(stable=True)
    degree = torch.bincount(root.links.target, minlength=len(root.row))
    pair, place = list_spans(_starts(degree)[node], degree[node])
    links = by_target[place]
    source = root.links.source[links]
    source = torch.where(source == node[pair], -1, torch.where(source == other[pair], -2, source))
    order = source.argsort(stable=True)
    order = order[pair[order].argsort(stable=True)]
    return pair[order], source[order], root.links.label[links][order]


def _form(copies: _Copies) -> Tensor:
    """Links of each copy by the slots of their nodes, sorted."""
    source, target, label = copies.links
    slots = torch.stack([copies.classes[source], copies.classes[target], label])
    places = copies.places
    by_target = places[target].argsort(stable=True)
    by_source = places[source][by_target].argsort(stable=True)
    return slots[:, by_target[by_source]]


def _descend(copies: _Copies, generator: torch.Generator | None) -> _Copies:
    """Break all ties by random choices."""
    while True:
        member, _ = _tied(copies)
        if not bool(member.any()):
            return copies
        drawn = _drawn(copies, member, generator)
        copies = _split(copies, drawn[drawn >= 0])


def _tied(copies: _Copies) -> tuple[Tensor, Tensor]:
    """Nodes of the first tied class of each copy, and their number, 1 if there is none."""
    number = copies.places
    counts = torch.bincount(number, minlength=len(number))
    none = len(number)
    candidates = torch.where(counts[number] > 1, number, none)
    first = torch.full_like(copies.graph, none)
    first.scatter_reduce_(0, copies.batch, candidates, "amin")
    tied = torch.nn.functional.pad(counts, (0, 1), value=1)[first]
    return candidates == first[copies.batch].clamp(max=none - 1), tied


def _drawn(copies: _Copies, member: Tensor, generator: torch.Generator | None) -> Tensor:
    """One of the tied nodes of each copy, -1 if there is none."""
    device = member.device if generator is None else generator.device
    noise = torch.rand(len(member), generator=generator, dtype=torch.float64, device=device)
    noise = torch.where(member, noise.to(member.device), -1.0)
    most = noise.new_full((len(copies.graph),), -1.0)
    most.scatter_reduce_(0, copies.batch, noise, "amax")
    chosen = (member & (noise == most[copies.batch])).nonzero()[:, 0]
    drawn = torch.full_like(copies.graph, -1)
    drawn[copies.batch[chosen]] = chosen
    return drawn


def _split(copies: _Copies, chosen: Tensor) -> _Copies:
    """Put these nodes before the others of their classes, and refine."""
    classes = 2 * copies.classes + 1
    classes[chosen] -= 1
    return copies._replace(classes=refine(classes, copies.batch, copies.links))


def _children(copies: _Copies, member: Tensor) -> tuple[_Copies, Tensor]:
    """One copy for each of these nodes, and the place of the node in it."""
    rows = member.nonzero()[:, 0]
    parent = copies.batch[rows]
    children = _take(copies, parent)
    return children, children.starts + rows - copies.starts[parent]


def _take(copies: _Copies, index: Tensor) -> _Copies:
    """Copies by number, any number of times."""
    sizes, starts = copies.sizes, copies.starts
    width = sizes[index]
    batch, nodes = list_spans(starts[index], width)
    degrees = torch.bincount(copies.batch[copies.links.source], minlength=len(sizes))
    copy, links = list_spans(_starts(degrees)[index], degrees[index])
    shift = (_starts(width) - starts[index])[copy]
    source, target, label = (part[links] for part in copies.links)
    return _Copies(
        copies.classes[nodes],
        batch,
        copies.row[nodes],
        Links(source + shift, target + shift, label),
        copies.graph[index],
    )


def _joined(first: _Copies, second: _Copies) -> _Copies:
    """The copies of both, one after the other."""
    nodes = len(first.batch)
    source, target, label = second.links
    shifted = Links(source + nodes, target + nodes, label)
    return _Copies(
        torch.cat([first.classes, second.classes]),
        torch.cat([first.batch, second.batch + len(first.graph)]),
        torch.cat([first.row, second.row]),
        Links(*map(torch.cat, zip(first.links, shifted, strict=True))),
        torch.cat([first.graph, second.graph]),
    )


def _starts(sizes: Tensor) -> Tensor:
    return sizes.cumsum(0) - sizes
