"""Time everything that answers a problem, in turns, after checking that the answers agree."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.registry import Benchmark, Inputs, Operation, Pass

SEED = 0
SAMPLE_SECONDS = 2e-3  # short calls are repeated until a sample takes so long

Answer = Sequence[Any]
Run = Callable[[], Answer]


class DisagreementError(ValueError):
    """An implementation or a peer does not compute what the reference computes."""


@dataclass(frozen=True)
class Row:
    """What was measured of one contender in one pass over one problem."""

    benchmark: str
    problem: str
    stage: Pass
    name: str
    kind: str
    p20_ms: float = math.nan
    p50_ms: float = math.nan
    p80_ms: float = math.nan
    ratio: float = math.nan
    """Time over that of the reference in the same round, the median over all rounds."""
    peak_mib: float = math.nan
    """Memory on the GPU beyond the inputs; not measured on the CPU."""
    note: str = ""
    """Why there are no figures."""


def compare(benchmark: Benchmark, problem: str, device: torch.device, repeats: int) -> list[Row]:
    """Time all contenders on the same tensors, pass by pass.

    Args:
        benchmark: what to time.
        problem: name of the problem.
        device: where to put inputs and networks.
        repeats: number of rounds; each contender is sampled once in a round.

    Raises:
        DisagreementError: a contender differs from the reference.
    """
    inputs = _make_inputs(benchmark, problem, device)
    contenders = {
        name: operation if isinstance(operation, str) else _build(operation, device)
        for name, operation in benchmark.contenders(problem)
    }
    rows = []
    for stage in benchmark.passes:
        runs, notes = _prepare(benchmark, stage, inputs, contenders)
        samples = _sample(runs, device, repeats)
        reference = samples[benchmark.reference]
        for name in contenders:
            kind = "eqlib" if name in benchmark.implementations else "peer"
            row = Row(benchmark.name, problem, stage, name, kind)
            if name in notes:
                rows.append(replace(row, note=notes[name]))
                continue
            p20, p50, p80 = _percentiles(samples[name])
            ratio = _ratio(samples[name], reference)
            peak = _peak_mib(runs[name], device)
            rows.append(
                replace(row, p20_ms=p20, p50_ms=p50, p80_ms=p80, ratio=ratio, peak_mib=peak)
            )
    return rows


def _make_inputs(benchmark: Benchmark, problem: str, device: torch.device) -> Inputs:
    inputs = benchmark.problems[problem](torch.Generator().manual_seed(SEED))
    for name, value in inputs.items():
        if isinstance(value, Tensor):
            inputs[name] = value.to(device).requires_grad_(name in benchmark.differentiate)
    return inputs


def _build(operation: Operation, device: torch.device) -> Operation:
    if not isinstance(operation, type):
        return operation
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return operation().to(device)


def _prepare(
    benchmark: Benchmark, stage: Pass, inputs: Inputs, contenders: Mapping[str, Operation | str]
) -> tuple[dict[str, Run], dict[str, str]]:
    """Run every contender once; return those that answer as the reference does.

    Returns:
        What to time by name, and the reason why by the name of each that cannot be timed.
    """
    runs: dict[str, Run] = {}
    notes: dict[str, str] = {}
    expected: list[Tensor | None] = []
    for name, operation in contenders.items():
        if isinstance(operation, str):
            notes[name] = operation
            continue
        try:
            run = _STAGES[stage](operation, inputs, _leaves(benchmark, operation, inputs))
            answer = run()
        except _excusable(benchmark, name) as error:
            notes[name] = f"{stage}: {str(error).splitlines()[0]}"
            continue
        if benchmark.agree:
            found = _canonical(benchmark, answer)
            expected = expected or found
            _check_agreement(benchmark, f"{name}, {stage}", found, expected)
        runs[name] = run
    return runs, notes


def _excusable(benchmark: Benchmark, name: str) -> tuple[type[Exception], ...]:
    """Return the errors after which the others are timed nevertheless."""
    if name == benchmark.reference:
        return ()
    return (NotImplementedError,) if name in benchmark.implementations else (RuntimeError,)


def _leaves(benchmark: Benchmark, operation: Operation, inputs: Inputs) -> list[Tensor]:
    leaves = [inputs[name] for name in benchmark.differentiate]
    return leaves + (list(operation.parameters()) if isinstance(operation, nn.Module) else [])


def _forward(operation: Operation, inputs: Inputs, leaves: Sequence[Tensor]) -> Run:
    def run() -> Answer:
        with torch.no_grad():
            return (operation(**inputs),)

    return run


def _backward(operation: Operation, inputs: Inputs, leaves: Sequence[Tensor]) -> Run:
    cotangent = _random_like(operation(**inputs))

    def run() -> Answer:
        output = operation(**inputs)
        return output, *torch.autograd.grad(output, leaves, cotangent, allow_unused=True)

    return run


def _double_backward(operation: Operation, inputs: Inputs, leaves: Sequence[Tensor]) -> Run:
    # The gradient of a linear operation depends on the cotangent alone.
    cotangent = _random_like(operation(**inputs)).requires_grad_()
    seeds = [_random_like(leaf) for leaf in leaves]

    def run() -> Answer:
        output = operation(**inputs)
        first = torch.autograd.grad(output, leaves, cotangent, create_graph=True)
        wanted = (*leaves, cotangent)
        return output, *first, *torch.autograd.grad(first, wanted, seeds, allow_unused=True)

    return run


_STAGES: dict[Pass, Callable[[Operation, Inputs, Sequence[Tensor]], Run]] = {
    "forward": _forward,
    "forward+backward": _backward,
    "double backward": _double_backward,
}


def _random_like(x: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(SEED + 1)
    return torch.randn(x.shape, dtype=x.dtype, generator=generator).to(x.device)


def _canonical(benchmark: Benchmark, answer: Answer) -> list[Tensor | None]:
    output, *gradients = answer
    return [benchmark.canonical(output) if benchmark.canonical else output, *gradients]


def _check_agreement(
    benchmark: Benchmark,
    name: str,
    found: Iterable[Tensor | None],
    expected: Iterable[Tensor | None],
) -> None:
    for position, (a, b) in enumerate(zip(found, expected, strict=True)):
        error = _relative_error(a, b)
        if not error <= benchmark.tolerance:  # NaN disagrees
            what = f"gradient {position}" if position else "output"
            raise DisagreementError(
                f"{benchmark.name}: {what} of {name} differs from that of "
                f"{benchmark.reference} by {error:.1e}, "
                f"relative; expected at most {benchmark.tolerance:.0e}"
            )


def _relative_error(a: Tensor | None, b: Tensor | None) -> float:
    """Compare two tensors, where None is a gradient that is zero everywhere."""
    if a is None or b is None:
        given = b if a is None else a
        return 0.0 if given is None or not given.any() else math.inf
    if a.shape != b.shape or a.dtype != b.dtype:
        return math.inf
    if a.numel() == 0:
        return 0.0
    if not a.is_floating_point():
        return 0.0 if torch.equal(a, b) else math.inf
    a, b = a.detach(), b.detach()
    scale = b.abs().max().clamp(min=torch.finfo(b.dtype).tiny)
    return float((a - b).abs().max() / scale)


def _sample(runs: Mapping[str, Run], device: torch.device, repeats: int) -> dict[str, list[float]]:
    """Return the seconds per call of each contender, one sample a round."""
    calls = {}
    for name, run in runs.items():
        seconds = min(_seconds(run, 1, device) for _ in range(3))  # also the warm-up
        calls[name] = max(1, math.ceil(SAMPLE_SECONDS / seconds))
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            samples[name].append(_seconds(run, calls[name], device))
    return samples


def _seconds(run: Run, calls: int, device: torch.device) -> float:
    _synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    _synchronize(device)
    return (time.perf_counter() - start) / calls


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _percentiles(samples: Sequence[float]) -> list[float]:
    levels = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    milliseconds = 1e3 * torch.tensor(samples, dtype=torch.float64)
    return milliseconds.quantile(levels).tolist()


def _ratio(samples: Sequence[float], reference: Sequence[float]) -> float:
    pairs = [a / b for a, b in zip(samples, reference, strict=True)]
    return torch.tensor(pairs, dtype=torch.float64).quantile(0.5).item()


def _peak_mib(run: Run, device: torch.device) -> float:
    if device.type != "cuda":
        return math.nan
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20
