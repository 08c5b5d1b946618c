"""Cross-validation: its runs, its report, and what becomes of interruptions."""

import json
import shutil
import statistics
from dataclasses import replace

import pytest

from eqlib.models.training import evaluate, load_model, train
from eqlib.models.training.configuration import load_config
from eqlib.models.training.loop import Trainer
from eqlib.models.training.reports import read_reports, read_rows, summarise
from eqlib.usage import UsageError
from tests.models.training import toy_folds
from tests.models.training.processes import final_hashes
from tests.models.training.toy_folds import POINTS, folds_config

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


def test_every_fold_is_a_run_of_its_own_by_each_rule(finished):
    out, report = finished
    parts = {f"fold-{fold}-{rule}" for fold in (1, 2, 3) for rule in ("nested", "published")}
    files = {"config.yaml", "data.sha256", "report.json", "report.md", "folds.png"}
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
    for rule, chosen in (("published", "the last epoch"), ("nested", "the best validation")):
        page = (out / f"fold-2-{rule}" / "report.md").read_text()
        assert f"the weights are those of {chosen}" in page


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


def test_more_folds_are_added_to_a_finished_cross_validation(finished, tmp_path, monkeypatch):
    out, whole = finished
    run = shutil.copytree(out, tmp_path / "run")
    with monkeypatch.context() as stopped:
        stopped.setattr(Trainer, "_train_step", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(folds_config(data={"folds": 4}), run, resume=True)
    assert not (run / "report.json").exists()  # one of three folds would pass for that of four
    report = train(folds_config(data={"folds": 4}), run, resume=True)
    assert [fold["fold"] for fold in report["folds"]] == [1, 2, 3, 4]
    # the first three are those that were there, save what the epoch best for all folds decides
    best = "best_epoch_accuracy"
    for fold, before in zip(report["folds"], whole["folds"], strict=False):
        assert fold | {best: None} == before | {best: None}
    with pytest.raises(UsageError, match=r"data\.folds \(4 -> 3\)"):
        train(folds_config(), run, resume=True)


def test_folds_of_other_data_are_not_mixed(finished, tmp_path, monkeypatch):
    out, _ = finished
    run = shutil.copytree(out, tmp_path / "run")
    (run / "report.json").unlink()
    shutil.rmtree(run / "fold-3-published")
    monkeypatch.setattr(toy_folds, "POINTS", 70)
    with pytest.raises(UsageError, match="began with other data than there are now"):
        train(folds_config(), run, resume=True)
    assert not (run / "fold-3-published").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics.jsonl", None, r"metrics\.jsonl is missing or empty, .* trains the fold again"),
        ("metrics.jsonl", "", r"metrics\.jsonl is missing or empty"),
        ("metrics.jsonl", "{}\n{\n", r"metrics\.jsonl is damaged"),
        ("report.json", '{"test', r"report\.json is damaged or not JSON"),
        ("report.json", "{}", r"report\.json is not a report: task"),
    ],
    ids=["no metrics", "empty metrics", "damaged metrics", "damaged report", "empty report"],
)
def test_a_finished_fold_with_damaged_figures_is_named(file, content, message, finished, tmp_path):
    out, _ = finished
    run = shutil.copytree(out, tmp_path / "run")
    (run / "report.json").unlink()
    if content is None:
        (run / "fold-2-nested" / file).unlink()
    else:
        (run / "fold-2-nested" / file).write_text(content)
    with pytest.raises(UsageError, match=f"fold-2-nested/{message}"):
        train(folds_config(), run, resume=True)


def test_a_wrong_network_option_leaves_no_folder_behind(tmp_path):
    config = replace(folds_config(), network={"width": -3})
    with pytest.raises(UsageError, match="network: "):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


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
