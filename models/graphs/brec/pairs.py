"""The 400 pairs of BREC and their relabellings."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray

from eqlib.models.graphs.data import Graphs, data_folder, decode_graph6
from eqlib.models.graphs.data.files import reading
from eqlib.models.training.loop import derive_seed
from eqlib.models.training.reports import dataset_checksum
from eqlib.usage import UsageError

COPIES = 32
PUBLIC = "brec_v3.npy"


class Category(NamedTuple):
    """Pairs of one kind, which follow one another."""

    name: str
    file: str
    """Of the pairs themselves, in the folder ``brec``."""
    start: int
    stop: int


CATEGORIES = (
    Category("basic", "basic.npy", 0, 60),
    Category("regular", "regular.npy", 60, 110),
    Category("strongly_regular", "str.npy", 110, 160),
    Category("extension", "extension.npy", 160, 260),
    Category("cfi", "cfi.npy", 260, 360),
    Category("4_vertex", "4vtx.npy", 360, 380),
    Category("distance_regular", "dr.npy", 380, 400),
)
PAIRS = CATEGORIES[-1].stop


class Copies(NamedTuple):
    """What a network sees of one pair."""

    pair: Graphs
    """Relabellings of both graphs in turn, G, H, G, H and so on."""
    alone: Graphs
    """As many relabellings of one of the two: for the check of reliability."""


class Source(ABC):
    """Where copies come from."""

    @abstractmethod
    def copies(self, pair: int, seed: int) -> Copies:
        """Return the relabellings of a pair."""

    @abstractmethod
    def checksum(self) -> str:
        """Return the SHA-256 of the graphs."""


class RawPairs(Source):
    """The pairs themselves, relabelled here.

    Args:
        graphs: graphs 2p and 2p + 1 are pair p.
    """

    def __init__(self, graphs: Graphs) -> None:
        self.graphs = graphs

    def copies(self, pair: int, seed: int) -> Copies:
        """Return random relabellings, a function of the pair's number, its sizes and the seed."""
        generator = torch.Generator().manual_seed(derive_seed("brec", seed, pair))
        both = [_edges(self.graphs, 2 * pair), _edges(self.graphs, 2 * pair + 1)]
        alone = both[int(torch.randint(2, (1,), generator=generator))]
        return Copies(
            Graphs.stack(_relabelled(graph, generator) for _ in range(COPIES) for graph in both),
            Graphs.stack(_relabelled(alone, generator) for _ in range(2 * COPIES)),
        )

    def checksum(self) -> str:
        """Return the SHA-256 of the pairs."""
        return dataset_checksum(self.graphs)


class PublicCopies(Source):
    """The public file, which holds the relabellings.

    Args:
        lines: graph6, 64 for each pair, then 64 of one of its graphs for each pair.
    """

    def __init__(self, lines: ndarray) -> None:
        self.lines = lines

    def copies(self, pair: int, seed: int) -> Copies:
        """Return the relabellings of the file, the same ones for every seed."""
        parts = self.lines.reshape(2, -1, 2 * COPIES)[:, pair]
        first, second = (Graphs.stack(_decoded(part)) for part in parts)
        return Copies(first, second)

    def checksum(self) -> str:
        """Return the SHA-256 of the lines of the file."""
        return sha256(self.lines.tobytes()).hexdigest()


def read_brec(data_dir: Path | None = None) -> Source:
    """Read BREC: the files of its seven kinds of pairs, or the public file of relabellings.

    Args:
        data_dir: folder that holds ``brec/basic.npy`` and so on, or ``brec/brec_v3.npy``; None
            takes the user's cache folder.

    Raises:
        FileNotFoundError: neither is there; the message says where to get them.
        UsageError: a file is damaged.

    Source:
        Wang and Zhang, An Empirical Study of Realized GNN Expressiveness, ICML 2024,
        <https://github.com/GraphPKU/BREC>.
    """
    folder = data_folder(data_dir) / "brec"
    if all((folder / category.file).exists() for category in CATEGORIES):
        graphs: list[tuple[int, ndarray]] = []
        for category in CATEGORIES:
            expected = 2 * (category.stop - category.start)
            with reading(folder / category.file):
                graphs += _decoded(_read(folder / category.file, expected))
        return RawPairs(Graphs.stack(graphs))
    if (folder / PUBLIC).exists():
        return PublicCopies(_read(folder / PUBLIC, 4 * COPIES * PAIRS))
    raise FileNotFoundError(
        f"brec: there is neither {folder / PUBLIC} nor {folder / CATEGORIES[0].file} and its like; "
        "download BREC_data_all.zip from https://github.com/GraphPKU/BREC and put brec_v3.npy "
        "there, or name another folder with --data-dir"
    )


def _read(path: Path, expected: int) -> ndarray:
    """Return the lines of a file as bytes."""
    with reading(path), path.open("rb") as file:
        lines: ndarray = np.load(file, allow_pickle=False).reshape(-1)
    if lines.dtype.kind not in "SU" or len(lines) != expected:
        raise UsageError(
            f"{path}: got {len(lines)} entries of dtype {lines.dtype}, expected {expected} graphs "
            "in the graph6 format; download the file again"
        )
    return lines


def _decoded(lines: Iterable[str | bytes]) -> list[tuple[int, ndarray]]:
    texts = (line.encode("ascii") if isinstance(line, str) else bytes(line) for line in lines)
    return [decode_graph6(text) for text in texts]


def _edges(graphs: Graphs, index: int) -> tuple[int, ndarray]:
    """Number of nodes and edges of one graph."""
    batch = graphs[torch.tensor([index])]
    return len(batch["x"]), batch["edge_index"].numpy()


def _relabelled(graph: tuple[int, ndarray], generator: torch.Generator) -> tuple[int, ndarray]:
    nodes, edge_index = graph
    return nodes, torch.randperm(nodes, generator=generator).numpy()[edge_index]
