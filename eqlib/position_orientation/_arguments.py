"""Checks of arguments."""

from math import inf
from numbers import Real

import torch
from torch import Tensor

from eqlib.geometry._checks import check_count, check_ends, check_index, check_vector
from eqlib.kernels.autocast import is_autocasting
from eqlib.kernels.position_orientation_conv import NAMES
from eqlib.kernels.tracing import is_readable
from eqlib.position_orientation.spaces.space import Space

SEARCHES = ("dense", "knn", "radius")
ROUNDING = 0.03
"""Largest deviation from unit length, or from a right angle, that bfloat16 may have made."""


def check_type(name: str, value: object, expected: type) -> None:
    """Raise unless a value is an instance of a type."""
    if not isinstance(value, expected):
        raise TypeError(
            f"{name} is of type {type(value).__name__}; expected {expected.__name__}: write "
            f"{name}={expected.__name__}(...)"
        )


def check_number(name: str, value: object) -> None:
    """Raise unless a value is a real number."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected a number")


def check_positive(name: str, value: float) -> None:
    """Raise unless a length is positive and finite."""
    check_number(name, value)
    if not 0 < value < inf:
        raise ValueError(f"{name} is {value}; expected a positive, finite number")


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
    check_count("hidden", hidden, 1)
    check_count("basis", basis, 1)
    check_count("degree", degree, 1)
    check_count("edge_scalars", edge_scalars, 0)
    check_count("gaussians", gaussians, 0)
    if gaussians == 1:
        raise ValueError("gaussians is 1; expected 0 for none, or at least 2")
    check_count("waves", waves, 0)
    check_positive("softening", softening)
    check_positive("extent", extent)


def check_implementation(implementation: str) -> None:
    """Raise unless there is such an implementation of the convolution, or it is "auto"."""
    names = ("auto", *NAMES)
    if implementation not in names:
        raise ValueError(
            f"implementation is {implementation!r}; expected one of {', '.join(names)}"
        )


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
        raise ValueError(f"search is {search!r}; expected one of {', '.join(SEARCHES)}")
    if search == "knn" and k is None:
        raise ValueError('k is None; search="knn" expects the number of nearest nodes')
    if search == "radius" and radius is None:
        raise ValueError('radius is None; search="radius" expects a distance')
    if k is not None:
        check_count("k", k, 0)
    if radius is not None:
        check_positive("radius", radius)


def check_edge_scalars(scalars: Tensor | None, expected: int) -> None:
    """Raise unless edges have as many scalars as the kernels see."""
    if scalars is not None and scalars.ndim < 2:
        raise ValueError(f"edge_scalars has shape {tuple(scalars.shape)}; expected (edges, s)")
    count = 0 if scalars is None else scalars.shape[-1]
    if count != expected:
        raise ValueError(
            f"edge_scalars has {count} scalars per edge; the kernels expect {expected}, as set by "
            "the argument edge_scalars of the module"
        )


def check_dtype(features: Tensor, weight: Tensor) -> None:
    """Raise unless features have the dtype of a layer, where no autocast converts them."""
    device = features.device.type
    if features.dtype != weight.dtype and not is_autocasting(device):
        raise TypeError(
            f"features: got {features.dtype}, expected the layer's {weight.dtype}; "
            f"convert it with features.to({weight.dtype})"
        )


def check_orientations(name: str, orientations: Tensor, space: Space) -> None:
    """Raise unless orientations are unit vectors or rotations, where they can be looked at."""
    if space.kind == "positions" or not is_readable(orientations):
        return
    values = orientations.detach().double()
    if space.kind == "frames":
        unit = torch.eye(space.dimension, dtype=values.dtype, device=values.device)
        deviation = (values.mT @ values - unit).abs().amax((-2, -1))
        fits, what = (deviation <= ROUNDING) & (torch.linalg.det(values) > 0), "rotation matrices"
    else:
        fits, what = (values.norm(dim=-1) - 1).abs() <= ROUNDING, "unit vectors"
    if not bool(fits.all()):
        found = values[~fits][0].tolist()
        raise ValueError(f"{name} has {found}; {space.name} expects {what}: normalise them first")


def check_edges(
    points: Tensor,
    edge_index: Tensor | None,
    scalars: Tensor | None,
    batch: Tensor | None,
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
    if batch is not None and is_readable(edge_index):
        check_ends(edge_index, batch)


def _check_edge_index(edge_index: Tensor) -> None:
    """Raise unless edges have a source and a target each."""
    if not isinstance(edge_index, Tensor):
        raise TypeError(
            f"edge_index is of type {type(edge_index).__name__}; expected a tensor (2, edges), "
            "which knn_graph and radius_graph return as .edge_index"
        )
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        raise ValueError(f"edge_index has shape {tuple(edge_index.shape)}; expected (2, edges)")
