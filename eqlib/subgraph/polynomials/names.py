"""Multigraphs as text."""

import re
from collections.abc import Callable
from functools import cache
from itertools import combinations

Edges = tuple[tuple[int, int], ...]
Parts = tuple[int, Edges, tuple[int, ...]]
"""Number of nodes, edges, red nodes."""

_NAME = re.compile(r"([KCPS])(\d+)( rooted| with a red edge| minus the red edge| with red ends)?")
_LIST = re.compile(r"\s*(?:(\d+-\d+(?:\s*,\s*\d+-\d+)*)\s*)?(?:;\s*red\s+(\d+(?:\s*,\s*\d+)?)\s*)?")
_LARGEST = 8


def parse(text: str) -> Parts:
    """Return the parts of the multigraph that a text names; see `Multigraph.parse`."""
    if named := _NAME.fullmatch(text.strip()):
        return _named(named[1], int(named[2]), named[3] or "", text)
    listed = _LIST.fullmatch(text)
    if not listed or not text.strip():
        raise _unreadable(text)
    edges = tuple((int(a), int(b)) for a, b in re.findall(r"(\d+)-(\d+)", listed[1] or ""))
    red = tuple(int(node) for node in re.findall(r"\d+", listed[2] or ""))
    return max([*red, *(node for edge in edges for node in edge)]) + 1, edges, red


def print_name(nodes: int, edges: Edges, red: int) -> str | None:
    """Return the name of a canonical multigraph with so many red nodes, or None."""
    return _names(nodes, len(edges), red).get(edges) if nodes <= _LARGEST else None


@cache
def _names(nodes: int, degree: int, red: int) -> dict[Edges, str]:
    """Names by canonical edges."""
    from eqlib.subgraph.polynomials.multigraph import Multigraph

    endings = {
        0: ("",),
        1: (" rooted",),
        2: (" with a red edge", " with red ends", " minus the red edge"),
    }
    found: dict[Edges, str] = {}
    for ending in endings[red]:
        for family in "KCPS":
            number = nodes - (family == "S")
            text = f"{family}{number}{ending}"
            try:
                multigraph = Multigraph(*_named(family, number, ending, text))
            except ValueError:
                continue
            if multigraph.degree == degree:
                found.setdefault(multigraph.canonical().edges, text)
    return found


def _named(family: str, number: int, ending: str, text: str) -> Parts:
    least, nodes, make = _FAMILIES[family]
    if number < least or ending not in ("", " rooted", *_ENDINGS.get(family, ())):
        raise _unreadable(text)
    edges = make(number)
    if not ending or ending == " rooted":
        return nodes(number), edges, (0,) if ending else ()
    red = (0, number - 1) if ending == " with red ends" else (0, 1)
    if ending == " minus the red edge":
        edges = tuple(edge for edge in edges if edge != red)
    return nodes(number), edges, red


def _path(number: int) -> Edges:
    return tuple((node, node + 1) for node in range(number - 1))


_FAMILIES: dict[str, tuple[int, Callable[[int], int], Callable[[int], Edges]]] = {
    "K": (2, int, lambda number: tuple(combinations(range(number), 2))),
    "C": (3, int, lambda number: (*_path(number), (0, number - 1))),
    "P": (2, int, _path),
    "S": (2, lambda number: number + 1, lambda number: tuple((0, n + 1) for n in range(number))),
}
"""Of each family its least number, its number of nodes and its edges."""


_ENDINGS = {
    "K": (" with a red edge", " minus the red edge"),
    "C": (" with a red edge", " minus the red edge"),
    "P": (" with red ends",),
}


def _unreadable(text: str) -> ValueError:
    return ValueError(
        f"polynomial: got {text!r}; expected a name such as 'K4 minus the red edge', 'C5 rooted' "
        "or 'P3 with red ends', or edges such as '0-1, 1-2; red 0'"
    )
