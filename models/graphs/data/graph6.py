"""Graphs as text: the graph6 format, one undirected graph per line."""

from pathlib import Path

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from eqlib.models.graphs.data.files import reading
from eqlib.usage import UsageError

HEADER = b">>graph6<<"


def read_graph6(path: Path) -> list[tuple[int, Int[ndarray, "2 _"]]]:
    """Read a file of graph6 lines.

    Returns:
        For each graph its number of nodes and its edges, each in both directions.

    Raises:
        UsageError: the file cannot be read, or a line is not graph6; the message names the line.
    """
    graphs = []
    with reading(path):
        lines = path.read_bytes().removeprefix(HEADER).splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            graphs.append(decode_graph6(line))
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
    return graphs


def decode_graph6(line: bytes) -> tuple[int, Int[ndarray, "2 edges"]]:
    """Return the number of nodes and the edges of one graph6 line.

    A byte carries six bits, plus 63. First comes the number of nodes: one byte up to 62, ``~`` and
    three bytes up to 258,047, ``~~`` and six bytes beyond. Then comes the upper triangle of the
    adjacency matrix, column by column: (0, 1), (0, 2), (1, 2), (0, 3) and so on.

    Args:
        line: the text, without a header.

    Returns:
        The number of nodes and the edges, each in both directions, sorted by source and target.

    Raises:
        ValueError: a byte is not one of the format's, or there are too few or too many.
    """
    values = np.frombuffer(line.strip(), np.uint8).astype(np.int64) - 63
    if not len(values) or values.min() < 0 or values.max() > 63:
        raise ValueError(f"expected a graph6 line of the characters ? to ~, got {line[:40]!r}")
    marks = 0 if values[0] < 63 else 1 if len(values) < 2 or values[1] < 63 else 2
    digits = (1, 3, 6)[marks]
    head, body = values[marks : marks + digits], values[marks + digits :]
    nodes = int(sum(int(digit) << 6 * place for place, digit in enumerate(head[::-1])))
    pairs = nodes * (nodes - 1) // 2
    if len(head) < digits or len(body) != -(-pairs // 6):
        raise ValueError(
            f"expected {-(-pairs // 6)} characters for the pairs of {nodes} nodes, got {len(body)}"
        )
    bits = (body[:, None] >> np.arange(5, -1, -1)) & 1
    adjacency = np.zeros((nodes, nodes), bool)
    # The lower triangle by rows is the upper one by columns.
    adjacency[np.tril_indices(nodes, -1)] = bits.reshape(-1)[:pairs].astype(bool)
    return nodes, np.stack(np.nonzero(adjacency | adjacency.T))


def encode_graph6(nodes: int, edge_index: Int[ndarray, "2 edges"]) -> bytes:
    """Return the graph6 line of an undirected graph without self loops.

    Args:
        nodes: number of nodes, at most 258,047.
        edge_index: edges in one or both directions.

    Raises:
        ValueError: there are too many nodes, or an edge leaves them or is a self loop.
    """
    source, target = edge_index
    if nodes > 258_047:
        raise ValueError(f"nodes: got {nodes}, expected at most 258047")
    if len(source) and (edge_index.min() < 0 or edge_index.max() >= nodes):
        raise ValueError(f"edge_index: expected nodes in 0 ... {nodes - 1}")
    if (source == target).any():
        raise ValueError("edge_index: graph6 has no self loops; remove them")
    adjacency = np.zeros((nodes, nodes), bool)
    adjacency[source, target] = adjacency[target, source] = True
    bits = adjacency[np.tril_indices(nodes, -1)].astype(np.int64)
    bits = np.pad(bits, (0, -len(bits) % 6)).reshape(-1, 6)
    body = bits @ (1 << np.arange(5, -1, -1))
    head = [nodes] if nodes <= 62 else [63, nodes >> 12, (nodes >> 6) & 63, nodes & 63]
    return bytes((np.concatenate([np.array(head), body]) + 63).astype(np.uint8))
