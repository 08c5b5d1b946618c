"""Reports: what one run achieved and how it was made, and tables over several seeds."""

import hashlib
import json
import math
import shlex
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch

from eqlib.doctor import installed_versions
from eqlib.models.training.storage import tensor_sha256, write_durably
from eqlib.models.training.task import Dataset
from eqlib.usage import UsageError

Report = Mapping[str, Any]

BEST = "the best validation measure"
"""What selects the weights of a run, where its report says nothing else."""

REQUIRED = (
    "task",
    "dataset",
    "model",
    "preset",
    "seed",
    "parameters",
    "seconds",
    "test",
    "equivariance",
    "command",
    "versions",
)
"""The keys that every report has."""
_CHECKSUM_ITEMS = 1000
PICTURES = {
    "predictions.png": "Predictions beside the truth, test data",
    "curves.png": "Loss and validation measure over the epochs",
}


class Statistic(NamedTuple):
    """A figure over several seeds."""

    mean: float
    std: float | None
    """Sample standard deviation; None for a single seed."""
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4g}" + ("" if self.std is None else f" ± {self.std:.2g}")


class Summary(NamedTuple):
    """Runs that differ in their seed alone, taken together."""

    task: str
    dataset: str
    model: str
    preset: str
    settings: str
    """Options that override the preset, as typed on the command line."""
    seeds: list[int]
    parameters: int
    seconds: Statistic
    test: dict[str, Statistic]
    equivariance: dict[str, float]
    """Largest relative error over the seeds, by dtype."""

    def to_dict(self) -> dict[str, Any]:
        """Return the summary in the plain types of JSON."""
        test = {name: statistic._asdict() for name, statistic in self.test.items()}
        return self._asdict() | {"seconds": self.seconds._asdict(), "test": test}


def versions() -> dict[str, str]:
    """Return the versions that a run's figures depend on."""
    found = installed_versions("eqlib", "python", "torch", "numpy", "e3nn", "triton")
    return {name: version for name, version in found.items() if version}


