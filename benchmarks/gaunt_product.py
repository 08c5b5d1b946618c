"""The Gaunt product and the Poisson bracket product, against channelwise Clebsch-Gordan products.

A row is one channel of one item of the batch. Peers compute the same paths, and are given the same
numbers, in their own layout; where a peer offers a different set of paths, it says so.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial

import torch
from torch import Tensor

from benchmarks.registry import (
    PASSES,
    Benchmark,
    Contender,
    Device,
    Foreign,
    Inputs,
    MadeFor,
    Offer,
    OnlyFor,
    Pass,
    Problem,
    Work,
    if_installed,
)
from benchmarks.tensor_product_peers import (
    Method,
    Paths,
    coefficients,
    cuequivariance_uuu,
    e3nn_uuu,
    make_cuequivariance,
    size_of,
    torch_grid,
)
from eqlib.gaunt import gaunt_product, poisson_product
from eqlib.harmonics import half_grid
from eqlib.kernels.gaunt_product import LARGEST_DEGREE, pick, whynot
from eqlib.kernels.gaunt_product.triton_tables import SPARSE_UP_TO
from eqlib.kernels.problems import EQUAL_DEGREES, MIXED_DEGREES

Shape = tuple[tuple[int, int, int], int, int]
"""Degrees of both operands and of the result, batch and channels."""
METHODS: tuple[Method, ...] = ("naive", "uniform_1d", "fused_tp")
ROUNDED = {"triton_tf32": ("the same in TF32", 1e-2), "triton_bf16": ("the same in bfloat16", 5e-2)}
"""Implementations that round their factors: what they compute, and how well."""
TOO_MUCH = "left out: it takes too long here, or too much memory"


def _features(
    degrees: tuple[int, int, int], batch: int, channels: int, generator: torch.Generator
) -> Inputs:
    x, y = (
        torch.randn(batch, (lmax + 1) ** 2, channels, device=generator.device, generator=generator)
        for lmax in degrees[:2]
    )
    return {"x": x, "y": y, "lmax_out": degrees[2]}


def _problems(device: Device, shapes: Iterable[Shape], passes: int = 3) -> dict[str, Problem]:
    """Return problems by name; the number of passes counts from the cheapest."""
    problems = {}
    for degrees, batch, channels in shapes:
        lmax, *others = degrees
        equal = set(others) == {lmax}
        what = f"L={lmax}" if equal else f"L={lmax} x {others[0]} to {others[1]}"
        place = {"degree": lmax, "rows": batch * channels, "channels": channels} if equal else {}
        problems[f"{what}, {batch:,} x {channels}"] = Problem(
            partial(_features, degrees, batch, channels),
            on_device=True,
            devices=(device,),
            passes=PASSES[:passes],
            place=place,
        )
    return problems


def _equal(lmaxes: Iterable[int], batch: int, channels: int) -> list[Shape]:
    return [(EQUAL_DEGREES[f"L{lmax}"], batch, channels) for lmax in lmaxes]


def _mixed(names: Iterable[str], batch: int, channels: int) -> list[Shape]:
    return [(MIXED_DEGREES[name], batch, channels) for name in names]


CPU_LOW = _problems("cpu", _equal([1, 2], 2048, 32))
CPU_MEDIUM = {
    **_problems("cpu", _equal([3], 2048, 32)),
    **_problems("cpu", _equal([4], 2048, 32), passes=2),
}
CPU_MORE = _problems(
    "cpu",
    [
        *_equal([6], 2048, 32),
        *_equal([6], 512, 32),
        *_mixed(["L1x2to3", "L4x2to4"], 2048, 32),
    ],
    passes=2,
)
CPU_GROWING = _problems(
    "cpu", (shape for power in (9, 13, 15, 17) for shape in _equal([2], 2**power, 32)), passes=2
)
"""Beside that of 2^16 rows, to see how time and memory grow: from 2^14 to 2^22 rows."""
GPU_SMALL = _problems(
    "cuda",
    [*_equal(range(1, 9), 10_000, 64), *_mixed(["L4x2to4", "L6x2to6"], 10_000, 64)],
)
GPU_LARGE = _problems(
    "cuda",
    [
        *_equal(range(1, 9), 50_000, 128),
        *_equal([2, 4, 6], 50_000, 64),
        *_equal([2, 4, 6], 10_000, 128),
    ],
)
ALL = {**CPU_LOW, **CPU_MEDIUM, **CPU_MORE, **CPU_GROWING, **GPU_SMALL, **GPU_LARGE}
FEWER = {**CPU_LOW, **CPU_MEDIUM, **GPU_SMALL}
"""Enough to see that the bracket costs about the same."""

FOR_PEERS = frozenset(ALL.keys() - CPU_GROWING.keys())
FOR_NAIVE = FOR_PEERS - GPU_LARGE.keys()
FOR_SLOW = FOR_PEERS - CPU_MEDIUM.keys() - CPU_MORE.keys()
"""For what takes minutes on a CPU already at degree 3, to compile or to run."""


# How often a tensor of the kind of x, of y and of the output is read in a pass. The gradients of
# x and y need x, y and their cotangent; the gradients of those need the two seeds as well.
READ: dict[Pass, tuple[int, int, int]] = {
    "forward": (1, 1, 0),
    "forward+backward": (2, 2, 1),
    "double backward": (4, 4, 2),
}
WRITTEN: dict[Pass, tuple[int, int, int]] = {
    "forward": (0, 0, 1),
    "forward+backward": (1, 1, 1),
    "double backward": (2, 2, 2),
}
CONTRACTIONS: dict[Pass, int] = {"forward": 1, "forward+backward": 3, "double backward": 7}
"""How often the coefficients are summed over, where there is no grid."""


def _work(odd: bool, inputs: Inputs, stage: Pass, name: str) -> Work:
    """Return the bytes that no implementation can spare, and the operations of ours.

    On a grid, or half of it, each tensor read is evaluated at each point, two derivatives of it for
    the bracket, and each tensor written is projected back: a multiplication and an addition for
    each coefficient. Sums over nonzero coupling coefficients take two multiplications and one.
    """
    x = inputs["x"]
    degrees = size_of(inputs)[:3]
    rows = x.shape[0] * x.shape[2]
    read, written = (_coefficients(counts[stage], degrees) for counts in (READ, WRITTEN))
    if name == "auto":
        name, _ = pick(x.device, x.dtype, degrees, odd)
    flops = None
    sparse = name == "triton" and max(degrees) <= SPARSE_UP_TO
    if name in ("naive", "compiled") or sparse:
        flops = 3.0 * rows * CONTRACTIONS[stage] * _nonzeros(odd, degrees)
    elif name in ("blocked", "triton"):
        points = _half_points(odd, degrees) * (2 if name == "blocked" else 1)
        flops = 2.0 * rows * points * ((1 + odd) * read + written)
    return Work(bytes=float(rows * (read + written) * x.element_size()), flops=flops)


def _coefficients(counts: tuple[int, int, int], degrees: tuple[int, int, int]) -> int:
    return sum(n * (degree + 1) ** 2 for n, degree in zip(counts, degrees, strict=True))


@cache
def _nonzeros(odd: bool, degrees: tuple[int, int, int]) -> int:
    return int(coefficients("odd" if odd else "even", *degrees).count_nonzero())


@cache
def _half_points(odd: bool, degrees: tuple[int, int, int]) -> int:
    return len(half_grid(max(0, sum(degrees) - odd)).points)


def _ours(operation: Callable[..., Tensor], name: str) -> MadeFor:
    def make(inputs: Inputs) -> Contender:
        x = inputs["x"]
        reason = whynot(name, x.device, x.dtype, size_of(inputs)[:3])
        if reason:
            raise NotImplementedError(reason)
        run = partial(operation, implementation=name)
        if name not in ROUNDED:
            return run
        computes, tolerance = ROUNDED[name]
        return Foreign(run, computes=computes, tolerance=tolerance)

    return MadeFor(make)


def _all_paths(x: Tensor, y: Tensor, lmax_out: int) -> Tensor:
    return gaunt_product(x, y, lmax_out) + poisson_product(x, y, lmax_out)


def _of_all_paths(method: Method) -> MadeFor:
    """Return cuEquivariance's product of all paths, named and checked for what it is."""

    def make(inputs: Inputs) -> Foreign:
        product = make_cuequivariance("all", method, inputs)
        return Foreign(product, computes="all paths, even and odd", equals=_all_paths)

    return MadeFor(make)


