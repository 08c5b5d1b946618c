"""Batches of point clouds, with or without a lattice: where neighbours are sought."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eqlib.geometry._checks import graph_sizes
from eqlib.geometry.segments import segment_max


@dataclass(frozen=True)
class Cloud:
    """Finite points of several graphs, in consecutive rows, with the lattice of each graph."""

    points: Tensor  # (nodes, d)
    graph: Tensor  # (nodes,) sorted
    num_graphs: int
    cell: Tensor | None = None  # (graphs, d, d), lattice vectors in rows
    pbc: Tensor | None = None  # (graphs, d), the directions that repeat

    def sizes(self) -> Tensor:
        """Count the nodes of each graph."""
        return torch.bincount(self.graph, minlength=self.num_graphs)

    def scaled(self, length: Tensor) -> tuple["Cloud", Tensor]:
        """Bring a length of each graph near 1, so that squares neither over- nor underflow.

        The factors are powers of two, which round nothing. Coordinates stay below 2^60.

        Returns:
            The scaled cloud and the scaled lengths.
        """
        reach = segment_max(self.points.abs().amax(1), self.graph, self.num_graphs)
        exponent = torch.maximum(length.frexp()[1], reach.frexp()[1] - 60)
        most = math.frexp(torch.finfo(length.dtype).max)[1] - 28
        exponent = exponent.clamp(-most, most)
        factor = ((1023 - exponent.long()) << 52).view(torch.float64).to(self.points.dtype)
        cell = None if self.cell is None else self.cell * factor[:, None, None]
        points = self.points * factor[self.graph, None]
        return replace(self, points=points, cell=cell), length * factor


def make_cloud(
    points: Tensor,
    batch: Tensor | None,
    num_graphs: int | None,
    cell: Tensor | None,
    pbc: Tensor | Sequence[bool] | None,
) -> tuple[Cloud, Tensor]:
    """Check the arguments; return the finite points and which nodes they are."""
    _check_points(points, cell, pbc)
    points = points.detach().to(torch.promote_types(points.dtype, torch.float32))
    if batch is None:
        batch = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        num_graphs = 1 if num_graphs is None else num_graphs
    if batch.shape != points.shape[:1] or batch.device != points.device:
        raise ValueError(
            f"batch has shape {tuple(batch.shape)} on {batch.device}; expected one graph index per "
            f"row of points, ({len(points)},) on {points.device}"
        )
    if num_graphs is None and cell is not None and cell.ndim == 3:
        num_graphs = len(cell)
    num_graphs = len(graph_sizes(batch, num_graphs))
    alive = points.isfinite().all(1)
    repeats = None
    if cell is not None:
        cell, repeats = _lattice(cell, pbc, num_graphs, points)
        sound = cell.isfinite().all(2).all(1)
        alive = alive & sound[batch]
        cell = torch.where(sound[:, None, None], cell, torch.eye(points.shape[1]).to(cell))
    nodes = alive.nonzero().squeeze(1)
    return Cloud(points[nodes], batch[nodes], num_graphs, cell, repeats), nodes


def _check_points(points: Tensor, cell: Tensor | None, pbc: Tensor | Sequence[bool] | None) -> None:
    if not points.is_floating_point():
        raise TypeError(
            f"points has dtype {points.dtype}; expected floating point: convert it with .float()"
        )
    if points.ndim != 2 or points.shape[1] == 0:
        raise ValueError(f"points has shape {tuple(points.shape)}; expected (nodes, d), d >= 1")
    if cell is not None and (cell.dtype, cell.device) != (points.dtype, points.device):
        raise TypeError(
            f"cell is {cell.dtype} on {cell.device} and points {points.dtype} on {points.device}; "
            "convert one with .to(...)"
        )
    if cell is None and pbc is not None:
        raise ValueError("pbc is given without cell; expected the lattice vectors as well")


def _lattice(
    cell: Tensor, pbc: Tensor | Sequence[bool] | None, num_graphs: int, points: Tensor
) -> tuple[Tensor, Tensor]:
    """Check the lattice and give every graph its own."""
    d = points.shape[1]
    if cell.shape not in ((d, d), (num_graphs, d, d)):
        raise ValueError(
            f"cell has shape {tuple(cell.shape)}; expected lattice vectors in rows, ({d}, {d}) or "
            f"one lattice for each graph, ({num_graphs}, {d}, {d})"
        )
    cell = cell.detach().to(points.dtype).expand(num_graphs, d, d)
    pbc = torch.as_tensor([True] * d if pbc is None else pbc, device=points.device)
    if pbc.shape not in ((d,), (num_graphs, d)) or pbc.dtype != torch.bool:
        raise ValueError(
            f"pbc has shape {tuple(pbc.shape)} and dtype {pbc.dtype}; expected {d} booleans, or "
            f"{d} for each of {num_graphs} graphs"
        )
    rows = cell.abs().amax(2, keepdim=True)
    volume = torch.linalg.det((cell / rows).double()).abs()
    singular = ((volume < 1e-6) | (rows == 0).any(2).any(1)).nonzero()
    if len(singular) > 0:
        raise ValueError(
            f"cell of graph {int(singular[0])} is singular: {cell[singular[0, 0]].tolist()}; "
            "expected independent rows: complete the basis in directions that do not repeat"
        )
    return cell, pbc.expand(num_graphs, d)
