"""Time operations of eqlib against their alternatives; refuses where the tests are red."""

import argparse
import csv
import math
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

# Run as a script, this file sees its own folder only.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import DisagreementError, Row, compare
from benchmarks.registry import Benchmark, load_benchmarks
from eqlib.doctor import installed_versions
from eqlib.usage import UsageError, unknown

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("eqlib", "python", "torch", "e3nn", "scipy", "torch-geometric", "torch-scatter")
ENVIRONMENT = ("device", "machine", "threads", "versions", "commit", "date")
COLUMNS = (*(column.name for column in fields(Row)), *ENVIRONMENT)


def main(
    words: Sequence[str] | None = None,
    benchmarks: Mapping[str, Benchmark] | None = None,
    results: Path = RESULTS,
) -> int:
    """Run benchmarks and return the exit code: 0 done, 1 red tests or disagreement, 2 wrong usage.

    Args:
        words: the arguments; None takes those of this process.
        benchmarks: what there is to run; None takes the registry.
        results: folder of the CSV files.
    """
    given = _parse(words)
    known = load_benchmarks() if benchmarks is None else benchmarks
    if given.list:
        for benchmark in known.values():
            print(_description(benchmark))
        return 0
    try:
        chosen = _choose(given.names, known)
        device = _device(given.device)
    except UsageError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    environment = describe_environment(device)
    failures = 0
    for benchmark in chosen:
        failures += not _run(benchmark, device, given.repeats, environment, results)
    return 1 if failures else 0


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks; by default all")
    parser.add_argument("--list", action="store_true", help="show what there is and stop")
    parser.add_argument("--repeats", type=_positive, default=20, help="rounds (default: 20)")
    where = "default: cuda where there is a GPU"
    parser.add_argument("--device", choices=("cpu", "cuda"), help=where)
    return parser.parse_args(words)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return int(text)


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
    device: torch.device,
    repeats: int,
    environment: Mapping[str, str],
    results: Path,
) -> bool:
    """Run one benchmark; say why where that is not possible."""
    console = Console()
    complaint = find_fault(benchmark.tests)
    if complaint:
        print(f"{benchmark.name}: not timed: {complaint}", file=sys.stderr)
        return False
    rows = []
    try:
        for problem in benchmark.problems:
            found = compare(benchmark, problem, device, repeats)
            console.print(make_table(found, f"{benchmark.name}: {problem} ({device.type})"))
            rows += found
    except DisagreementError as error:
        print(f"not timed: {error}", file=sys.stderr)
        return False
    write_results(results / f"{benchmark.name}.csv", rows, environment)
    return True


@cache
def find_fault(tests: str) -> str:
    """Run tests in a process of their own; return what is wrong with them, or nothing.

    Args:
        tests: file or folder, from the root of the checkout.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    said = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
    return f"the tests in {tests} are red ({said[-1].strip('= ')}): run pytest {tests}"


def describe_environment(device: torch.device) -> dict[str, str]:
    """Return where and with what something is timed, a text for each name in ENVIRONMENT."""
    gpu = device.type == "cuda"
    versions = installed_versions(*PACKAGES)
    values = (
        device.type,
        torch.cuda.get_device_name(device) if gpu else _cpu_model(),
        str(torch.get_num_threads()),
        ", ".join(f"{name} {found}" for name, found in versions.items() if found),
        _commit(),
        datetime.now(UTC).date().isoformat(),
    )
    return dict(zip(ENVIRONMENT, values, strict=True))


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _commit() -> str:
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def make_table(rows: Iterable[Row], title: str) -> Table:
    """Return the figures of one problem as a table, with a section for each pass.

    Below it stands why a contender has none.
    """
    everything = list(rows)
    rows = [row for row in everything if not row.note]
    notes = dict.fromkeys(f"{row.name}: {row.note}" for row in everything if row.note)
    peak = any(not math.isnan(row.peak_mib) for row in rows)
    table = Table(title=escape(title), title_justify="left", caption_justify="left")
    table.caption = escape("\n".join(notes)) or None
    table.add_column("pass", no_wrap=True)
    table.add_column("implementation", overflow="fold")
    for column in ("p20 ms", "p50 ms", "p80 ms", "ratio", *(["peak MiB"] if peak else [])):
        table.add_column(column, justify="right", no_wrap=True)
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        ends = following is not None and following.stage != row.stage
        figures = [
            *(f"{ms:.3g}" for ms in (row.p20_ms, row.p50_ms, row.p80_ms)),
            f"{row.ratio:.2f}",
        ]
        figures += [f"{row.peak_mib:.1f}"] if peak else []
        table.add_row(row.stage, escape(row.name), *figures, end_section=ends)
    return table


def write_results(path: Path, rows: Iterable[Row], environment: Mapping[str, str]) -> None:
    """Write a CSV file; rows already there of another device are kept.

    Args:
        path: the file.
        rows: what was measured.
        environment: what :func:`describe_environment` returns.
    """
    lines = [{**_texts(row), **environment} for row in rows]
    if path.exists():
        with path.open(newline="") as file:
            old = list(csv.DictReader(file))
        lines += [line for line in old if line["device"] != environment["device"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(lines, key=lambda line: line["device"]))


def _texts(row: Row) -> dict[str, str]:
    texts = {}
    for name, value in asdict(row).items():
        missing = isinstance(value, float) and math.isnan(value)
        figure = f"{value:.4g}" if isinstance(value, float) else str(value)
        texts[name] = "" if missing else figure
    return texts


if __name__ == "__main__":
    sys.exit(main())
