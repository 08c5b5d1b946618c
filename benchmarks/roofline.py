"""What this machine can do at most: moving memory and multiplying matrices."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from benchmarks.registry import Work

COPY_BYTES = 2**29  # far beyond any cache
MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}
ATTEMPTS = 5


@dataclass(frozen=True)
class Ceilings:
    """The best of a few attempts, on this machine, with its number of threads."""

    copy: float
    """Bytes read and bytes written per second by a copy."""
    matmul: float
    """Floating-point operations per second of a float32 matrix product."""
    matmul_tf32: float = math.nan
    """The same with inputs rounded to TF32; only on a GPU."""

    @property
    def accurate_matmul(self) -> float:
        """Operations per second with the accuracy of float32.

        Three TF32 products give it too, so a third of the TF32 rate counts where that is more.
        """
        third = self.matmul_tf32 / 3
        return self.matmul if math.isnan(third) else max(self.matmul, third)

    def describe(self) -> str:
        """Return the figures as a text."""
        text = f"copy {self.copy / 1e9:.3g} GB/s, matmul {self.matmul / 1e9:.4g} GF/s"
        if not math.isnan(self.matmul_tf32):
            text += f" (TF32 {self.matmul_tf32 / 1e9:.4g})"
        return text


@dataclass(frozen=True)
class Rates:
    """What was achieved, and what part of the ceilings that is."""

    gb_s: float = math.nan
    of_copy: float = math.nan
    gflop_s: float = math.nan
    of_matmul: float = math.nan
    limit: str = ""
    """The ceiling that is nearer: `memory` or `matmul`."""


def measure_ceilings(
    device: torch.device, copy_bytes: int = COPY_BYTES, size: int | None = None
) -> Ceilings:
    """Measure the ceilings of a device.

    Args:
        device: what to measure.
        copy_bytes: size of the tensor that is copied; it must exceed the caches.
        size: rows and columns of the matrices; None takes one that suits the device.
    """
    copy = _copy_rate(device, copy_bytes)
    n = size or MATMUL_SIZE[device.type]
    # Random numbers: the power drawn, and with it the clock of a GPU, depends on them.
    a, b = torch.randn(2, n, n, device=device)
    with _tf32(False):
        matmul = _matmul_rate(a, b)
    if device.type != "cuda":
        return Ceilings(copy, matmul)
    with _tf32(True):
        return Ceilings(copy, matmul, _matmul_rate(a, b))


def rates(work: Work, seconds: float, ceilings: Ceilings) -> Rates:
    """Return the rates at which some work was done in a time."""
    gb_s = work.bytes / seconds / 1e9
    of_copy = 1e9 * gb_s / ceilings.copy
    if work.flops is None:
        return Rates(gb_s, of_copy)
    gflop_s = work.flops / seconds / 1e9
    of_matmul = 1e9 * gflop_s / ceilings.accurate_matmul
    return Rates(gb_s, of_copy, gflop_s, of_matmul, "memory" if of_copy > of_matmul else "matmul")


def seconds_of(
    run: Callable[[], object],
    calls: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the seconds per call."""
    _synchronize(device)
    start = clock()
    for _ in range(calls):
        run()
    _synchronize(device)
    return (clock() - start) / calls


def _copy_rate(device: torch.device, size: int) -> float:
    source = torch.ones(size // 4, device=device)  # written, so that all of it is there
    target = torch.ones_like(source)
    return 2 * size / _best_seconds(lambda: target.copy_(source), device)


def _matmul_rate(a: torch.Tensor, b: torch.Tensor) -> float:
    c = torch.empty_like(a)
    return 2 * len(a) ** 3 / _best_seconds(lambda: torch.matmul(a, b, out=c), a.device)


def _best_seconds(run: Callable[[], object], device: torch.device) -> float:
    run()
    return min(seconds_of(run, 1, device) for _ in range(ATTEMPTS))


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
