"""What was measured, as a table and as a CSV file that says where it comes from."""

import csv
import math
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import Field, asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table

from benchmarks.measure import Row
from eqlib.doctor import installed_versions

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "eqlib",
    "python",
    "torch",
    "triton",
    "e3nn",
    "cuequivariance-torch",
    "cuequivariance-ops-torch-cu13",
    "scipy",
    "torch-geometric",
    "torch-scatter",
)
ENVIRONMENT = ("device", "machine", "threads", "ceilings", "versions", "commit", "date")
COLUMNS = (*(column.name for column in fields(Row)), *ENVIRONMENT)


def describe_environment(device: torch.device, commit: str | None = None) -> dict[str, str]:
    """Return where and with what something is timed, a text for each name in ENVIRONMENT.

    The ceilings are empty: they are measured with the benchmarks that need them.

    Args:
        device: where it is timed.
        commit: that of the code; None asks git.
    """
    gpu = device.type == "cuda"
    versions = installed_versions(*PACKAGES)
    values = (
        device.type,
        torch.cuda.get_device_name(device) if gpu else _cpu_model(),
        str(torch.get_num_threads()),
        "",
        ", ".join(f"{name} {found}" for name, found in versions.items() if found),
        commit or _commit(),
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

    Below it stands why a contender has none, and which of them compute something else.
    """
    everything = list(rows)
    rows = [row for row in everything if not row.note]
    remarks = [(f"computes {row.computes}", row.name) for row in rows if row.computes]
    remarks += [(row.note, row.name) for row in everything if row.note]
    names: dict[str, dict[str, None]] = {}
    for remark, name in remarks:
        names.setdefault(remark, {})[name] = None
    lines = [f"{'; '.join(who)}: {remark}" for remark, who in names.items()]
    table = Table(title=escape(title), title_justify="left", caption_justify="left")
    table.caption = escape("\n".join(lines)) or None
    table.add_column("pass", no_wrap=True)
    table.add_column("implementation", overflow="fold")
    rates = any(not math.isnan(row.gb_s) for row in rows)
    calls = any(not math.isnan(row.calls) for row in rows)
    columns = ["p20 ms", "p50 ms", "p80 ms", "ratio"]
    columns += ["calls", "per call"] if calls else []
    columns += ["peak MiB", "extra"]
    columns += ["GB/s", "GF/s", "limit"] if rates else []
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        ends = following is not None and following.stage != row.stage
        table.add_row(row.stage, escape(row.name), *_figures(row, calls, rates), end_section=ends)
    return table


def _figures(row: Row, calls: bool, rates: bool) -> list[str]:
    figures = [f"{ms:.3g}" for ms in (row.p20_ms, row.p50_ms, row.p80_ms)]
    figures += [f"{row.ratio:.2f}"]
    if calls:
        figures += [_or_blank(f"{value:.2f}", value) for value in (row.calls, row.per_call)]
    figures += [f"{row.peak_mib:.1f}", _or_blank(f"{row.extra:.2f}", row.extra)]
    if rates:
        figures += [
            _or_blank(f"{row.gb_s:.3g} ({row.of_copy:.0%})", row.gb_s),
            _or_blank(f"{row.gflop_s:.3g} ({row.of_matmul:.0%})", row.gflop_s),
            row.limit,
        ]
    return figures


def _or_blank(text: str, value: float) -> str:
    return "" if math.isnan(value) else text


def write_results(
    path: Path, rows: Iterable[Row], environment: Mapping[str, str], partial: bool = False
) -> None:
    """Write a CSV file; rows already there of another device are kept.

    Args:
        path: the file.
        rows: what was measured.
        environment: what :func:`describe_environment` returns.
        partial: whether the rows stand for some problems only; those of the others are kept.
    """
    lines = [{**_texts(row), **environment} for row in rows]
    if path.exists():
        with path.open(newline="") as file:
            old = list(csv.DictReader(file))
        measured = {line["problem"] for line in lines}
        lines += [
            {column: line.get(column, "") for column in COLUMNS}
            for line in old
            if line["device"] != environment["device"]
            or (partial and line["problem"] not in measured)
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(lines, key=lambda line: line["device"]))


def read_results(path: Path, device: str) -> list[Row]:
    """Return the rows of a CSV file that were measured on a kind of device."""
    with path.open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["device"] == device]
    return [Row(**{column.name: _value(column, line) for column in fields(Row)}) for line in lines]


def timed_before(path: Path, environment: Mapping[str, str]) -> set[str]:
    """Return the problems that a CSV file has from the same machine, versions and commit."""
    if not path.exists():
        return set()
    same = [name for name in ENVIRONMENT if name not in ("ceilings", "date")]
    with path.open(newline="") as file:
        return {
            line["problem"]
            for line in csv.DictReader(file)
            if all(line.get(name) == environment[name] for name in same)
        }


def _value(column: Field[Any], line: Mapping[str, str]) -> Any:
    text = line.get(column.name, "")  # files may be older than a column
    if column.type in (int, float):
        return column.type(text) if text else column.default
    return text


def _texts(row: Row) -> dict[str, str]:
    texts = {}
    for name, value in asdict(row).items():
        missing = isinstance(value, float) and math.isnan(value)
        figure = f"{value:.4g}" if isinstance(value, float) else str(value)
        texts[name] = "" if missing else figure
    return texts
