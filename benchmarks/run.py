"""Time operations of eqlib against their alternatives; refuses where the tests are red."""

import argparse
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from rich.console import Console

# Run as a script, this file sees its own folder only.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import DisagreementError, Row, compare
from benchmarks.memory import keep_freed_memory
from benchmarks.plot import save_plot
from benchmarks.registry import Benchmark, load_benchmarks
from benchmarks.results import (
    ROOT,
    describe_environment,
    make_table,
    read_results,
    timed_before,
    write_results,
)
from benchmarks.roofline import measure_ceilings
from eqlib.usage import UsageError, unknown

RESULTS = ROOT / "benchmarks" / "results"
TABLE_WIDTH = 160  # where the output is no terminal
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
SECONDS = {"cpu": 0.5, "cuda": 0.3}


def main(
    words: Sequence[str] | None = None,
    benchmarks: Mapping[str, Benchmark] | None = None,
    results: Path = RESULTS,
    keeps_memory: bool = False,
) -> int:
    """Run benchmarks and return the exit code: 0 done, 1 red tests or disagreement, 2 wrong usage.

    Args:
        words: the arguments; None takes those of this process.
        benchmarks: what there is to run; None takes the registry.
        results: folder of the CSV files, unless the arguments name one.
        keeps_memory: whether memory that is freed on a CPU stays with the process, to write down.
    """
    given = _parse(words)
    known = load_benchmarks() if benchmarks is None else benchmarks
    if given.list:
        print("\n".join(_description(benchmark) for benchmark in known.values()))
        return 0
    try:
        chosen = _choose(given.names, known)
        device = _device(given.device)
        problems = _problems(chosen, device.type, given.problems)
        chosen = [benchmark.reading(given.data_dir) for benchmark in chosen]
        _check_clock(given.clock, device)
    except UsageError as error:
        print(f"eqlib bench: {error}", file=sys.stderr)
        return 2
    if given.names_only:
        print("\n".join(name for name, found in problems.items() if found))
        return 0
    given.seconds = given.seconds or SECONDS[device.type]
    given.out = given.out or results
    environment = describe_environment(device, given.commit)
    if keeps_memory and device.type == "cpu":
        environment["machine"] += ", freed memory kept"
    if given.clock == "cpu":
        environment["machine"] += ", time of the processor"
    failures = 0
    for benchmark in chosen:
        failures += not _run(benchmark, problems[benchmark.name], device, given, environment)
    return 1 if failures else 0


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="eqlib bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks; by default all")
    parser.add_argument("--list", action="store_true", help="show what there is and stop")
    parser.add_argument(
        "--names", dest="names_only", action="store_true", help="show the names only and stop"
    )
    pattern = "only problems whose name contains TEXT; the results of others are kept"
    parser.add_argument("--problems", default="", metavar="TEXT", help=pattern)
    data = "folder of the graph data (default: the one in the user's cache)"
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help=data)
    parser.add_argument("--repeats", type=_positive, default=20, help="rounds (default: 20)")
    budget = "seconds to sample a contender in a pass (default: 0.5 on a CPU, 0.3 on a GPU)"
    parser.add_argument("--seconds", type=_positive_float, help=budget)
    where = "default: cuda where there is a GPU"
    parser.add_argument("--device", choices=("cpu", "cuda"), help=where)
    clock = "what to read; cpu leaves out the time of other programs, and wants one thread"
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help=clock)
    resume = "save each problem when it is timed, and skip those that this machine timed before"
    parser.add_argument("--resume", action="store_true", help=resume)
    commit = "commit to write down (default: what git says)"
    parser.add_argument("--commit", metavar="NAME", help=commit)
    out = "folder of the CSV file and the plot (default: benchmarks/results)"
    parser.add_argument("--out", type=Path, metavar="DIR", help=out)
    return parser.parse_args(words)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return int(text)


def _positive_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return value


def _choose(names: Sequence[str], known: Mapping[str, Benchmark]) -> list[Benchmark]:
    for name in names:
        if name not in known:
            raise unknown("benchmark", name, known)
    return [known[name] for name in dict.fromkeys(names or known)]


def _device(name: str | None) -> torch.device:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UsageError("device: no GPU is visible to torch; run with --device cpu")
    return torch.device(name or ("cuda" if available else "cpu"))


