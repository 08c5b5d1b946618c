"""Time everything that answers a problem, in turns, after checking that the answers agree."""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.answers import DisagreementError, Question, Run, build, make_inputs, prepare
from benchmarks.memory import bytes_of, peak_bytes
from benchmarks.registry import Benchmark, Inputs, Pass
from benchmarks.roofline import Ceilings, Rates, rates, seconds_of

__all__ = ["DisagreementError", "Row", "compare"]

SAMPLE_SECONDS = 2e-3  # short calls are repeated until a sample takes so long
LEAST_SAMPLES = 3
SLOW_SECONDS = 0.2  # of such calls one is enough to warm up

Samples = list[tuple[int, float]]
"""The round and the seconds per call of each sample."""


@dataclass(frozen=True)
class Row:
    """What was measured of one contender in one pass over one problem."""

    benchmark: str
    problem: str
    stage: Pass
    name: str
    kind: str
    computes: str = ""
    """What it computes, where that is not what the others do."""
    p20_ms: float = math.nan
    p50_ms: float = math.nan
    p80_ms: float = math.nan
    samples: int = 0
    ratio: float = math.nan
    """Time over that of the reference in the same round, the median over all rounds."""
    calls: float = math.nan
    """Calls of the reference, on inputs as large, that are made within one call."""
    per_call: float = math.nan
    """The ratio for each of them: what is beyond 1 is spent elsewhere."""
    peak_mib: float = math.nan
    """Memory beyond the inputs, the results included."""
    extra: float = math.nan
    """Memory beyond inputs and results, relative to those."""
    gb_s: float = math.nan
    """Bytes that must be moved at least, per second; of_copy is that over the copy ceiling."""
    of_copy: float = math.nan
    gflop_s: float = math.nan
    """Operations of the implementation's algorithm per second; likewise of_matmul."""
    of_matmul: float = math.nan
    limit: str = ""
    """The nearer ceiling."""
    note: str = ""
    """Why there are no figures."""


def compare(
    benchmark: Benchmark,
    problem: str,
    device: torch.device,
    repeats: int,
    seconds: float = math.inf,
    ceilings: Ceilings | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Time all contenders on the same tensors, pass by pass.

    Args:
        benchmark: what to time.
        problem: name of the problem.
        device: where to put inputs and networks.
        repeats: number of rounds; each contender is sampled once in a round.
        seconds: time for the samples of one contender in one pass. Those that would need longer
            are left out of most rounds, but sampled in three at least.
        ceilings: of this device, for the rates.
        clock: returns seconds.

    Raises:
        DisagreementError: a contender differs from the reference.
    """
    inputs = make_inputs(benchmark, problem, device)
    contenders = {
        name: build(benchmark, name, given, inputs, device)
        for name, given in benchmark.contenders(problem)
    }
    rows = []
    for stage in (name for name in benchmark.passes if name in benchmark.problem(problem).passes):
        runs, notes = prepare(Question(benchmark, stage, inputs), contenders)
        samples = _sample(runs, device, repeats, seconds, clock)
        for name, operation in contenders.items():
            kind = "eqlib" if name in benchmark.implementations else "peer"
            computes = getattr(operation, "computes", "")
            row = Row(benchmark.name, problem, stage, name, kind=kind, computes=computes)
            if name in notes:
                rows.append(replace(row, note=notes[name]))
                continue
            row = _with_times(row, samples[name], samples[benchmark.reference])
            if benchmark.calls is not None:
                calls = benchmark.calls(inputs, name)
                row = replace(row, calls=calls, per_call=row.ratio / calls)
            row = _with_memory(row, runs[name], inputs, device)
            same = getattr(operation, "equals", None) is None
            if benchmark.work is not None and ceilings is not None and same:
                work = benchmark.work(inputs, stage, name)
                row = _with_rates(row, rates(work, row.p50_ms / 1e3, ceilings))
            rows.append(row)
    return rows


def _with_times(row: Row, samples: Samples, reference: Samples) -> Row:
    p20, p50, p80 = _percentiles([seconds for _, seconds in samples])
    ratio = _ratio(samples, reference)
    return replace(row, p20_ms=p20, p50_ms=p50, p80_ms=p80, samples=len(samples), ratio=ratio)


def _with_memory(row: Row, run: Run, inputs: Inputs, device: torch.device) -> Row:
    kept: list[Tensor] = []
    peak = peak_bytes(lambda: kept.extend(run()), device)
    results = bytes_of(kept)
    needed = bytes_of(inputs.values()) + results
    extra = (peak - results) / needed if needed else math.nan
    return replace(row, peak_mib=peak / 2**20, extra=extra)


def _with_rates(row: Row, found: Rates) -> Row:
    return replace(
        row,
        gb_s=found.gb_s,
        of_copy=found.of_copy,
        gflop_s=found.gflop_s,
        of_matmul=found.of_matmul,
        limit=found.limit,
    )


def _sample(
    runs: Mapping[str, Run],
    device: torch.device,
    repeats: int,
    seconds: float,
    clock: Callable[[], float],
) -> dict[str, Samples]:
    """Return the samples of each contender: one a round, or fewer of those that take long."""
    calls, rounds = {}, {}
    for name, run in runs.items():
        pace = _pace(run, device, clock)
        calls[name] = max(1, math.ceil(SAMPLE_SECONDS / pace))
        affordable = seconds / (calls[name] * pace)
        rounds[name] = math.floor(min(repeats, max(LEAST_SAMPLES, affordable)))
    samples: dict[str, Samples] = {name: [] for name in runs}
    for turn in range(repeats):
        for name, run in runs.items():
            # spread evenly over all rounds
            if (turn + 1) * rounds[name] // repeats > turn * rounds[name] // repeats:
                samples[name].append((turn, seconds_of(run, calls[name], device, clock)))
    return samples


def _pace(run: Run, device: torch.device, clock: Callable[[], float]) -> float:
    """Return the seconds of a call after some to warm up."""
    pace = math.inf
    for _ in range(3):
        pace = min(pace, seconds_of(run, 1, device, clock))
        if pace > SLOW_SECONDS:
            break
    return pace


def _percentiles(samples: Sequence[float]) -> list[float]:
    levels = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    milliseconds = 1e3 * torch.tensor(samples, dtype=torch.float64)
    return milliseconds.quantile(levels).tolist()


def _ratio(samples: Samples, reference: Samples) -> float:
    """Return the median of the ratios, each to the reference's sample of the nearest round."""
    turns = [turn for turn, _ in reference]
    pairs = []
    for turn, seconds in samples:
        after = min(bisect_left(turns, turn), len(turns) - 1)
        before = max(after - 1, 0)
        nearest = min(before, after, key=lambda index: abs(turns[index] - turn))
        pairs.append(seconds / reference[nearest][1])
    return torch.tensor(pairs, dtype=torch.float64).quantile(0.5).item()
