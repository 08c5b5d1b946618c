"""Convolutions of spherical tensors along edges, at four sizes of graph."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.registry import PASSES, Benchmark, Inputs, Offer, OnlyFor, Problem, if_installed
from eqlib.gaunt import gaunt_convolution
from eqlib.harmonics import gaunt_coefficients

CHANNELS = 32
NEIGHBOURS = 16  # edges into a node, on average
EDGES = (100, 1_000, 10_000, 100_000)
DEGREES = (2, 4)
TWICE_UP_TO = 100_000  # edges times coefficients; double backward passes beyond take long


def _graph(edges: int, lmax: int, generator: torch.Generator) -> Inputs:
    """Return a random graph: sources in no order, as in a cloud whose points have none."""
    nodes = max(NEIGHBOURS, edges // NEIGHBOURS)
    source, target = torch.randint(nodes, (2, edges), generator=generator)
    return {
        "x": torch.randn(nodes, (lmax + 1) ** 2, CHANNELS, generator=generator),
        "vectors": torch.randn(edges, 3, generator=generator),
        "radial": torch.randn(edges, lmax + 1, CHANNELS, generator=generator),
        "edge_index": torch.stack([source, target.sort().values]),
    }


def _ours(method: str) -> Callable[..., Tensor]:
    def run(x: Tensor, **inputs: Tensor) -> Tensor:
        lmax_out = inputs["radial"].shape[1] - 1
        return gaunt_convolution(x, **inputs, lmax_out=lmax_out, method=method)

    return run


def _e3nn(x: Tensor, vectors: Tensor, radial: Tensor, edge_index: Tensor) -> Tensor:
    """Gather, multiply and scatter; layouts and weights are converted within the time.

    The conversion of features and weights takes less than a tenth of the product.
    """
    from e3nn import o3

    lmax = radial.shape[1] - 1
    product, degrees, factors = _e3nn_product(lmax, x.dtype, x.device)
    source, target = edge_index
    filters = o3.spherical_harmonics(list(range(lmax + 1)), vectors, True, "integral")
    weights = radial[:, degrees] * factors[:, None]
    messages = product(_mul_ir(x, lmax)[source], filters, weights.flatten(1))
    total = messages.new_zeros(len(x), messages.shape[1]).index_add(0, target, messages)
    return _grid_layout(total, lmax)


@cache
def _e3nn_product(
    lmax: int, dtype: torch.dtype, device: torch.device
) -> tuple[Any, list[int], Tensor]:
    """Return e3nn's product, and the filter's degree and our coefficient of each path."""
    from e3nn import o3

    names = [f"{degree}{'eo'[degree % 2]}" for degree in range(lmax + 1)]
    features = "+".join(f"{CHANNELS}x{name}" for name in names)
    instructions, degrees, factors = [], [], []
    coefficients = gaunt_coefficients(lmax, lmax, lmax)
    for l1 in range(lmax + 1):
        for l2 in range(lmax + 1):
            for l3 in range(abs(l1 - l2), min(lmax, l1 + l2) + 1, 2):
                instructions.append((l1, l2, l3, "uvu", True))
                degrees.append(l2)
                block = coefficients[l1**2 :, l2**2 :, l3**2 :][: 2 * l1 + 1, : 2 * l2 + 1]
                wigner = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
                factors.append(float((block[..., : 2 * l3 + 1] * wigner).sum()))
    product = o3.TensorProduct(
        features,
        "+".join(names),
        features,
        instructions,
        irrep_normalization="none",
        path_normalization="none",
        internal_weights=False,
        shared_weights=False,
    )
    return product.to(device, dtype), degrees, torch.tensor(factors, dtype=dtype, device=device)


def _mul_ir(x: Tensor, lmax: int) -> Tensor:
    parts = x.split([2 * degree + 1 for degree in range(lmax + 1)], dim=1)
    return torch.cat([part.mT.flatten(1) for part in parts], dim=1)


def _grid_layout(x: Tensor, lmax: int) -> Tensor:
    parts = x.split([CHANNELS * (2 * degree + 1) for degree in range(lmax + 1)], dim=1)
    return torch.cat([part.unflatten(1, (CHANNELS, -1)).mT for part in parts], dim=1)


def _problem(edges: int, lmax: int) -> Problem:
    most = 3 if edges * (lmax + 1) ** 2 < TWICE_UP_TO else 2
    place = {"degree": lmax, "edges": edges}
    return Problem(partial(_graph, edges, lmax), passes=PASSES[:most], place=place)


SIZES = {f"L={lmax}, {edges:,} edges": (edges, lmax) for lmax in DEGREES for edges in EDGES}


def _up_to(rows: int, operation: Offer) -> OnlyFor:
    """Return a contender for problems of so many edges times coefficients."""
    small = (name for name, (edges, lmax) in SIZES.items() if edges * (lmax + 1) ** 2 <= rows)
    return OnlyFor(frozenset(small), operation, "left out: it needs too much memory")


BENCHMARKS = (
    Benchmark(
        name="gaunt_convolution",
        tests="tests/gaunt/test_convolution.py tests/kernels/gaunt_convolution",
        problems={name: _problem(*size) for name, size in SIZES.items()},
        implementations={
            "grid": _ours("grid"),
            "aligned": _up_to(1_000_000, _ours("aligned")),
            "naive": _up_to(100_000, _ours("naive")),
        },
        peers={"e3nn": if_installed("e3nn", _up_to(1_000_000, _e3nn))},
        passes=PASSES,
        differentiate=("x", "vectors", "radial"),
        tolerance=5e-5,
    ),
)