def _check_clock(name: str, device: torch.device) -> None:
    threads = torch.get_num_threads()
    if name == "cpu" and (device.type != "cpu" or threads > 1):
        raise UsageError(
            f"clock: the time of the processor tells nothing of {device.type} with {threads} "
            "threads; run with OMP_NUM_THREADS=1 and --device cpu"
        )


def _problems(chosen: Sequence[Benchmark], device: str, pattern: str) -> dict[str, list[str]]:
    found = {benchmark.name: benchmark.problems_for(device, pattern) for benchmark in chosen}
    if not any(found.values()):
        names = [name for benchmark in chosen for name in benchmark.problems_for(device)]
        raise UsageError(
            f"problems: no name contains {pattern!r} on {device}; there are: {'; '.join(names)}"
        )
    return found


def _description(benchmark: Benchmark) -> str:
    missing = {name: peer for name, peer in benchmark.peers.items() if isinstance(peer, str)}
    peers = [name for name in benchmark.peers if name not in missing]
    peers += [f"{name} (missing: {reason})" for name, reason in missing.items()]
    lines = {
        "tests": benchmark.tests,
        "passes": ", ".join(benchmark.passes),
        "problems": "; ".join(benchmark.problems),
        "eqlib": ", ".join(benchmark.implementations),
        "peers": ", ".join(peers) or "none",
    }
    return "\n".join([benchmark.name, *(f"  {key:9} {text}" for key, text in lines.items())])


def _run(
    benchmark: Benchmark,
    problems: Sequence[str],
    device: torch.device,
    given: argparse.Namespace,
    environment: Mapping[str, str],
) -> bool:
    """Run one benchmark; say why where that is not possible."""
    if not problems:
        return True
    console = Console()
    if not console.is_terminal:
        console.width = TABLE_WIDTH
    complaint = find_fault(benchmark.tests)
    if complaint:
        print(f"{benchmark.name}: not timed: {complaint}", file=sys.stderr)
        return False
    ceilings = None if benchmark.work is None else measure_ceilings(device)
    if ceilings is not None:
        environment = {**environment, "ceilings": ceilings.describe()}
        print(f"{benchmark.name}: ceilings of {environment['machine']}: {ceilings.describe()}")
    target = given.out / f"{benchmark.name}.csv"
    done = timed_before(target, environment) if given.resume else set()
    rows: list[Row] = []
    try:
        for problem in (name for name in problems if name not in done):
            budget, clock = (given.repeats, given.seconds), CLOCKS[given.clock]
            found = compare(benchmark, problem, device, *budget, ceilings, clock)
            console.print(make_table(found, f"{benchmark.name}: {problem} ({device.type})"))
            if given.resume:
                write_results(target, found, environment, partial=True)
            rows += found
    except (DisagreementError, FileNotFoundError) as error:
        print(f"not timed: {error}", file=sys.stderr)
        return False
    if not given.resume:
        write_results(target, rows, environment, partial=bool(given.problems))
    print(f"{benchmark.name}: {target}")
    _plot(target, benchmark, environment)
    return True


def _plot(results: Path, benchmark: Benchmark, environment: Mapping[str, str]) -> None:
    """Draw all results of this device, those of earlier calls for other problems as well."""
    if not any(benchmark.problem(name).place for name in benchmark.problems):
        return
    if find_spec("matplotlib") is None:
        print("no plot: matplotlib is not installed (pip install eqlib[plot])", file=sys.stderr)
        return
    device = environment["device"]
    rows = read_results(results, device)
    path = results.with_name(f"{benchmark.name}-{device}.png")
    title = f"{benchmark.name}, {environment['machine']}, {environment['threads']} threads"
    if save_plot(path, benchmark, rows, title):
        print(f"{benchmark.name}: {path}")


@cache
def find_fault(tests: str) -> str:
    """Run tests in a process of their own; return what is wrong with them, or nothing.

    Args:
        tests: files or folders, from the root of the checkout.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", *_workers(), *tests.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    said = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
    return f"the tests in {tests} are red ({said[-1].strip('= ')}): run pytest {tests}"


def _workers() -> list[str]:
    """Return the arguments that spread tests over a machine with many processors."""
    workers = min(8, (os.cpu_count() or 1) // 2)
    return ["-n", str(workers)] if workers > 1 and find_spec("xdist") else []


if __name__ == "__main__":
    sys.exit(main(keeps_memory=keep_freed_memory()))
