"""A canonical order of the nodes of a small, coloured multigraph."""

from collections.abc import Sequence

Matrix = Sequence[Sequence[int]]


def canonical_order(matrix: Matrix, colours: Sequence[int]) -> list[int]:
    """Return the nodes in an order that isomorphic multigraphs share.

    Colours are refined by those of the neighbours; where a colour stays with several nodes, each of
    them is tried, and the order with the smallest matrix is kept.

    Args:
        matrix: number of edges from row to column.
        colours: colour of each node; nodes of smaller colours come first.
    """
    return _search(matrix, list(colours))[1]


def _search(matrix: Matrix, colours: list[int]) -> tuple[list[list[int]], list[int]]:
    """Return the smallest matrix and its order."""
    colours = _refine(matrix, colours)
    cells: dict[int, list[int]] = {}
    for node, colour in enumerate(colours):
        cells.setdefault(colour, []).append(node)
    tied = next((cells[colour] for colour in sorted(cells) if len(cells[colour]) > 1), None)
    if tied is None:
        order = sorted(range(len(colours)), key=colours.__getitem__)
        return [[matrix[a][b] for b in order] for a in order], order
    found = []
    tried: list[int] = []
    for node in tied:
        if any(_are_twins(matrix, node, other) for other in tried):
            continue
        tried.append(node)
        # Doubled, the colours leave room for one before that of the cell.
        single = [2 * colour for colour in colours]
        single[node] -= 1
        found.append(_search(matrix, single))
    return min(found)


def _refine(matrix: Matrix, colours: list[int]) -> list[int]:
    """Split colours by the colours of neighbours until nothing changes."""
    nodes = range(len(colours))
    while True:
        keys = [
            (
                colours[a],
                matrix[a][a],
                tuple(sorted((colours[b], matrix[a][b], matrix[b][a]) for b in nodes if b != a)),
            )
            for a in nodes
        ]
        ranks = sorted(set(keys))
        refined = [ranks.index(key) for key in keys]
        if len(ranks) == len(set(colours)):
            return refined
        colours = refined


def _are_twins(matrix: Matrix, first: int, second: int) -> bool:
    """Whether exchanging two nodes of one colour changes nothing."""
    swap = {first: second, second: first}
    nodes = range(len(matrix))
    return all(
        matrix[a][b] == matrix[swap.get(a, a)][swap.get(b, b)]
        for a in (first, second)
        for b in nodes
    ) and all(matrix[b][first] == matrix[b][second] for b in nodes if b not in swap)
