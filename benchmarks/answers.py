"""Ask all contenders the same question, and check that their answers agree."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.registry import (
    Benchmark,
    Contender,
    Foreign,
    Inputs,
    MadeFor,
    Offer,
    Operation,
    Pass,
)
from eqlib.subgraph import SubgraphPlan

SEED = 0
NOTE_LENGTH = 120

Answer = Sequence[Any]
Run = Callable[[], Answer]


class DisagreementError(ValueError):
    """An implementation or a peer does not compute what the reference computes."""


@dataclass(frozen=True)
class Question:
    """A pass over a problem, in our layout."""

    benchmark: Benchmark
    stage: Pass
    inputs: Inputs


def make_inputs(benchmark: Benchmark, problem: str, device: torch.device) -> Inputs:
    """Return the arguments of a problem, with gradients where the benchmark wants them."""
    given = benchmark.problem(problem)
    source = torch.Generator(device if given.on_device else "cpu")
    inputs = given.make(source.manual_seed(SEED))
    for name, value in inputs.items():
        if isinstance(value, Tensor):
            inputs[name] = value.to(device).requires_grad_(name in benchmark.differentiate)
        elif isinstance(value, SubgraphPlan):
            inputs[name] = value.to(device)
    return inputs


def build(
    benchmark: Benchmark, name: str, given: Offer | str, inputs: Inputs, device: torch.device
) -> Contender | str:
    """Return what can answer, or the reason why it cannot; a network is made with a fixed seed."""
    if isinstance(given, MadeFor):
        try:
            return given.make(inputs)
        except _excusable(benchmark, name) as error:
            return _reason(error)
    if not isinstance(given, type):
        return given
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return given().to(device)


def prepare(
    question: Question, contenders: Mapping[str, Contender | str]
) -> tuple[dict[str, Run], dict[str, str]]:
    """Run every contender once; return those that answer as they should.

    Returns:
        What to time by name, and the reason why by the name of each that cannot be timed.

    Raises:
        DisagreementError: a contender differs from what it is held against.
    """
    benchmark, stage = question.benchmark, question.stage
    runs: dict[str, Run] = {}
    notes: dict[str, str] = {}
    expected: list[Tensor | None] = []
    for name, operation in contenders.items():
        if isinstance(operation, str):
            notes[name] = operation
            continue
        try:
            run = make_run(question, operation)
            answer = run()
        except _excusable(benchmark, name) as error:
            notes[name] = f"{stage}: {_reason(error)}"
            continue
        if benchmark.agree:
            found = _in_our_form(benchmark, operation, answer)
            del answer
            expected = expected or found
            own = _own_expectation(question, operation)
            tolerance = getattr(operation, "tolerance", None) or benchmark.tolerance
            names = (benchmark.name, f"{name}, {stage}", benchmark.reference)
            _check_agreement(names, found, own or expected, tolerance, benchmark.outputs)
        runs[name] = run
    return runs, notes


def make_run(question: Question, operation: Contender) -> Run:
    """Return a pass of an operation, ready to be timed: a function without arguments."""
    stage = _STAGES[question.stage]
    device = next(x.device for x in question.inputs.values() if isinstance(x, Tensor))
    generator = torch.Generator(device).manual_seed(SEED + 1)  # the same numbers for all
    inputs, wanted = question.inputs, question.benchmark.differentiate
    if not isinstance(operation, Foreign):
        leaves = [inputs[name] for name in wanted]
        if isinstance(operation, nn.Module):
            leaves += operation.parameters()
        return stage(operation, inputs, leaves, partial(_random_like, generator))
    native = {
        name: operation.to_native(inputs[name].detach()).contiguous().requires_grad_()
        for name in wanted
    }

    def random_like(x: Tensor) -> Tensor:
        ours = _random_like(generator, operation.from_native(x.detach()))
        return operation.to_native(ours).contiguous()

    return stage(operation.operation, {**inputs, **native}, [*native.values()], random_like)


def _excusable(benchmark: Benchmark, name: str) -> tuple[type[Exception], ...]:
    """Return the errors after which the others are timed nevertheless.

    Ours may decline a problem or find no memory; those of others may fail in any way.
    """
    if name == benchmark.reference:
        return ()
    ours = name in benchmark.implementations
    return (NotImplementedError, torch.OutOfMemoryError) if ours else (Exception,)


def _reason(error: Exception) -> str:
    kind = "" if isinstance(error, RuntimeError) else f"{type(error).__name__}: "
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return shorten(kind + line, NOTE_LENGTH, placeholder=" ...")


_Random = Callable[[Tensor], Tensor]


def _forward(op: Operation, inputs: Inputs, leaves: Sequence[Tensor], random: _Random) -> Run:
    def run() -> Answer:
        with torch.no_grad():
            return _as_tuple(op(**inputs))

    return run


def _backward(op: Operation, inputs: Inputs, leaves: Sequence[Tensor], random: _Random) -> Run:
    cotangents = [random(x) for x in _as_tuple(op(**inputs))]

    def run() -> Answer:
        outputs = _as_tuple(op(**inputs))
        return *outputs, *torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True)

    return run


def _double_backward(
    op: Operation, inputs: Inputs, leaves: Sequence[Tensor], random: _Random
) -> Run:
    # The gradient of a linear operation depends on the cotangent alone.
    cotangents = [random(x).requires_grad_() for x in _as_tuple(op(**inputs))]
    seeds = [random(leaf) for leaf in leaves]

    def run() -> Answer:
        outputs = _as_tuple(op(**inputs))
        first = torch.autograd.grad(outputs, leaves, cotangents, create_graph=True)
        wanted = (*leaves, *cotangents)
        return *outputs, *first, *torch.autograd.grad(first, wanted, seeds, allow_unused=True)

    return run


_STAGES: dict[Pass, Callable[[Operation, Inputs, Sequence[Tensor], _Random], Run]] = {
    "forward": _forward,
    "forward+backward": _backward,
    "double backward": _double_backward,
}


def _as_tuple(found: Any) -> tuple[Tensor, ...]:
    return tuple(found) if isinstance(found, tuple) else (found,)


def _random_like(generator: torch.Generator, x: Tensor) -> Tensor:
    return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)


def _in_our_form(benchmark: Benchmark, operation: Contender, answer: Answer) -> list[Tensor | None]:
    if isinstance(operation, Foreign):
        answer = [None if x is None else operation.from_native(x.detach()) for x in answer]
    output, *gradients = answer
    return [benchmark.canonical(output) if benchmark.canonical else output, *gradients]


def _own_expectation(question: Question, operation: Contender) -> list[Tensor | None]:
    """Return what an operation that computes something else is held against, or nothing."""
    if not isinstance(operation, Foreign) or operation.equals is None:
        return []
    answer = make_run(question, operation.equals)()
    return _in_our_form(question.benchmark, operation.equals, answer)


def _check_agreement(
    names: tuple[str, str, str],
    found: Iterable[Tensor | None],
    expected: Iterable[Tensor | None],
    tolerance: float,
    outputs: int,
) -> None:
    benchmark, name, reference = names
    for position, (a, b) in enumerate(zip(found, expected, strict=True)):
        error = _relative_error(a, b)
        if not error <= tolerance:  # NaN disagrees
            what = "output" if outputs == 1 else f"output {position}"
            if position >= outputs:
                what = f"gradient {position - outputs + 1}"
            raise DisagreementError(
                f"{benchmark}: {what} of {name} differs from that of {reference} by {error:.1e}, "
                f"relative; expected at most {tolerance:.0e}"
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
