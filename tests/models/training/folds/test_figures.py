"""The figures of a cross-validation, from runs that are made up."""

import statistics

import pytest

from eqlib.models.training.folds.figures import gather, mean_curve
from tests.models.training.toy_folds import finished_run


def test_last_epochs_and_best_epoch_of_the_mean_curve():
    rising = [0.1 * i for i in range(12)]
    peaked = [0.0, 1.0] + [0.5] * 10
    runs = [finished_run(1, rising), finished_run(2, peaked)]
    figures = gather(runs, "accuracy")
    assert figures["folds"][0]["accuracy"] == pytest.approx(statistics.fmean(rising[2:]))
    assert figures["folds"][1]["accuracy"] == pytest.approx(0.5)
    curve = mean_curve(runs, "accuracy")
    assert curve[11] == max(curve)
    assert figures["best_mean_epoch"] == 12.0
    assert figures["folds"][1]["best_epoch_accuracy"] == 0.5


def test_each_fold_has_its_own_number_of_test_items():
    runs = [finished_run(fold, [0.5], rule) for fold in (1, 2) for rule in ("nested", "published")]
    for run in runs:
        run.report["sizes"] = {"test": 10 * run.fold}
    assert [fold["test_items"] for fold in gather(runs, "accuracy")["folds"]] == [10, 20]


def test_last_epochs_of_rare_evaluations():
    run = finished_run(1, [0.0, 0.2, 0.4, 0.8])
    rows = [row | {"epoch": 5.0 * row["epoch"]} for row in run.rows]
    assert run._replace(rows=rows).last("accuracy") == pytest.approx(0.6)


def test_runs_that_stopped_early_are_compared_where_all_have_a_value():
    runs = [finished_run(1, [0.1, 0.2, 0.9]), finished_run(2, [0.3, 0.4])]
    assert mean_curve(runs, "accuracy") == pytest.approx([0.2, 0.3])
