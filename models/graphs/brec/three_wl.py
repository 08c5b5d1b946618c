"""The pairs that refinement of colours of pairs of nodes separates: a bound for networks.

``python -m eqlib.models.graphs.brec.three_wl`` counts those of BREC. The folklore form of 2-WL,
as strong as 3-WL, bounds second-order networks with products, such as PPGN, and networks of
second order on subgraphs that are found around a node.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from eqlib.models.graphs.brec.pairs import CATEGORIES, RawPairs, read_brec
from eqlib.models.graphs.brec.run import Row
from eqlib.models.training.storage import write_durably
from eqlib.options import make_parser, parse_arguments
from eqlib.subgraph.polynomials import evaluate
from eqlib.usage import exit_code

_BLOCK = 2**22


def separated(colours: Int[Tensor, "2 n n"]) -> bool:
    r"""Return whether refinement separates two graphs given by the colours of their pairs.

    .. math:: c_{ij} \leftarrow \bigl(c_{ij}, \{\!\{(c_{ik}, c_{kj}) : k\}\!\}\bigr)

    until the colours of the two graphs occur in different numbers, or do not split any more.

    Args:
        colours: of the pairs of nodes of both graphs; those on the diagonal differ from others.

    Note:
        Multisets are compared by sums of 64-bit hashes. Equal ones have equal sums, so graphs that
        are separated differ; that different sums agree by chance is next to impossible.
    """
    kinds = 0
    while True:
        histograms = [torch.bincount(each.flatten(), minlength=kinds) for each in colours]
        if len(histograms[0]) != len(histograms[1]) or not torch.equal(*histograms):
            return True
        found = len(colours.unique())
        if found == kinds:
            return False
        kinds = found
        rows = torch.stack([colours, torch.stack([_sums(each) for each in colours])], -1)
        names = rows.reshape(-1, 2).unique(dim=0, return_inverse=True)[1]
        colours = names.reshape(colours.shape)


def first_colours(adjacency: Int[Tensor, "2 n n"], polynomials: bool) -> Int[Tensor, "2 n n"]:
    """Return the colours before the first round: diagonal, edges and others.

    Args:
        adjacency: matrices of both graphs.
        polynomials: whether pairs also differ by their values of "K4 minus the red edge".
    """
    colours = adjacency + 2 * torch.eye(adjacency.shape[1], dtype=torch.int64)
    if not polynomials:
        return colours
    counts = evaluate("K4 minus the red edge", adjacency)
    rows = torch.stack([colours, counts], -1).reshape(-1, 2)
    return rows.unique(dim=0, return_inverse=True)[1].reshape(colours.shape)


def main(arguments: Sequence[str] | None = None) -> int:
    """Count the pairs of BREC that refinement separates and return the exit code."""
    parser = make_parser(
        "python -m eqlib.models.graphs.brec.three_wl",
        "[--out FILE] [--data-dir DIR]",
        "Count the pairs of BREC that 3-WL separates, without and with numbers of K4.",
    )
    parser.add_argument("--out", metavar="FILE", help="JSON file of the pairs that are separated")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the data")
    try:
        given = parse_arguments(parser, sys.argv[1:] if arguments is None else list(arguments))
        source = read_brec(None if given.data_dir is None else Path(given.data_dir))
        if not isinstance(source, RawPairs):
            raise ValueError("data: expected the seven files of pairs, which brec_v3.npy has not")
        rows = [_row(source, pair) for pair in range(len(source.graphs) // 2)]
        if given.out:
            write_durably(Path(given.out), (json.dumps(_report(rows), indent=2) + "\n").encode())
    except (OSError, ValueError) as error:
        print(f"three_wl: {error}", file=sys.stderr)
        return exit_code(error)
    for name, count in _report(rows)["categories"].items():
        print(f"{name}: {count['three_wl']} of {count['pairs']}, with K4 {count['with_k4']}")
    return 0


def _row(source: RawPairs, pair: int) -> Row:
    matrices = []
    for index in (2 * pair, 2 * pair + 1):
        batch = source.graphs[torch.tensor([index])]
        nodes = len(batch["x"])
        matrix = torch.zeros(nodes, nodes, dtype=torch.int64)
        matrix[batch["edge_index"][0], batch["edge_index"][1]] = 1
        matrices.append(matrix)
    adjacency = torch.stack(matrices)
    plain = separated(first_colours(adjacency, polynomials=False))
    return {"three_wl": plain, "with_k4": plain or separated(first_colours(adjacency, True))}


def _report(rows: Sequence[Row]) -> Row:
    counts = {}
    for category in CATEGORIES:
        mine = rows[category.start : category.stop]
        counts[category.name] = {"pairs": len(mine)} | {
            name: sum(row[name] for row in mine) for name in ("three_wl", "with_k4")
        }
    return {
        "categories": counts,
        "not_separated": {
            name: [pair for pair, row in enumerate(rows) if not row[name]]
            for name in ("three_wl", "with_k4")
        },
    }


def _sums(colours: Tensor) -> Tensor:
    """Return, for each pair (i, j), the sum over k of hashes of the colours of (i, k), (k, j)."""
    nodes = len(colours)
    rows = max(1, _BLOCK // max(1, nodes**2))
    parts = []
    for first in colours.split(rows):
        both = first[:, :, None] * 0x1_0000_0001 + colours[None] * 0x2_0000_0003 + 1
        # Steps of the splitmix generator; products of int64 wrap around.
        for factor in (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15):
            both = (both ^ (both >> 30)) * factor
        parts.append((both ^ (both >> 31)).sum(1))
    return torch.cat(parts)


if __name__ == "__main__":
    sys.exit(main())
