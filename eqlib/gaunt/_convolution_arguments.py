"""Argument checks of the convolution."""

from collections.abc import Mapping

import torch
from torch import Tensor

from eqlib.gaunt._convolution_tables import Degrees
from eqlib.geometry._checks import check_index

LIMIT = 30
"""Largest degree of features, filter and result: that to which the harmonics are tested."""


def check_convolution(
    x: Tensor,
    vectors: Tensor,
    radial: Tensor,
    edge_index: Tensor,
    lmax_out: int,
    num_nodes: int,
    complete: bool,
) -> Degrees:
    """Raise unless the arguments fit; return the largest degrees."""
    _check_tensors({"x": x, "vectors": vectors, "radial": radial}, edge_index)
    _check_indices(edge_index, x.shape[0], num_nodes)
    edges = edge_index.shape[1]
    if vectors.shape != (edges, 3):
        raise ValueError(
            f"vectors: expected shape ({edges}, 3), one per edge of edge_index, "
            f"got {tuple(vectors.shape)}"
        )
    lmax3 = _known(lmax_out, "lmax_out")
    parities = (2,) if complete else ()
    if x.ndim != 3 + complete or x.shape[1:-2] != parities:
        expected = "(nodes, 2, coeffs, channels)" if complete else "(nodes, coeffs, channels)"
        raise ValueError(
            f"x: expected shape {expected} with complete={complete}, got {tuple(x.shape)}"
        )
    if radial.shape[:-2] != (edges, *parities) or radial.shape[-1:] != x.shape[-1:]:
        shape = ", ".join(map(str, (edges, *parities, "degrees", x.shape[-1])))
        raise ValueError(
            f"radial: expected shape ({shape}), one weight per edge, degree of the filter and "
            f"channel of x, got {tuple(radial.shape)}"
        )
    return _degree_of(x), _known(radial.shape[-2] - 1, "largest degree of radial"), lmax3


def _check_tensors(tensors: Mapping[str, Tensor], edge_index: Tensor) -> None:
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise TypeError(
                f"{name}: expected floating-point numbers, got {tensor.dtype}; "
                "convert with .to(torch.get_default_dtype())"
            )
        if tensor.device != edge_index.device:
            raise ValueError(
                f"{name}: on {tensor.device}, but edge_index is on {edge_index.device}; "
                "move one to the other with .to(device)"
            )


def _check_indices(edge_index: Tensor, sources: int, targets: int) -> None:
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        raise ValueError(
            f"edge_index: expected shape (2, edges), sources then targets, "
            f"got {tuple(edge_index.shape)}"
        )
    check_index(edge_index[0], sources, "edge_index[0]", "len(x)")
    check_index(edge_index[1], targets, "edge_index[1]", "num_nodes")


def _degree_of(x: Tensor) -> int:
    """Return the degree of the features."""
    # Comparisons, not a root: they make a plain number of a symbolic size.
    for degree in range(LIMIT + 1):
        if x.shape[-2] == (degree + 1) ** 2:
            return degree
    raise ValueError(
        f"x: expected (L+1)^2 coefficients in axis -2, with L up to {LIMIT}, got {x.shape[-2]} "
        f"in shape {tuple(x.shape)}"
    )


def _known(degree: int, name: str) -> int:
    """Return a degree as a plain number."""
    if isinstance(degree, bool) or not isinstance(degree, int | torch.SymInt):
        raise TypeError(f"{name}: expected a whole number, such as 3, got {degree!r}")
    for value in range(LIMIT + 1):
        if degree == value:
            return value
    raise ValueError(f"{name}: expected a degree from 0 to {LIMIT}, got {degree}")
