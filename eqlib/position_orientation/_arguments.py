"""Checks of arguments."""

from math import inf

import torch
from torch import Tensor

from eqlib.geometry._checks import check_index, check_vector
from eqlib.position_orientation.spaces.space import Space

SEARCHES = ("dense", "knn", "radius")


def check_positive(name: str, value: float | None) -> None:
    """Raise unless a length is positive and finite, or None."""
    if value is not None and not 0 < value < inf:
        raise ValueError(f"{name} is {value}; expected a positive, finite number")


def check_at_least(name: str, value: int, least: int) -> None:
    """Raise unless a count is an integer that is large enough."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected an integer")
    if value < least:
        raise ValueError(f"{name} is {value}; expected at least {least}")


def check_kernels(
    hidden: int,
    basis: int,
    degree: int,
    edge_scalars: int,
    softening: float,
    gaussians: int,
    waves: int,
    extent: float,
) -> None:
    """Raise unless the sizes of the networks of kernels are right."""
    check_at_least("hidden", hidden, 1)
    check_at_least("basis", basis, 1)
    check_at_least("degree", degree, 1)
    check_at_least("edge_scalars", edge_scalars, 0)
    check_at_least("gaussians", gaussians, 0)
    check_at_least("waves", waves, 0)
    check_positive("softening", softening)
    check_positive("extent", extent)


def check_points(
    points: Tensor,
    space: Space,
    batch: Tensor | None,
    mask: Tensor | None,
    num_graphs: int | None,
) -> None:
    """Raise unless points are positions of the space, and the graphs of the nodes fit them."""
    if not points.is_floating_point():
        raise TypeError(f"points has dtype {points.dtype}; expected floating point: use .float()")
    if points.ndim not in (2, 3) or points.shape[-1] != space.dimension:
        raise ValueError(
            f"points has shape {tuple(points.shape)}; {space.name} expects (nodes, "
            f"{space.dimension}), or (clouds, nodes, {space.dimension}) for clouds of one size"
        )
    if points.ndim == 3 and batch is not None:
        raise ValueError("batch is given with points of clouds, each of which is a graph already")
    if mask is not None and mask.shape != points.shape[:-1]:
        raise ValueError(f"mask has shape {tuple(mask.shape)}; expected {tuple(points.shape[:-1])}")
    if mask is not None and points.ndim == 2:
        raise ValueError("mask needs points of clouds, (clouds, nodes, n); leave out other nodes")
    if mask is not None and mask.dtype != torch.bool:
        raise TypeError(f"mask has dtype {mask.dtype}; expected torch.bool: use .bool()")
    if batch is None:
        return
    check_vector(batch, "batch")
    if batch.shape != points.shape[:1]:
        raise ValueError(
            f"batch has shape {tuple(batch.shape)}; expected one entry for each of "
            f"{points.shape[0]} nodes"
        )
    if num_graphs is not None:
        check_index(batch, num_graphs, "batch", "num_graphs")


def check_search(search: str, k: int | None, radius: float | None) -> None:
    """Raise unless a search has what it needs."""
    if search not in SEARCHES:
        raise ValueError(f"neighbours is {search!r}; expected one of {', '.join(SEARCHES)}")
    if search == "knn" and k is None:
        raise ValueError('k is None; neighbours="knn" expects the number of nearest nodes')
    if search == "radius" and radius is None:
        raise ValueError('radius is None; neighbours="radius" expects a distance')
    if k is not None:
        check_at_least("k", k, 0)
    check_positive("radius", radius)


def check_count(scalars: Tensor | None, expected: int) -> None:
    """Raise unless edges have as many scalars as the kernels see."""
    if scalars is not None and scalars.ndim < 2:
        raise ValueError(f"edge_scalars has shape {tuple(scalars.shape)}; expected (edges, s)")
    count = 0 if scalars is None else scalars.shape[-1]
    if count != expected:
        raise ValueError(
            f"edge_scalars has {count} scalars per edge; the kernels expect {expected}, as set by "
            "the argument edge_scalars of the module"
        )


def check_edges(
    points: Tensor,
    edge_index: Tensor | None,
    scalars: Tensor | None,
    search: str,
    k: int | None,
    radius: float | None,
) -> None:
    """Raise unless given edges and their scalars fit the points, or a search has what it needs."""
    check_search(search, k, radius)
    if edge_index is None:
        if scalars is not None and (points.ndim == 2 or search != "dense"):
            raise ValueError(
                "edge_scalars has no edges to belong to: give edge_index, which "
                "eqlib.geometry.complete_graph, knn_graph and radius_graph return"
            )
        expected = (*points.shape[:-1], points.shape[-2])
        if scalars is not None and scalars.shape[:-1] != expected:
            raise ValueError(
                f"edge_scalars has shape {tuple(scalars.shape)}; expected (clouds, nodes, nodes, "
                f"s) with {expected} in front"
            )
        return
    _check_edge_index(edge_index)
    if points.ndim == 3:
        raise ValueError(
            "edge_index is given with points of clouds, (clouds, nodes, n); flatten them to "
            "(nodes, n) and number the nodes on from cloud to cloud"
        )
    check_index(edge_index.flatten(), points.shape[0], "edge_index", "nodes")
    if scalars is not None and scalars.shape[:-1] != edge_index.shape[1:]:
        raise ValueError(
            f"edge_scalars has shape {tuple(scalars.shape)}; expected ({edge_index.shape[1]}, s), "
            "one row per edge of edge_index"
        )


def _check_edge_index(edge_index: Tensor) -> None:
    """Raise unless edges have a source and a target each."""
    if not isinstance(edge_index, Tensor):
        raise TypeError(
            f"edge_index is of type {type(edge_index).__name__}; expected a tensor (2, edges), "
            "which knn_graph and radius_graph return as .edge_index"
        )
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        raise ValueError(f"edge_index has shape {tuple(edge_index.shape)}; expected (2, edges)")
