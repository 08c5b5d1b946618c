"""The seven collections of labelled graphs with ten folds: MUTAG, PTC, PROTEINS and so on."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from eqlib.models.graphs.data.public import has_public, read_public
from eqlib.models.graphs.data.ragged import Graphs, Selection
from eqlib.models.graphs.data.sets import data_folder
from eqlib.models.graphs.data.tu import read_folds, read_tu
from eqlib.models.training import Splits
from eqlib.models.training.folds import FOLDS, hold_out, stratified_folds

_TEXT = "https://github.com/muhanzhang/pytorch_DGCNN (folder data)"
_PUBLIC = "https://www.chrsmrrs.com/graphkerneldatasets"


class Names(NamedTuple):
    """The names of a collection in the two layouts."""

    text: str
    public: str


COLLECTIONS = {
    "mutag": Names("MUTAG", "MUTAG"),
    "ptc": Names("PTC", "PTC_MR"),
    "proteins": Names("PROTEINS", "PROTEINS"),
    "nci1": Names("NCI1", "NCI1"),
    "nci109": Names("NCI109", "NCI109"),
    "imdb_binary": Names("IMDBBINARY", "IMDB-BINARY"),
    "imdb_multi": Names("IMDBMULTI", "IMDB-MULTI"),
}
"""By the name that users type."""


class Collection(NamedTuple):
    """Labelled graphs with folds."""

    graphs: Graphs
    train: list[Int[Tensor, "train"]]
    test: list[Int[Tensor, "test"]]
    about: str
    """Where the folds come from."""


def load_collection(name: str, data_dir: Path | None = None, download: bool = False) -> Collection:
    """Read a collection with its folds, once in a process.

    Looked for in ``data_dir/tu`` and in ``data_dir``: the folder ``MUTAG`` with ``MUTAG.txt`` and
    ``10fold_idx``, else the public layout, as a folder, as its zip file or as PyG keeps it. Where
    there are no files of folds, ten stratified ones are drawn, the same ones every time.

    Types of nodes are numbered over the whole collection. Where all nodes are of one type, as in
    the IMDB sets, their degrees take its place, numbered in the order of those that occur.

    Args:
        name: one of `COLLECTIONS`.
        data_dir: folder of the data; None takes the user's cache folder.
        download: let PyG download a missing collection into ``data_dir/tu``.

    Raises:
        FileNotFoundError: the collection is missing; the message says where to get it.
        UsageError: a file is damaged.
    """
    folder = data_folder(data_dir)
    found = _find(name, folder)
    if found is None and download:
        _download(name, folder / "tu")
        found = _find(name, folder)
    if found is None:
        raise FileNotFoundError(_advice(name, folder))
    return _read(*found, _age(found[0]))


def fold_splits(collection: Collection, fold: int, seed: int, published: bool = False) -> Splits:
    """Return the three parts of a fold.

    Args:
        collection: the graphs and the folds.
        fold: number of the fold, from 1.
        seed: of the graphs held out for validation.
        published: hold out nothing, and validate on the test graphs, which select nothing.
    """
    graphs = collection.graphs
    train, test = collection.train[fold - 1], collection.test[fold - 1]
    if published:
        valid = test
    else:
        train, valid = hold_out(graphs.y, train, fold, seed)
    return Splits(*(Selection(graphs, rows) for rows in (train, valid, test)))


def _find(name: str, folder: Path) -> tuple[Path, str] | None:
    """Return the folder or zip file of a collection, with its name there."""
    names = COLLECTIONS[name]
    for place in (folder / "tu", folder):
        if (place / names.text / f"{names.text}.txt").exists():
            return place / names.text, names.text
        for candidate in (place / names.public, place / f"{names.public}.zip"):
            if has_public(candidate, names.public):
                return candidate, names.public
    return None


def _age(place: Path) -> float:
    files = [place, *place.rglob("*.txt")] if place.is_dir() else [place]
    return max(file.stat().st_mtime for file in files)


@lru_cache(maxsize=2)
def _read(place: Path, name: str, age: float) -> Collection:
    text = place / f"{name}.txt"
    graphs = read_tu(text) if text.exists() else read_public(place, name)
    graphs = _with_degrees(graphs)
    if not (place / "10fold_idx").is_dir():
        tests = stratified_folds(graphs.y, FOLDS, seed=0)
        everything = torch.arange(len(graphs))
        trains = [everything[~torch.isin(everything, test)] for test in tests]
        about = f"{FOLDS} stratified folds of our own: {place} has no folder 10fold_idx"
        return Collection(graphs, trains, tests, about)
    pairs = [read_folds(place, fold, len(graphs)) for fold in range(1, FOLDS + 1)]
    trains, tests = ([pair[part] for pair in pairs] for part in (0, 1))
    return Collection(graphs, trains, tests, "the given folds, 10fold_idx")


def _with_degrees(graphs: Graphs) -> Graphs:
    """Put degrees in the place of types where all nodes are of one type."""
    if len(graphs.x.unique()) > 1:
        return graphs
    node = graphs.edge_index[0] + graphs.node_ptr[:-1].repeat_interleave(graphs.edge_ptr.diff())
    degree = torch.bincount(node, minlength=len(graphs.x))
    ranked = degree.unique(return_inverse=True)[1]
    return Graphs(ranked, graphs.edge_index, graphs.node_ptr, graphs.edge_ptr, graphs.y)


def _download(name: str, folder: Path) -> None:
    """Let PyG download a collection; its raw files have the public layout."""
    from torch_geometric.datasets import TUDataset

    TUDataset(str(folder), COLLECTIONS[name].public)


def _advice(name: str, folder: Path) -> str:
    names, place = COLLECTIONS[name], folder / "tu"
    missing = f"neither {place / names.text / names.text}.txt nor {place / names.public}.zip"
    return (
        f"{name}: there is {missing if folder.is_dir() else f'no folder {folder}'}; name the "
        f"folder of the data with --data-dir, or download the folder {names.text} with its "
        f"10fold_idx from {_TEXT}, or {names.public}.zip from {_PUBLIC}, into {place}; "
        "--data.download true lets PyG download it"
    )
