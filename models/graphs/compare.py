"""Tables of the reports of cross-validations, and differences of networks fold by fold.

``python -m eqlib.models.graphs.compare models/graphs/results/mutag`` prints the tables of all
reports in a folder. Folds differ from each other by more than networks do, so networks are compared
on the same folds.
"""

import json
import math
import shlex
import statistics
import sys
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from eqlib.models.training.reports import markdown_table, read_reports, summarise
from eqlib.options import make_parser, parse_arguments
from eqlib.usage import UsageError, exit_code

RULES = {
    "nested_accuracy": "nested",
    "accuracy": "last ten epochs",
    "best_epoch_accuracy": "best epoch",
}
"""The figures of a fold, and how tables call them."""
_IN_COLUMNS = ("--data.dataset", "--data.folds", "--data.protocol")
"""Settings that have a column of their own."""


class Result(NamedTuple):
    """What runs that differ in their seed alone come to."""

    dataset: str
    name: str
    """Model and preset, and the options of network and training that override the preset."""
    protocol: str
    division: str
    """Where the folds come from."""
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
    """Read reports, those together that differ in their seed alone.

    Runs with other options, folds or protocols are results of their own.

    Args:
        paths: JSON files, or folders with some at any depth. What is no report of a
            cross-validation is left out.

    Raises:
        UsageError: there is no report of a cross-validation, one is damaged, or two differ in
            neither setting nor seed.
    """
    files: dict[Path, None] = {}
    for path in paths:
        found = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        files |= {file.resolve(): None for file in found}
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for report in read_reports([file for file in files if _is_cross_validation(file)]):
        groups.setdefault(_setting(report), []).append(report)
    if not groups:
        raise UsageError(
            f"{', '.join(map(str, paths))}: no report of a cross-validation; expected one that "
            "`eqlib train graphs --folds K` wrote"
        )
    return [_result(setting, reports) for setting, reports in groups.items()]


def result_table(results: Sequence[Result]) -> str:
    """Return one row for each setting: accuracy by each rule, and what it costs.

    Where the protocol is nested, all figures are of networks trained on nine tenths of the training
    graphs of a fold. Activations are those of the largest training step of any seed, in megabytes
    of 10^6 bytes; minutes are the mean over the seeds.
    """
    columns = ["data set", "network", "protocol", "folds", "seeds", *RULES.values(), "majority"]
    columns += ["parameters", "activations, MB", "minutes a seed"]
    rows = []
    for result in results:
        first = result.reports[0]
        kept = max(report["activation_bytes"] for report in result.reports)
        seconds = statistics.fmean(report["seconds"] for report in result.reports)
        rows.append(
            [
                result.dataset,
                result.name,
                result.protocol,
                f"{len(first['folds'])} of {result.division}",
                str(len(result.seeds)),
                *(result.figure(rule) for rule in RULES),
                f"{100 * first['data']['majority']:.1f}",
                f"{first['parameters']:,}",
                f"{kept / 1e6:.1f}",
                f"{seconds / 60:.1f}",
            ]
        )
    return markdown_table(columns, rows)


def difference_table(results: Sequence[Result], rule: str = "nested_accuracy") -> str:
    """Return one row for each two networks: their difference on the same folds.

    Empty where no two can be compared.
    """
    rows = []
    for first, second in combinations(results, 2):
        if _are_comparable(first, second, rule):
            cells = differences(first.folds.get(rule, {}), second.folds.get(rule, {}))
            if cells:
                rows.append([first.dataset, f"{first.name} - {second.name}", *cells])
    columns = ["data set", f"difference, {RULES[rule]}", "points", "better, equal, worse folds"]
    return markdown_table(columns, rows) if rows else ""


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
        "Print tables of the reports of cross-validations: each setting over its seeds, and the\n"
        "differences of networks fold by fold.",
    )
    text = "JSON reports, or folders with some at any depth, such as those of runs"
    parser.add_argument("paths", nargs="+", metavar="PATH", help=text)
    try:
        given = parse_arguments(parser, sys.argv[1:] if arguments is None else list(arguments))
        results = read_results([Path(path) for path in given.paths])
    except (OSError, ValueError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return exit_code(error)
    print(result_table(results))
    for rule in RULES:
        if rule != "best_epoch_accuracy" and (table := difference_table(results, rule)):
            print(f"\n{table}")
    return 0


def _is_cross_validation(file: Path) -> bool:
    """Whether a file holds, or may hold, a report of a cross-validation on graphs."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True  # `read_reports` says what is wrong with it
    is_report = isinstance(content, dict) and {"folds", "data"} <= content.keys()
    return is_report and "majority" in content["data"]


def _setting(report: dict[str, Any]) -> tuple[str, ...]:
    """What the runs of one result share: task, data set, model, preset, options and folds."""
    (summary,) = summarise([report])
    # A division of our own is followed by the folder of the data, which does not change it.
    division = report["data"]["folds"].partition(":")[0]
    return (*summary[:5], division)


def _are_comparable(first: Result, second: Result, rule: str) -> bool:
    """Whether two results are of different networks, on the same folds and by the same rule."""
    if (first.dataset, first.division) != (second.dataset, second.division):
        return False
    alike = (first.protocol == "nested") == (second.protocol == "nested")
    return first.name != second.name and (alike or rule == "nested_accuracy")


def _result(setting: tuple[str, ...], reports: list[dict[str, Any]]) -> Result:
    _, dataset, model, preset, settings, division = setting
    summarise(reports)  # raises where two have one seed
    words = shlex.split(settings)
    pairs = zip(words[::2], words[1::2], strict=True)
    changed = [word for pair in pairs if pair[0] not in _IN_COLUMNS for word in pair]
    folds: dict[str, dict[int, float]] = {}
    for rule in RULES:
        entries = [entry for report in reports for entry in report["folds"] if rule in entry]
        numbers = dict.fromkeys(entry["fold"] for entry in entries)
        folds[rule] = {
            fold: statistics.fmean(entry[rule] for entry in entries if entry["fold"] == fold)
            for fold in numbers
        }
    return Result(
        dataset=dataset,
        name=" ".join([f"{model}, {preset}", *changed]),
        protocol=reports[0]["config"]["data"]["protocol"],
        division=division,
        seeds=sorted(report["seed"] for report in reports),
        folds=folds,
        reports=reports,
    )


if __name__ == "__main__":
    sys.exit(main())