def dataset_checksum(dataset: Dataset) -> str:
    """Return the SHA-256 of all values of a data set, in the order of its items."""
    digest = hashlib.sha256()
    for indices in torch.arange(len(dataset)).split(_CHECKSUM_ITEMS):
        for name, tensor in sorted(dataset[indices].items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
            digest.update(tensor_sha256(tensor).encode())
    return digest.hexdigest()


def write_report(out: Path, report: Report, page: str | None = None) -> None:
    """Write ``report.md`` and, last and atomically, ``report.json``: its presence ends a run.

    Args:
        out: the run's folder.
        report: the figures, with at least the keys `REQUIRED`.
        page: the text of ``report.md``; None writes the usual one.

    Raises:
        KeyError: a required key is missing.
        OSError: the folder cannot be written.
    """
    missing = [key for key in REQUIRED if key not in report]
    if missing:
        raise KeyError(f"the report lacks {', '.join(missing)}")
    pictures = [name for name in PICTURES if (out / name).exists()]
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    page = report_page(report, pictures) if page is None else page
    write_durably(out / "report.md", page.encode())
    write_durably(out / "report.json", text.encode())


def report_page(report: Report, pictures: Iterable[str] = ()) -> str:
    """Return a run's report as a page of Markdown.

    Args:
        report: the figures.
        pictures: file names of the pictures to show, relative to the page.
    """
    valid = report.get("valid", {})
    results = [
        [name, f"{value:.4g}", f"{valid[name]:.4g}" if name in valid else ""]
        for name, value in report["test"].items()
    ]
    symmetry = [[dtype, f"{error:.1e}"] for dtype, error in report["equivariance"].items()]
    sections = [
        f"# {report['task']}: {report['model']}, preset {report['preset']}, seed {report['seed']}",
        f"Data set {report['dataset']}; the weights are those of {report.get('weights', BEST)}.",
        markdown_table(["measure", "test", "validation"], results),
        "## Equivariance\n\nRelative error of the trained network on test data:",
        markdown_table(["dtype", "error"], symmetry),
        "## How it was made",
        f"```sh\n{report['command']}\n```",
        markdown_table(["", ""], circumstances(report)),
        *(f"![{PICTURES[name]}]({name})\n\n*{PICTURES[name]}.*" for name in pictures),
    ]
    return "\n\n".join(sections) + "\n"


def read_reports(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the reports of runs.

    Args:
        runs: run folders, folders of run folders at any depth, or report files. The parts of a
            cross-validation are left out, unless they are named themselves.

    Raises:
        UsageError: a path holds no report, or a report is damaged.
    """
    files: dict[Path, None] = {}
    for run in runs:
        found = [run] if run.is_file() else sorted(_reports_below(run))
        if not found:
            reason = "no finished run in it" if run.exists() else "no such file or folder"
            raise UsageError(f"{run}: {reason}")
        files |= {path.resolve(): None for path in found}
    return [_read_report(path) for path in files]


def summarise(reports: Iterable[Report]) -> list[Summary]:
    """Return the figures of runs over their seeds, one summary for each setting.

    Raises:
        UsageError: two reports differ in neither setting nor seed.
    """
    groups: dict[tuple[str, ...], list[Report]] = {}
    for report in reports:
        key = tuple(report[name] for name in ("task", "dataset", "model", "preset"))
        groups.setdefault((*key, _settings(report["command"])), []).append(report)
    summaries = []
    for key in sorted(groups):
        runs = sorted(groups[key], key=lambda report: report["seed"])
        seeds = [report["seed"] for report in runs]
        if len(set(seeds)) < len(seeds):
            raise UsageError(f"several reports of one run are given: {runs[0]['command']}")
        summaries.append(_summary(key, seeds, runs))
    return summaries


def summary_table(summaries: Sequence[Summary]) -> str:
    """Return summaries as a table in Markdown; spreads are sample standard deviations."""
    measures = list(dict.fromkeys(name for summary in summaries for name in summary.test))
    dtypes = list(dict.fromkeys(dtype for summary in summaries for dtype in summary.equivariance))
    header = ["task", "model", "preset", "settings", "seeds"]
    header += [f"test {name}" for name in measures]
    header += [f"equivariance, {dtype}" for dtype in dtypes]
    header += ["parameters", "seconds"]
    rows = [
        [
            *(summary.task, summary.model, summary.preset, summary.settings),
            str(len(summary.seeds)),
            *(str(summary.test.get(name, "")) for name in measures),
            *(f"{summary.equivariance.get(dtype, math.nan):.1e}" for dtype in dtypes),
            f"{summary.parameters:,}",
            f"{summary.seconds.mean:.0f}",
        ]
        for summary in summaries
    ]
    shown = [i for i, name in enumerate(header) if name != "settings" or any(r[i] for r in rows)]
    return markdown_table([header[i] for i in shown], [[row[i] for i in shown] for row in rows])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown whose columns are aligned in plain text too."""
    cells = [list(header), *rows]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _reports_below(folder: Path) -> Iterator[Path]:
    """Yield the reports in a folder, without those of runs that are parts of another."""
    for path in folder.rglob("report.json"):
        part = path.parent
        if part == folder or not (part.parent / "config.yaml").exists():
            yield path


def circumstances(report: Report) -> list[list[str]]:
    """Return what a reader wants to know of a run beside its results, as rows of a table."""
    names = {
        "parameters": "parameters",
        "epochs": "epochs",
        "best_epoch": "best epoch",
        "seconds": "training time, s",
        "forward_ms": "forward pass of 100 items, ms",
        "device": "device",
        "threads": "threads",
        "processes": "processes",
        "data_checksum": "data checksum",
    }
    rows = [[text, _text(report[key])] for key, text in names.items() if key in report]
    listed = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return [*rows, ["versions", listed]]


def _text(value: object) -> str:
    return (
        f"{value:,.6g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def _settings(command: str) -> str:
    """Return the options of a command that override its preset."""
    words = shlex.split(command)
    return shlex.join(
        word
        for option, value in pairwise(words)
        if option.startswith("--") and "." in option
        for word in (option, value)
    )


def _summary(key: tuple[str, ...], seeds: list[int], runs: Sequence[Report]) -> Summary:
    task, dataset, model, preset, settings = key
    return Summary(
        task=task,
        dataset=dataset,
        model=model,
        preset=preset,
        settings=settings,
        seeds=seeds,
        parameters=runs[0]["parameters"],
        seconds=_statistic([run["seconds"] for run in runs]),
        test={name: _statistic([run["test"][name] for run in runs]) for name in runs[0]["test"]},
        equivariance={
            dtype: max(run["equivariance"][dtype] for run in runs)
            for dtype in runs[0]["equivariance"]
        },
    )


def _statistic(values: Sequence[float]) -> Statistic:
    n = len(values)
    return Statistic(statistics.fmean(values), statistics.stdev(values) if n > 1 else None, n)


def _read_report(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        mend = "where the run is still there, remove the file and resume, which writes it again"
        raise UsageError(f"{path} is damaged or not JSON: {error}; {mend}") from error
    missing = [key for key in REQUIRED if not isinstance(report, dict) or key not in report]
    if missing:
        raise UsageError(f"{path} is not a report: {', '.join(missing)} missing")
    return report