def _peers(paths: Paths) -> dict[str, Offer | OnlyFor | str]:
    """Return the peers that offer some paths, or the reasons why they are missing."""
    offers: dict[str, Offer] = {
        "e3nn uuu": e3nn_uuu(paths),
        "e3nn uuu, torch.compile": e3nn_uuu(paths, compiled=True),
        **{f"cuequivariance {name}": cuequivariance_uuu(paths, name) for name in METHODS},
    }
    if paths == "even":
        offers |= {f"cuequivariance {name}, all paths": _of_all_paths(name) for name in METHODS[:2]}
        offers |= {
            "torch grid": torch_grid(),
            "torch grid, torch.compile": torch_grid(compiled=True),
        }
    peers: dict[str, Offer | OnlyFor | str] = {}
    for name, offer in offers.items():
        slow = name.startswith("cuequivariance") or name.endswith("torch.compile")
        limited = OnlyFor(FOR_SLOW if slow else FOR_PEERS, offer, TOO_MUCH)
        package = "cuequivariance_torch" if name.startswith("cuequivariance") else "torch"
        peers[name] = if_installed(package, limited)
    return peers


def _benchmark(
    name: str, operation: Callable[..., Tensor], problems: Mapping[str, Problem], odd: bool
) -> Benchmark:
    limits = {"naive": FOR_NAIVE, "fourier": FOR_NAIVE & FOR_SLOW}
    ours: dict[str, MadeFor | OnlyFor] = {}
    for each in LARGEST_DEGREE:
        offer = _ours(operation, each)
        ours[each] = OnlyFor(limits[each], offer, TOO_MUCH) if each in limits else offer
    return Benchmark(
        name=name,
        tests="tests/gaunt/test_product.py tests/kernels/gaunt_product",
        problems=problems,
        implementations={"auto": operation, **ours},
        peers=_peers("odd" if odd else "even"),
        passes=PASSES,
        differentiate=("x", "y"),
        work=partial(_work, odd),
    )


BENCHMARKS = (
    _benchmark("gaunt_product", gaunt_product, ALL, odd=False),
    _benchmark("poisson_product", poisson_product, FEWER, odd=True),
)
