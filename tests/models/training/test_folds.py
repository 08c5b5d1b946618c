"""Cross-validation: its folds, its rules, its figures, and what becomes of interruptions."""

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eqlib.models.training import evaluate, load_model, train
from eqlib.models.training.command import parse_train
from eqlib.models.training.config import command_line, load_config
from eqlib.models.training.folds import hold_out, stratified_folds
from eqlib.models.training.folds.figures import Finished, gather, mean_curve
from eqlib.models.training.loop import Trainer
from eqlib.models.training.metrics import read_rows
from eqlib.models.training.report import read_reports, summarise
from eqlib.models.training.sweep import read_sweep
from eqlib.usage import UsageError
from tests.models.training.processes import final_hashes
from tests.models.training.toy_folds import POINTS, SIDES, folds_config

CLOCKS = ("seconds", "items_per_second")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder and the report of a cross-validation by both rules."""
    out = tmp_path_factory.mktemp("finished")
    return out, train(folds_config(), out)


def timeless(report):
    """Return a report without those figures that depend on the clock."""
    folds = [{k: v for k, v in fold.items() if k != "seconds"} for fold in report["folds"]]
    return {k: v for k, v in report.items() if k not in CLOCKS} | {"folds": folds}


@pytest.mark.parametrize("sizes", [(30, 30), (13, 51, 7), (10,), (3, 40)], ids=str)
def test_stratified_folds_share_out_every_class(sizes):
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    folds = stratified_folds(labels, 10, seed=0)
    assert torch.cat(folds).sort().values.equal(torch.arange(len(labels)))
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    counts = torch.stack([labels[fold].bincount(minlength=len(sizes)) for fold in folds])
    assert (counts.amax(0) - counts.amin(0)).max() <= 1
    assert all(a.equal(b) for a, b in zip(folds, stratified_folds(labels, 10, 0), strict=True))
    assert not all(a.equal(b) for a, b in zip(folds, stratified_folds(labels, 10, 1), strict=True))


def test_control_folds_that_are_dealt_in_order_share_out_nothing():
    labels = torch.arange(2).repeat_interleave(30)
    counts = torch.stack([fold.bincount(minlength=2) for fold in labels.chunk(10)])
    assert (counts.amax(0) - counts.amin(0)).max() == 6


def test_held_out_items_are_a_tenth_of_every_class(rng):
    labels = torch.tensor([0] * 63 + [1] * 125)[torch.randperm(188, generator=rng)]
    items = torch.randperm(188, generator=rng)[:170]
    kept, held = hold_out(labels, items, fold=3, seed=0)
    assert torch.cat([kept, held]).sort().values.equal(items.sort().values)
    expected = [round(count / 10) for count in labels[items].bincount().tolist()]
    assert labels[held].bincount().tolist() == expected
    assert held.equal(hold_out(labels, items, 3, 0)[1])
    for other in (hold_out(labels, items, 4, 0), hold_out(labels, items, 3, 1)):
        assert not held.equal(other[1])


def test_a_rare_class_keeps_and_holds_out_an_item():
    labels = torch.tensor([0] * 20 + [1, 1] + [2])
    kept, held = hold_out(labels, torch.arange(23), fold=1, seed=0)
    assert labels[kept].bincount().tolist() == [18, 1, 1]
    assert labels[held].bincount(minlength=3).tolist() == [2, 1, 0]


def test_every_fold_is_a_run_of_its_own_by_each_rule(finished):
    out, report = finished
    parts = {f"fold-{fold}-{rule}" for fold in (1, 2, 3) for rule in ("nested", "published")}
    files = {"config.yaml", "report.json", "report.md", "folds.png"}
    assert {path.name for path in out.iterdir()} == parts | files
    for name in parts:
        config = load_config(out / name / "config.yaml")
        _, fold, rule = name.split("-")
        assert config.data["fold"] == int(fold)
        assert (config.data["folds"], config.data["protocol"]) == (None, rule)
        assert config.network["outputs"] == 2
    assert json.loads((out / "report.json").read_text()) == report


def test_the_report_has_the_figures_of_both_rules(finished):
    out, report = finished
    test, folds = report["test"], report["folds"]
    assert set(test) == {
        f"{name}_{kind}"
        for name in ("accuracy", "nested_accuracy", "best_epoch_accuracy")
        for kind in ("mean", "std")
    }
    for name in ("accuracy", "nested_accuracy", "best_epoch_accuracy"):
        values = [fold[name] for fold in folds]
        assert test[f"{name}_mean"] == pytest.approx(statistics.fmean(values))
        assert test[f"{name}_std"] == pytest.approx(statistics.stdev(values))
    for fold in folds:
        published = read_rows(out / f"fold-{fold['fold']}-published")
        expected = statistics.fmean(row["valid_accuracy"] for row in published[-10:])
        assert fold["accuracy"] == pytest.approx(expected)
        nested = json.loads((out / f"fold-{fold['fold']}-nested" / "report.json").read_text())
        assert fold["nested_accuracy"] == nested["test"]["accuracy"]
        best = min(read_rows(out / f"fold-{fold['fold']}-nested"), key=_valid_loss)
        assert fold["nested_epoch"] == best["epoch"]
        assert nested["test"]["accuracy"] == best["test_accuracy"]
    assert report["parameters"] == 42
    assert report["data"] == {"points": POINTS, "majority": 0.5}


def _valid_loss(row):
    return row["valid_cross_entropy"]


def test_rules_differ_in_what_they_train_on(finished):
    out, _ = finished
    sizes = {}
    for rule in ("nested", "published"):
        report = json.loads((out / f"fold-1-{rule}" / "report.json").read_text())
        sizes[rule] = report["sizes"]
    assert sizes["published"] == {"train": 54, "valid": 6, "test": 6}
    assert sizes["nested"] == {"train": 49, "valid": 5, "test": 6}


def test_published_runs_select_nothing(finished):
    out, _ = finished
    report = json.loads((out / "fold-2-published" / "report.json").read_text())
    assert report["best_epoch"] == report["epochs"] == 14
    last = read_rows(out / "fold-2-published")[-1]
    assert report["test"]["accuracy"] == last["valid_accuracy"]
    assert not any(name.startswith("test_") for name in last)


def test_one_rule_alone_keeps_the_names_and_says_so(tmp_path):
    report = train(folds_config(data={"protocol": "nested"}), tmp_path)
    assert "nested runs, which hold out a tenth" in report["rules"]["accuracy"]
    for fold in report["folds"]:
        rows = read_rows(tmp_path / f"fold-{fold['fold']}-nested")
        assert fold["accuracy"] == pytest.approx(
            statistics.fmean(row["test_accuracy"] for row in rows[-10:])
        )
    other = train(folds_config(data={"protocol": "published"}), tmp_path / "published")
    assert {"accuracy_mean", "accuracy_std"} <= set(other["test"])
    assert "nested_accuracy_mean" not in other["test"]
    assert "all training items" in other["rules"]["accuracy"]


def test_following_the_test_items_changes_nothing(finished, tmp_path, monkeypatch):
    out, _ = finished
    monkeypatch.setattr(Trainer, "_followed", lambda self: {})
    single = folds_config(data={"folds": None, "fold": 2, "protocol": "nested"})
    train(single, tmp_path)
    assert final_hashes(tmp_path) == final_hashes(out / "fold-2-nested")


def test_a_fold_alone_is_that_of_the_cross_validation(finished, tmp_path):
    out, _ = finished
    train(folds_config(data={"folds": None, "fold": 3}), tmp_path)
    assert final_hashes(tmp_path) == final_hashes(out / "fold-3-nested")
    train(folds_config(data={"folds": None, "fold": 3}, seed=1), tmp_path / "other")
    assert final_hashes(tmp_path / "other") != final_hashes(out / "fold-3-nested")


@pytest.mark.parametrize("steps", [9, 130, 250], ids=lambda n: f"after {n} steps")
def test_interrupted_in_a_fold_it_ends_with_the_same_report(steps, finished, tmp_path, monkeypatch):
    take, taken = Trainer._train_step, 0

    def interrupt(self, *arguments):
        nonlocal taken
        taken += 1
        if taken > steps:
            raise KeyboardInterrupt
        take(self, *arguments)

    config = folds_config(checkpoint_seconds=3600.0, checkpoint_every=5)
    monkeypatch.setattr(Trainer, "_train_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path)
    assert not (tmp_path / "report.json").exists()
    monkeypatch.undo()
    report = train(config, tmp_path, resume=True)
    _, whole = finished
    for name in ("test", "folds", "rules", "activation_bytes", "best_mean_epoch"):
        assert timeless(report)[name] == timeless(whole)[name]
    out, _ = finished
    assert final_hashes(tmp_path / "fold-3-published") == final_hashes(out / "fold-3-published")


def test_finished_folds_are_left_as_they_are(finished, tmp_path, monkeypatch):
    config = folds_config()
    whole = train(config, tmp_path)
    (tmp_path / "report.json").unlink()
    monkeypatch.setattr(Trainer, "fit", lambda self: pytest.fail("it trained again"))
    assert train(config, tmp_path, resume=True)["test"] == whole["test"]


def test_rare_checkpoints_change_no_figure(finished, tmp_path):
    _, whole = finished
    config = folds_config(checkpoint_seconds=3600.0)
    report = train(config, tmp_path)
    assert timeless(report)["folds"] == timeless(whole)["folds"]
    kept = [path.name for path in (tmp_path / "fold-1-nested" / "checkpoints").iterdir()]
    assert kept == ["step-00000098"]


def test_what_does_not_depend_on_the_fold_is_measured_once(tmp_path, monkeypatch):
    from tests.models.training.toy_folds import Sides

    checked = []
    monkeypatch.setattr(Sides, "equivariance", lambda *_: checked.append(1) or {"float32": 0.5})
    monkeypatch.setattr(Sides, "picture", lambda *_: pytest.fail("a fold drew a picture"))
    report = train(folds_config(epochs=1), tmp_path)
    assert len(checked) == 1
    assert report["equivariance"] == {"float32": 0.5}


def test_activations_are_those_of_the_largest_batch(finished):
    _, report = finished
    # a batch of 8 points: saved are the hidden layer before and after SiLU, after dropout with its
    # mask, and the log-softmax; all in float32
    width, outputs, items = 8, 2, 8
    least = 4 * items * (2 * width + outputs)
    assert least <= report["activation_bytes"] <= 4 * items * (6 * width + 4 * outputs)


def test_reports_leave_out_the_parts_unless_they_are_named(finished):
    out, report = finished
    assert read_reports([out]) == [report]
    assert len(read_reports([out / "fold-1-nested", out / "fold-2-nested"])) == 2
    (summary,) = summarise([report])
    assert summary.test["accuracy_mean"].mean == report["test"]["accuracy_mean"]


def test_a_fold_can_be_evaluated_and_the_whole_cannot(finished):
    out, _ = finished
    report = json.loads((out / "fold-1-nested" / "report.json").read_text())
    assert evaluate(out / "fold-1-nested") == report["test"]
    with pytest.raises(ValueError, match=r"holds a cross-validation.*name one of them"):
        load_model(out)


def test_the_page_shows_figures_folds_and_how_they_came_about(finished):
    out, report = finished
    page = (out / "report.md").read_text()
    assert "3 of 10 folds" in page
    for text in report["rules"].values():
        assert text in page
    assert f"{report['folds'][2]['accuracy']:.4g}" in page
    assert report["command"] in page
    assert "](folds.png)" in page


def test_missing_matplotlib_costs_the_picture_alone(tmp_path, monkeypatch, capsys):
    from eqlib.models.training.folds import run as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    train(folds_config(epochs=1, data={"folds": 2}), tmp_path)
    assert not list(tmp_path.rglob("*.png"))
    assert "](folds.png)" not in (tmp_path / "report.md").read_text()
    assert r"`pip install eqlib[plot]`" in capsys.readouterr().err


def finished_run(fold, curve, rule="published"):
    prefix = "valid" if rule == "published" else "test"
    rows = [
        {"step": i, "epoch": float(i), f"{prefix}_accuracy": value}
        for i, value in enumerate(curve, start=1)
    ]
    report = {
        "parameters": 1,
        "seconds": 1.0,
        "equivariance": {},
        "activation_bytes": 0,
        "data": {},
        "sizes": {"test": 5},
        "best_epoch": 1.0,
        "test": {"accuracy": curve[0]},
    }
    return Finished(fold, rule, report, rows)


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


def test_last_epochs_of_rare_evaluations():
    run = finished_run(1, [0.0, 0.2, 0.4, 0.8])
    rows = [row | {"epoch": 5.0 * row["epoch"]} for row in run.rows]
    assert run._replace(rows=rows).last("accuracy") == pytest.approx(0.6)


def test_runs_that_stopped_early_are_compared_where_all_have_a_value():
    runs = [finished_run(1, [0.1, 0.2, 0.9]), finished_run(2, [0.3, 0.4])]
    assert mean_curve(runs, "accuracy") == pytest.approx([0.2, 0.3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fold", "0"], "fold: expected 1 to 10, got 0"),
        (["--fold", "11"], "fold: expected 1 to 10, got 11"),
        (["--folds", "11"], "folds: expected 2 to 10, got 11"),
        (["--folds", "1"], "a single one is --fold N"),
        (["--folds", "3", "--fold", "2"], "give either fold, for a single run, or folds"),
        (["--folds", "three"], "folds: expected an integer, got 'three'"),
        (["--data.protocol", "nestd"], "did you mean 'nested'"),
    ],
    ids=" ".join,
)
def test_folds_that_there_are_not_are_refused(options, message):
    with pytest.raises(UsageError) as raised:
        parse_train(SIDES, ["--model", "lines", *options])
    assert message in str(raised.value)


@pytest.mark.parametrize("option", ["--folds", "--fold"])
def test_tasks_without_folds_have_no_such_option(option):
    with pytest.raises(UsageError, match=option):
        parse_train("nbody", [option, "3"])


def test_the_number_of_folds_is_an_option_with_a_short_name():
    command = parse_train(SIDES, ["--folds", "4"])
    assert command.config.data["folds"] == 4
    assert "--data.folds 4" in command_line(command.config)
    assert command == parse_train(SIDES, ["--data.folds", "4"])


def test_sweeps_have_folds_and_skip_what_is_finished(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[3])
    out = tmp_path / "run"
    path = tmp_path / "sweep.yaml"
    entry = {"task": SIDES, "folds": 2, "out": str(out), "training": {"epochs": 1}}
    path.write_text(json.dumps([entry]))
    (run,) = read_sweep(path)
    assert run.command.config.data["folds"] == 2
    assert not run.finished
    train(run.command.config, out)
    assert run.finished  # the saved one has the sizes that the data decided, this one leaves them
    path.write_text(json.dumps([entry | {"folds": 3}]))
    assert not read_sweep(path)[0].finished


def test_sizes_are_those_of_the_data_unless_they_are_given(tmp_path):
    config = parse_train(SIDES, ["--training.epochs", "1"]).config
    assert config.network["outputs"] is None
    train(config, tmp_path / "open")
    assert load_config(tmp_path / "open" / "config.yaml").network["outputs"] == 2
    assert "outputs" not in json.loads((tmp_path / "open" / "report.json").read_text())["command"]
    given = replace(config, network={**config.network, "outputs": 5})
    train(given, tmp_path / "given")
    assert load_config(tmp_path / "given" / "config.yaml").network["outputs"] == 5
    assert load_model(tmp_path / "given").model.layers[-1].out_features == 5
    # continuing asks for the same
    train(config, tmp_path / "open", resume=True)
    with pytest.raises(ValueError, match=r"other settings: network\.outputs"):
        train(given, tmp_path / "open", resume=True)
