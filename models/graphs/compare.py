"""Tables of the reports of cross-validations, and differences of networks fold by fold.

``python -m eqlib.models.graphs.compare models/graphs/results/mutag`` prints the tables of all
reports in a folder. Folds differ from each other by more than networks do, so networks are compared
on the same folds.
"""

import json
import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from eqlib.models.training.reports import markdown_table
from eqlib.options import make_parser, parse_arguments
from eqlib.usage import UsageError

RULES = {
    "nested_accuracy": "nested",
    "accuracy": "last ten epochs",
    "best_epoch_accuracy": "best epoch",
}
"""The figures of a fold, and how tables call them."""


class Result(NamedTuple):
    """What the seeds of one network on one data set come to."""

    dataset: str
    name: str
    """Model and preset."""
    seeds: list[int]
    folds: dict[str, dict[int, float]]
    """By rule and fold, the mean over the seeds."""
    reports: list[dict[str, Any]]

    def figure(self, rule: str) -> str:
        """Return mean and sample standard deviation over the folds, in percent."""
        values = list(self.folds.get(rule, {}).values())
        if not values:
            return ""
        return f"{100 * statistics.fmean(values):.1f} ± {100 * statistics.stdev(values):.1f}"


def read_results(paths: Iterable[Path]) -> list[Result]:
    """Read reports, those of one network, preset and data set together.

    Args:
        paths: JSON files, or folders of them. Reports of runs without folds are left out.

    Raises:
        UsageError: there is no report of a cross-validation, or two have one seed.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.json")) or [path])]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for file in files:
        report = json.loads(file.read_text())
        if isinstance(report, dict) and "nested_accuracy_mean" in report.get("test", {}):
            key = report["dataset"], f"{report['model']}, {report['preset']}"
            groups.setdefault(key, []).append(report)
    if not groups:
        raise UsageError(f"{', '.join(map(str, files))}: no report of a cross-validation")
    return [_result(*key, reports) for key, reports in groups.items()]


def result_table(results: Sequence[Result]) -> str:
    """Return one row for each network: accuracy by each rule, and what it costs.

    Where the protocol is nested, all figures are of networks trained on nine tenths of the training
    graphs of a fold.
    """
    columns = ["data set", "network", "protocol", "seeds", *RULES.values(), "majority"]
    columns += ["parameters", "activations, MB", "minutes a seed"]
    rows = []
    for result in results:
        first = result.reports[0]
        seconds = statistics.fmean(report["seconds"] for report in result.reports)
        rows.append(
            [
                result.dataset,
                result.name,
                first["config"]["data"]["protocol"],
                str(len(result.seeds)),
                *(result.figure(rule) for rule in RULES),
                f"{100 * first['data']['majority']:.1f}",
                f"{first['parameters']:,}",
                f"{first['activation_bytes'] / 1e6:.1f}",
                f"{seconds / 60:.0f}",
            ]
        )
    return markdown_table(columns, rows)


def difference_table(results: Sequence[Result], rule: str = "nested_accuracy") -> str:
    """Return one row for each two networks on a data set: their difference on the same folds."""
    rows = []
    for first, second in combinations(results, 2):
        if first.dataset == second.dataset:
            cells = differences(first.folds.get(rule, {}), second.folds.get(rule, {}))
            if cells:
                rows.append([first.dataset, f"{first.name} - {second.name}", *cells])
    columns = ["data set", f"difference, {RULES[rule]}", "points", "better, equal, worse folds"]
    return markdown_table(columns, rows)


def differences(first: dict[int, float], second: dict[int, float]) -> list[str]:
    """Return mean and standard error of the differences in percentage points, and their signs."""
    values = [100 * (first[fold] - second[fold]) for fold in first if fold in second]
    if len(values) < 2:
        return []
    error = statistics.stdev(values) / math.sqrt(len(values))
    signs = [sum(value > 0 for value in values), sum(value == 0 for value in values)]
    counts = ", ".join(map(str, [*signs, len(values) - sum(signs)]))
    return [f"{statistics.fmean(values):+.1f} ± {error:.1f}", counts]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables of the reports that a command line names; return the exit code."""
    parser = make_parser(
        "python -m eqlib.models.graphs.compare",
        "PATH [PATH ...]",
        "Print tables of the reports of cross-validations.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="JSON reports, or folders")
    try:
        given = parse_arguments(parser, sys.argv[1:] if arguments is None else list(arguments))
        results = read_results(map(Path, given.paths))
    except (OSError, ValueError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    print(result_table(results))
    for rule in RULES:
        if rule != "best_epoch_accuracy":
            print(f"\n{difference_table(results, rule)}")
    return 0


def _result(dataset: str, name: str, reports: list[dict[str, Any]]) -> Result:
    seeds = [report["seed"] for report in reports]
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"{dataset}, {name}: two reports have the same seed, of {seeds}")
    folds: dict[str, dict[int, float]] = {}
    for rule in RULES:
        entries = [entry for report in reports for entry in report["folds"] if rule in entry]
        numbers = dict.fromkeys(entry["fold"] for entry in entries)
        folds[rule] = {
            fold: statistics.fmean(entry[rule] for entry in entries if entry["fold"] == fold)
            for fold in numbers
        }
    return Result(dataset, name, sorted(seeds), folds, reports)


if __name__ == "__main__":
    sys.exit(main())
