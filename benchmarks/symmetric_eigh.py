"""Eigendecomposition of many small symmetric matrices, against torch's solver.

Eigenvectors are defined up to sign, so the outputs are compared by what does not depend on it; and
what is differentiated is the sum of the eigenvalues and of the squares of each eigenvector's
component along a weight, which all contenders pay for.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from benchmarks.registry import Benchmark, Device, Inputs, MadeFor, Offer, Pass, Problem, Work
from eqlib.geometry import symmetric_eigh
from eqlib.kernels.symmetric_eigh import NAMES, blocked, whynot

Eigh = Callable[[Tensor], tuple[Tensor, Tensor]]
TESTS = "tests/geometry/test_eigh.py tests/kernels/symmetric_eigh"
TOLERANCE = 1e-3
"""Of float32: eigenvectors have errors of a rounding error over the gap of the eigenvalues."""


def _matrices(
    count: int, dimension: int, dtype: torch.dtype, weighted: bool, generator: torch.Generator
) -> Inputs:
    """Return matrices with eigenvalues near 1, 2 and 3, turned at random."""
    shape = (count, dimension, dimension)
    random = torch.randn(shape, device=generator.device, generator=generator).double()
    turn = torch.linalg.qr(random).Q
    noise = torch.rand(shape[:2], device=generator.device, generator=generator).double()
    spectrum = torch.arange(1, dimension + 1, device=generator.device) + noise / 2
    product = (turn * spectrum[:, None]) @ turn.mT
    inputs = {"matrices": ((product + product.mT) / 2).to(dtype)}
    if weighted:
        inputs["weights"] = torch.randn(shape, device=generator.device, generator=generator).to(
            dtype
        )
    return inputs


def _problems(weighted: bool) -> dict[str, Problem]:
    problems = {}
    for dimension, counts in ((3, (100, 1_000, 10_000, 100_000)), (2, (100_000,))):
        for count in counts:
            for dtype in (torch.float32, torch.float64):
                devices: tuple[Device, ...] = ("cpu", "cuda")
                problems[f"{count:,} of {dimension}x{dimension}, {str(dtype)[6:]}"] = Problem(
                    partial(_matrices, count, dimension, dtype, weighted),
                    on_device=True,
                    devices=devices,
                )
    for dtype in (torch.float32, torch.float64):
        problems[f"10,000,000 of 3x3, {str(dtype)[6:]}"] = Problem(
            partial(_matrices, 10_000_000, 3, dtype, weighted), on_device=True, devices=("cuda",)
        )
    return problems


def _reconstructed(output: tuple[Tensor, Tensor]) -> Tensor:
    """Return what does not depend on the signs: eigenvalues and projectors."""
    values, vectors = output
    projectors = vectors.mT[..., :, None] * vectors.mT[..., None, :]
    return torch.cat([values, projectors.flatten(1)], -1)


def _overlaps(eigh: Eigh, matrices: Tensor, weights: Tensor) -> Tensor:
    values, vectors = eigh(matrices)
    return values + (vectors * weights).sum(-2).square()


def _alone(eigh: Eigh) -> Callable[..., object]:
    return eigh


def _differentiable(eigh: Eigh) -> Callable[..., object]:
    return partial(_overlaps, eigh)


def _torch(matrices: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(matrices)
    return values, vectors


def _ours(name: str, use: Callable[[Eigh], Callable[..., object]]) -> MadeFor:
    def make(inputs: Inputs) -> Callable[..., object]:
        matrices = inputs["matrices"]
        reason = whynot(name, matrices.device, matrices.dtype, matrices.shape[-1])
        if reason:
            raise NotImplementedError(reason)
        return use(partial(symmetric_eigh, implementation=name))

    return MadeFor(make)


def _compiled(eigh: Eigh, use: Callable[[Eigh], Callable[..., object]]) -> MadeFor:
    def make(inputs: Inputs) -> Callable[..., object]:
        torch._dynamo.reset()
        run: Callable[..., object] = torch.compile(use(eigh), fullgraph=True, dynamic=False)
        return run

    return MadeFor(make)


def _bytes(inputs: Inputs, stage: Pass, name: str) -> Work:
    """Return the bytes of matrices, eigenvalues and eigenvectors."""
    matrices = inputs["matrices"]
    count, dimension = matrices.shape[:2]
    return Work(float(count * dimension * (2 * dimension + 1) * matrices.element_size()))


def _contenders(
    use: Callable[[Eigh], Callable[..., object]],
) -> tuple[Mapping[str, Offer], Mapping[str, Offer]]:
    ours: dict[str, Offer] = {"auto": use(symmetric_eigh)}
    ours |= {name: _ours(name, use) for name in NAMES}
    if use is _alone:
        # What is compiled has no second derivative, nor the closed form a guarded first one.
        ours["auto, torch.compile"] = _compiled(symmetric_eigh, use)
        ours["closed form, torch.compile"] = _compiled(blocked.closed_form, use)
    peers: dict[str, Offer] = {
        "torch.linalg.eigh": use(_torch),
        "torch.linalg.eigh, torch.compile": _compiled(_torch, use),
    }
    return ours, peers


_FORWARD, _GRADIENT = _contenders(_alone), _contenders(_differentiable)

BENCHMARKS = (
    Benchmark(
        name="symmetric_eigh",
        tests=TESTS,
        problems=_problems(weighted=False),
        implementations=_FORWARD[0],
        peers=_FORWARD[1],
        passes=("forward",),
        tolerance=TOLERANCE,
        canonical=_reconstructed,
        work=_bytes,
    ),
    Benchmark(
        name="symmetric_eigh_gradient",
        tests=TESTS,
        problems=_problems(weighted=True),
        implementations=_GRADIENT[0],
        peers=_GRADIENT[1],
        passes=("forward+backward", "double backward"),
        differentiate=("matrices",),
        tolerance=TOLERANCE,
    ),
)
