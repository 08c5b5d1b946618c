"""Runs over pairs: resumed, summed up, and from the command line."""

import json
import shutil

import numpy as np
import pytest

from eqlib.cli import main as eqlib
from eqlib.models.graphs import encode_graph6
from eqlib.models.graphs.brec import CATEGORIES, Schedule, procedure, run_pairs, summarise
from eqlib.models.graphs.brec.command import choose_pairs, main, tell
from eqlib.models.graphs.brec.run import over_seeds, table
from tests.models.graphs.brec.toy import HARD, Constant, Degrees, easy_and_hard, edges_of, maker

SHORT = Schedule(epochs=1)


def judged(path, pairs, network=Degrees, **options):
    """Return the rows, and the numbers of the pairs that were judged anew."""
    new = []
    rows = run_pairs(
        maker(network),
        easy_and_hard(),
        path,
        0,
        pairs,
        SHORT,
        tell=lambda row, *_: new.append(row["index"]),
        **options,
    )
    return rows, new


def test_a_run_goes_on_where_it_was_stopped(tmp_path):
    path, whole = tmp_path / "rows.jsonl", tmp_path / "whole.jsonl"
    assert judged(path, [1])[1] == [1]
    with path.open("a") as file:
        file.write('{"index": 0, "categ')  # a crash in the middle of a line
    rows, new = judged(path, [0, 1])
    assert new == [0]
    assert [row["index"] for row in rows] == [1, 0]
    assert judged(path, [0, 1])[1] == []
    at_once, _ = judged(whole, [0, 1])
    timeless = [{**row, "seconds": 0} for row in (*rows, *at_once)]
    assert timeless[0] == timeless[3]
    assert timeless[1] == timeless[2]


def test_results_of_other_settings_are_not_mixed(tmp_path):
    path = tmp_path / "rows.jsonl"
    judged(path, [0], settings={"width": 8})
    with pytest.raises(ValueError, match="name another folder or remove it"):
        judged(path, [1], settings={"width": 16})
    path.write_text("not JSON\n")
    with pytest.raises(ValueError, match="a line is not JSON"):
        judged(path, [1])


def test_counts_by_category_and_group(tmp_path):
    rows, _ = judged(tmp_path / "rows.jsonl", [0, 1])
    # pair 0 is in "basic"; give the other one to another category of the group "regular"
    rows[1]["category"] = "4_vertex"
    summary = summarise(rows)
    basic, regular = summary["categories"]["basic"], summary["groups"]["regular"]
    assert (basic["judged"], basic["distinguished"], basic["pairs"]) == (1, 1, 60)
    assert (regular["judged"], regular["distinguished"], regular["pairs"]) == (1, 0, 140)
    assert summary["total"]["distinguished"] == summary["total"]["correct"] == 1
    assert summary["total"]["pairs"] == 400
    assert summary["threshold"] == 72.338
    spread = over_seeds([summary, summary])
    assert spread["total"] == {"mean": 1.0, "std": 0.0, "counts": [1, 1]}
    text = table({"degrees": summary})
    assert "1 of 1 (judged, of 60)" in text
    assert summarise([])["total"]["judged"] == 0


def test_a_network_without_weights_is_judged_untrained(tmp_path):
    class Fixed(Constant):
        def __init__(self):
            super().__init__()
            self.value.requires_grad_(False)

    rows, _ = judged(tmp_path / "rows.jsonl", [0], network=Fixed)
    assert (rows[0]["epochs"], rows[0]["loss"]) == (0, None)


@pytest.fixture
def folder(tmp_path):
    """All pairs are the same hard one."""
    (tmp_path / "brec").mkdir()
    lines = [encode_graph6(*edges_of(graph)) for graph in HARD]
    for category in CATEGORIES:
        np.save(
            tmp_path / "brec" / category.file, np.array(lines * (category.stop - category.start))
        )
    return tmp_path


