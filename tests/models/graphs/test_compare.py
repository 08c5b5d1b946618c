"""Tables of cross-validations: groups of reports, means over seeds, differences by fold."""

import json

import pytest

from eqlib.models.graphs.compare import (
    difference_table,
    differences,
    main,
    read_results,
    result_table,
)
from eqlib.usage import UsageError

GIVEN = "the given folds, 10fold_idx"


def write(folder, model, seed, values, options="", protocol="both", **changes):
    """A report with one nested accuracy for each fold; the other rules lie a tenth higher."""
    rules = {"accuracy": 0.1}
    if protocol != "published":
        rules["nested_accuracy"] = 0.0
    entries = [
        {"fold": fold} | {rule: value + more for rule, more in rules.items()}
        for fold, value in enumerate(values, start=1)
    ]
    command = f"eqlib train graphs --model {model} --preset cpu --seed {seed}"
    report = {
        "task": "graphs",
        "dataset": "MUTAG",
        "model": model,
        "preset": "cpu",
        "seed": seed,
        "test": {f"{rule}_mean": 0.5 for rule in rules},
        "folds": entries,
        "parameters": 1234,
        "activation_bytes": 2_500_000,
        "seconds": 90.0,
        "equivariance": {"float32": 1e-7},
        "data": {"majority": 0.665, "folds": GIVEN},
        "command": f"{command} --data.dataset mutag --data.folds {len(values)} {options}",
        "versions": {"torch": "2.13.0"},
        "config": {"data": {"protocol": protocol}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{model}-{seed}.json"
    path.write_text(json.dumps(report | changes))
    return path


@pytest.fixture
def reports(tmp_path):
    write(tmp_path, "spen", 0, [0.7, 0.8, 0.9])
    write(tmp_path, "spen", 1, [0.8, 0.8, 0.7])
    write(tmp_path, "gin", 0, [0.6, 0.8, 0.9])
    (tmp_path / "other.json").write_text(json.dumps({"test": {"accuracy": 1.0}}))
    (tmp_path / "list.json").write_text("[1]")
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


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"options": "--training.epochs 50"}, "gin, cpu --training.epochs 50"),
        ({"options": "--network.width 8"}, "gin, cpu --network.width 8"),
        ({"options": "--data.protocol nested", "protocol": "nested"}, "gin, cpu"),
        ({"values": [0.6, 0.8]}, "gin, cpu"),
        ({"data": {"majority": 0.665, "folds": "10 stratified folds of our own: a/b"}}, "gin, cpu"),
    ],
    ids=["training", "network", "protocol", "number of folds", "folds"],
)
def test_runs_of_other_settings_are_not_seeds_of_one(other, expected, tmp_path):
    write(tmp_path, "gin", 0, [0.6, 0.8, 0.9])
    write(tmp_path, "gin", 1, **{"values": [0.6, 0.8, 0.9]} | other)
    first, second = read_results([tmp_path])
    assert (first.seeds, second.seeds) == ([0], [1])
    assert (first.name, second.name) == ("gin, cpu", expected)
    shown = result_table([first, second]).splitlines()[2:]
    assert shown[0].split("|")[1:5] != shown[1].split("|")[1:5]


def test_own_folds_are_the_same_wherever_the_data_lie(tmp_path):
    for seed, place in enumerate(("a/MUTAG", "b/MUTAG")):
        data = {"majority": 0.665, "folds": f"10 stratified folds of our own: {place} has none"}
        write(tmp_path, "gin", seed, [0.6, 0.8], data=data)
    (result,) = read_results([tmp_path])
    assert result.seeds == [0, 1]
    assert "| 2 of 10 stratified folds of our own |" in result_table([result])


def test_only_what_is_comparable_is_compared(tmp_path):
    write(tmp_path, "gin", 0, [0.6, 0.8, 0.9])
    write(tmp_path, "gin", 1, [0.6, 0.8])
    write(tmp_path, "spen", 0, [0.7, 0.8, 0.9], "--data.protocol nested", "nested")
    data = {"majority": 0.665, "folds": "10 stratified folds of our own: a"}
    write(tmp_path, "ppgn", 0, [0.7, 0.8, 0.9], data=data)
    results = read_results([tmp_path])
    rows = difference_table(results).splitlines()[2:]
    assert [row.split("|")[2].strip() for row in rows] == 2 * ["gin, cpu - spen, cpu"]
    # the last epochs of nested runs are those of networks that have seen less
    assert difference_table(results, "accuracy") == ""


def test_memory_is_that_of_the_seed_that_needs_most(tmp_path):
    write(tmp_path, "gin", 0, [0.6, 0.8], activation_bytes=1_000_000)
    write(tmp_path, "gin", 1, [0.6, 0.8], activation_bytes=3_000_000, seconds=30.0)
    row = result_table(read_results([tmp_path])).splitlines()[2]
    assert [cell.strip() for cell in row.split("|")[-3:-1]] == ["3.0", "1.0"]


def test_reports_are_found_at_any_depth(reports, tmp_path, capsys):
    write(tmp_path / "runs" / "more", "ppgn", 0, [0.5, 0.6, 0.7]).rename(
        tmp_path / "runs" / "more" / "report.json"
    )
    fold = tmp_path / "runs" / "more" / "fold-1-nested" / "report.json"
    fold.parent.mkdir()
    fold.write_text(json.dumps({"test": {"accuracy": 1.0}, "data": {"majority": 0.6}}))
    assert main([str(tmp_path / "runs")]) == 0
    assert len(read_results([tmp_path, reports / "spen-0.json"])) == 3


def test_published_runs_have_no_nested_figures(tmp_path, capsys):
    for model, values in (("spen", [0.7, 0.8]), ("gin", [0.6, 0.8])):
        write(tmp_path, model, 0, values, "--data.protocol published", "published")
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "| spen, cpu | published |" in out
    assert "difference, last ten epochs" in out
    assert "difference, nested" not in out


def test_a_single_network_has_no_table_of_differences(tmp_path, capsys):
    path = write(tmp_path, "gin", 0, [0.6, 0.8])
    assert main([str(path)]) == 0
    assert "difference" not in capsys.readouterr().out


def test_the_command_prints_all_tables(reports, capsys):
    assert main([str(reports)]) == 0
    out = capsys.readouterr().out
    assert "difference, nested" in out
    assert "difference, last ten epochs" in out


@pytest.mark.unchecked
def test_what_is_wrong_is_said(reports, tmp_path, capsys):
    damaged = tmp_path / "damaged.json"
    damaged.write_text("{")
    short = tmp_path / "short.json"
    short.write_text(json.dumps({"folds": [], "data": {"majority": 0.5}}))
    for path, message in (
        (reports / "other.json", "no report of a cross-validation"),
        (tmp_path / "nowhere.json", "no such file or folder"),
        (damaged, "damaged.json is damaged or not JSON"),
        (short, "short.json is not a report: task"),
    ):
        assert main([str(path)]) == 2
        assert message in capsys.readouterr().err
    damaged.unlink()
    short.unlink()
    (reports / "copy.json").write_text((reports / "spen-0.json").read_text())
    with pytest.raises(UsageError, match="several reports of one run"):
        read_results([reports])
