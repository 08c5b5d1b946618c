"""Tables of cross-validations: groups of reports, means over seeds, differences by fold."""

import json
import statistics

import pytest

from eqlib.models.graphs.compare import (
    difference_table,
    differences,
    main,
    read_results,
    result_table,
)
from eqlib.usage import UsageError


def write(folder, model, seed, values, protocol="both"):
    """A report with one nested accuracy for each fold; the other rules lie a tenth higher."""
    entries = [
        {"fold": fold, "nested_accuracy": value, "accuracy": value + 0.1}
        for fold, value in enumerate(values, start=1)
    ]
    report = {
        "dataset": "MUTAG",
        "model": model,
        "preset": "cpu",
        "seed": seed,
        "test": {"nested_accuracy_mean": statistics.fmean(values)},
        "folds": entries,
        "parameters": 1234,
        "activation_bytes": 2_500_000,
        "seconds": 120.0,
        "data": {"majority": 0.665},
        "config": {"data": {"protocol": protocol}},
    }
    (folder / f"{model}-{seed}.json").write_text(json.dumps(report))


@pytest.fixture
def reports(tmp_path):
    write(tmp_path, "spen", 0, [0.7, 0.8, 0.9])
    write(tmp_path, "spen", 1, [0.8, 0.8, 0.7])
    write(tmp_path, "gin", 0, [0.6, 0.8, 0.9])
    (tmp_path / "other.json").write_text(json.dumps({"test": {"accuracy": 1.0}}))
    return tmp_path


def test_seeds_are_averaged_fold_by_fold(reports):
    by_name = {result.name: result for result in read_results([reports])}
    assert by_name["spen, cpu"].seeds == [0, 1]
    assert by_name["spen, cpu"].folds["nested_accuracy"] == pytest.approx({1: 0.75, 2: 0.8, 3: 0.8})
    assert by_name["spen, cpu"].figure("nested_accuracy") == "78.3 ± 2.9"
    assert by_name["spen, cpu"].figure("accuracy") == "88.3 ± 2.9"
    assert by_name["spen, cpu"].figure("best_epoch_accuracy") == ""


def test_tables_have_a_row_for_each_network_and_for_each_two(reports):
    results = read_results([reports])
    table = result_table(results)
    assert len(table.splitlines()) == 4
    assert "| both " in table
    assert " 66.5 " in table
    (row,) = difference_table(results).splitlines()[2:]
    assert "gin, cpu - spen, cpu" in row
    assert "-1.7 ± 7.3" in row
    assert "1, 1, 1" in row


def test_differences_are_of_folds_that_both_have():
    assert differences({1: 0.5, 2: 0.7, 3: 0.9}, {2: 0.6, 3: 0.6}) == ["+20.0 ± 10.0", "2, 0, 0"]
    assert differences({1: 0.5}, {1: 0.4}) == []


def test_the_command_prints_all_tables(reports, capsys):
    assert main([str(reports)]) == 0
    out = capsys.readouterr().out
    assert "difference, nested" in out
    assert "difference, last ten epochs" in out


@pytest.mark.unchecked
def test_what_is_wrong_is_said(reports, tmp_path, capsys):
    assert main([str(reports / "other.json")]) == 2
    assert "no report of a cross-validation" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere.json")]) == 1
    write(reports, "spen", 2, [0.5, 0.5, 0.5])
    again = json.loads((reports / "spen-0.json").read_text())
    (reports / "copy.json").write_text(json.dumps(again))
    with pytest.raises(UsageError, match="two reports have the same seed"):
        read_results([reports])
