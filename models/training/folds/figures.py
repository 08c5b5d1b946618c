"""What the runs of a cross-validation come to."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from eqlib.models.training.reports import Row

LAST = 10
"""Epochs whose test measure the published rule averages."""


class Finished(NamedTuple):
    """A finished run of a cross-validation."""

    fold: int
    protocol: str
    report: dict[str, Any]
    rows: list[Row]

    def curve(self, name: str) -> list[float]:
        """Return a test measure at every evaluation; it selected nothing.

        The validation items of a published run are its test items.
        """
        prefix = "valid" if self.protocol == "published" else "test"
        return [row[f"{prefix}_{name}"] for row in self.rows]

    def last(self, name: str) -> float:
        """Return the mean of a test measure over the evaluations of the last ten epochs."""
        end = self.rows[-1]["epoch"]
        values = [
            value
            for row, value in zip(self.rows, self.curve(name), strict=True)
            if row["epoch"] > end - LAST + 1e-9
        ]
        return statistics.fmean(values)


def gather(runs: Sequence[Finished], name: str) -> dict[str, Any]:
    """Return the figures of a cross-validation: mean and sample standard deviation over folds.

    Args:
        runs: two folds or more, each by the same rules.
        name: of the measure; higher is better.
    """
    by_rule = {rule: [run for run in runs if run.protocol == rule] for rule in _rules(runs)}
    followed = by_rule["published" if "published" in by_rule else "nested"]
    values = {name: [run.last(name) for run in followed]}
    if "nested" in by_rule:
        values[f"nested_{name}"] = [run.report["test"][name] for run in by_rule["nested"]]
    curve = mean_curve(followed, name)
    best = max(range(len(curve)), key=curve.__getitem__)
    values[f"best_epoch_{name}"] = [run.curve(name)[best] for run in followed]
    test = {}
    for key, figures in values.items():
        test[f"{key}_mean"] = statistics.fmean(figures)
        test[f"{key}_std"] = statistics.stdev(figures)
    first = runs[0].report
    return {
        "test": test,
        "rules": _explained(name, list(by_rule), len(followed)),
        "folds": _per_fold(runs, values, by_rule),
        "best_mean_epoch": followed[0].rows[best]["epoch"],
        "parameters": first["parameters"],
        "seconds": round(sum(run.report["seconds"] for run in runs), 1),
        "equivariance": first["equivariance"],
        "activation_bytes": first["activation_bytes"],
        "data": first["data"],
    }


def mean_curve(runs: Sequence[Finished], name: str) -> list[float]:
    """Return the mean over folds at those evaluations that all of them have."""
    curves = [run.curve(name) for run in runs]
    length = min(map(len, curves))
    return [statistics.fmean(values) for values in zip(*(c[:length] for c in curves), strict=True)]


def _rules(runs: Sequence[Finished]) -> list[str]:
    return list(dict.fromkeys(run.protocol for run in runs))


def _per_fold(
    runs: Sequence[Finished], values: dict[str, list[float]], by_rule: dict[str, list[Finished]]
) -> list[dict[str, Any]]:
    """Return one entry for each fold."""
    entries = []
    for place, fold in enumerate(dict.fromkeys(run.fold for run in runs)):
        mine = [run.report for run in runs if run.fold == fold]
        entry: dict[str, Any] = {"fold": fold}
        entry |= {name: figures[place] for name, figures in values.items()}
        if "nested" in by_rule:
            entry["nested_epoch"] = by_rule["nested"][place].report["best_epoch"]
        entry["test_items"] = mine[0]["sizes"]["test"]
        entry["seconds"] = sum(report["seconds"] for report in mine)
        entries.append(entry)
    return entries


def _explained(name: str, rules: list[str], folds: int) -> dict[str, str]:
    """Say how each figure of the report came about."""
    trained = (
        "trained on all training items of each fold"
        if "published" in rules
        else "taken from the nested runs, which hold out a tenth of the training items of each fold"
    )
    spread = f"mean and sample standard deviation over {folds} folds"
    found = {
        name: f"test {name}, averaged over the evaluations of the last {LAST} epochs; {trained}; "
        f"no epoch is selected; {spread}"
    }
    if "nested" in rules:
        found[f"nested_{name}"] = (
            f"test {name} of the weights that a held-out tenth of the training items selects, "
            f"tested once; {spread}"
        )
    found[f"best_epoch_{name}"] = (
        f"test {name} at the epoch where its mean over the folds is largest; {trained}; the test "
        f"items select the epoch, so this is optimistic; {spread}"
    )
    return found