def test_the_command_prints_a_table_and_writes_rows_and_report(folder, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--model", "gin", "--category", "basic", "cfi", "--limit", "1", "--width", "8"]
    options += ["--layers", "2", "--seeds", "0", "1", "--data-dir", str(folder)]
    assert main([*options, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "0 of 1 (judged, of 100)" in printed.out
    for number, pair in (("1/2", "0 (basic"), ("2/2", "260 (cfi")):
        assert f"[{number}] pair {pair}, 6 nodes): not distinguished; T^2 " in printed.err
    report = json.loads((out / "gin.json").read_text())
    assert report["over_seeds"]["total"]["counts"] == [0, 0]
    assert report["width"] == 8
    assert len((out / "gin-seed1.jsonl").read_text().splitlines()) == 3
    assert main([*options, "--out", str(out)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--out: expected a folder"),
        (["--out", "x", "--model", "gni"], "did you mean 'gin'"),
        (["--out", "x", "--category", "cfo"], "did you mean 'cfi'"),
        (["--out", "x", "--data-dir", "nowhere"], "download BREC_data_all.zip"),
    ],
    ids=["folder", "model", "category", "data"],
)
def test_wrong_words_are_explained(options, message, capsys):
    assert main(options) == 2
    assert message in capsys.readouterr().err


def test_pairs_are_chosen_by_category():
    assert choose_pairs(["4_vertex", "basic"], 2) == [360, 361, 0, 1]
    assert len(choose_pairs([category.name for category in CATEGORIES])) == 400


def test_progress_says_what_came_of_a_pair_and_where_the_run_is(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    run_pairs(maker(Degrees), easy_and_hard(), path, 0, [1, 0], SHORT, tell=tell)
    hard, easy = capsys.readouterr().err.splitlines()
    assert hard.startswith("[1/2] pair 1 (basic, 6 nodes): not distinguished; T^2")
    assert easy.startswith("[2/2] pair 0 (basic, 6 nodes): distinguished; T^2")
    # a run that goes on counts those that were judged before
    path.write_text("".join(path.read_text().splitlines(True)[:2]))
    run_pairs(maker(Degrees), easy_and_hard(), path, 0, [1, 0], SHORT, tell=tell)
    assert capsys.readouterr().err.startswith("[2/2] pair 0 ")


@pytest.fixture
def few(monkeypatch):
    """Let BREC have two pairs alone."""
    monkeypatch.setattr(procedure, "choose_pairs", lambda names: [0, 260])


def brec_command(folder, out, *options):
    """Return the exit code of a small run of BREC as a task."""
    words = ["train", "graphs", "--dataset", "brec", "--model", "gin", "--training.epochs", "1"]
    words += ["--network.width", "4", "--network.layers", "1", *options]
    return eqlib([*words, "--data-dir", str(folder), "--out", str(out)])


def test_a_run_as_a_task_says_where_it_is_and_keeps_no_weights(few, folder, tmp_path, capsys):
    out = tmp_path / "run"
    assert brec_command(folder, out) == 0
    assert "[2/2] pair 260 (cfi, 6 nodes): not distinguished;" in capsys.readouterr().err
    for command in ("check", "evaluate"):
        assert eqlib([command, str(out), "--data-dir", str(folder)]) == 2
        message = capsys.readouterr().err
        assert "holds no weights, as BREC keeps none: its results are in" in message
        assert str(out / "report.md") in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("precision", "float32"),
        ("schedule", "cosine"),
        ("clip_norm", "1"),
        ("ema_decay", "0.9"),
        ("warmup_epochs", "3"),
        ("patience", "2"),
    ],
)
def test_options_that_would_change_nothing_are_refused(name, value, folder, tmp_path, capsys):
    out = tmp_path / "run"
    assert brec_command(folder, out, f"--training.{name}", value) == 2
    assert f"training.{name}: got {value}" in capsys.readouterr().err
    assert not out.exists()


def test_a_run_of_other_pairs_is_not_gone_on_with(few, folder, tmp_path, capsys):
    out, other = tmp_path / "run", tmp_path / "other"
    assert brec_command(folder, out) == 0
    (out / "report.json").unlink()
    assert brec_command(folder, out, "--resume") == 0
    (out / "report.json").unlink()
    shutil.copytree(folder / "brec", other / "brec")
    lines = np.load(other / "brec" / "dr.npy")
    np.save(other / "brec" / "dr.npy", lines[::-1])
    assert brec_command(other, out, "--resume") == 2
    assert "began with other data than there are now" in capsys.readouterr().err


@pytest.mark.slow
def test_train_runs_brec(folder, tmp_path):
    out = tmp_path / "run"
    assert brec_command(folder, out) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["test"]["accuracy"] == 0
    assert report["brec"]["total"]["judged"] == 400
    assert report["equivariance"]["float64"] < 1e-12


@pytest.mark.data
def test_gin_distinguishes_no_regular_graphs(data, tmp_path):
    out = tmp_path / "out"
    options = ["--model", "gin", "--category", "regular", "strongly_regular", "--limit", "3"]
    options += ["--width", "8", "--layers", "3", "--data-dir", str(data / "graphs")]
    assert main([*options, "--out", str(out)]) == 0
    report = json.loads((out / "gin.json").read_text())
    total = report["by_seed"][0]["total"]
    assert (total["judged"], total["distinguished"], total["unreliable"]) == (6, 0, 0)
