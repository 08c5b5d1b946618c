"""Named problem sizes, shared by tests, benchmarks and the table of compiled kernels."""

EQUAL_DEGREES: dict[str, tuple[int, int, int]] = {f"L{n}": (n, n, n) for n in range(1, 9)}
"""Degrees of both operands and of the result of a product."""

MIXED_DEGREES: dict[str, tuple[int, int, int]] = {
    "L1x2to3": (1, 2, 3),
    "L3x1to3": (3, 1, 3),
    "L2x2to0": (2, 2, 0),
    "L4x2to4": (4, 2, 4),
    "L5x3to2": (5, 3, 2),
    "L6x2to6": (6, 2, 6),
    "L3x3to6": (3, 3, 6),
}
"""A filter of low degree, an invariant result, a result of full degree."""

ODD_SHAPES: dict[str, tuple[int, int]] = {
    "no rows": (0, 3),
    "one row": (1, 1),
    "31 rows of 3": (31, 3),
    "33 rows of 1": (33, 1),
    "33 rows of 32": (33, 32),
    "2 rows of 48": (2, 48),
    "1 row of 130": (1, 130),
}
"""Batch and channels that fill no tile: below, beside and above powers of two."""

MESSAGE_SIZES: dict[str, tuple[int, int, int, int, int, int]] = {
    "N-body": (500, 2_500, 12, 64, 64, 64),
    "N-body, published": (500, 2_500, 16, 128, 128, 256),
    "20,000 edges": (2_000, 20_000, 20, 64, 64, 64),
    "200,000 edges": (20_000, 200_000, 20, 128, 64, 64),
}
"""Nodes, edges, orientations, channels, units of the first and of the second hidden layer."""

SUBGRAPHS: dict[str, tuple[tuple[int, ...], int]] = {
    "no subgraph": ((), 0),
    "one node": ((1,), 1),
    "single nodes": ((1, 1, 1), 3),
    "ragged": ((1, 2, 3, 5, 9, 17), 20),
    "small": ((3, 4, 2, 5, 1) * 8, 12),
    "copies of a graph": ((6,) * 6, 6),
    "one large": ((33,), 33),
    "large and small": ((1, 40, 1, 2), 50),
}
"""Numbers of nodes of the subgraphs of a graph, and of the graph itself."""

MANY_SUBGRAPHS: dict[str, tuple[tuple[int, ...], int]] = {
    "molecules": ((3, 4, 4, 5, 2, 3) * 600, 300),
    "crowded": ((17,) * 300, 100),
}
"""The same, as in a batch of molecules, and where every pair of nodes is in many subgraphs."""
