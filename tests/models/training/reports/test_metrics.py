"""The rows of a run."""

import csv
import sys

import pytest

from eqlib.models.training.reports import Metrics, read_rows

ROWS = [{"step": 7 * i, "epoch": float(i), "valid_mse": 1.0 / i} for i in (1, 2, 3)]


def fill(folder):
    metrics = Metrics(folder)
    for row in ROWS:
        metrics.append(row)


def read_table(folder):
    with (folder / "metrics.csv").open() as file:
        return [{name: float(text) for name, text in row.items()} for row in csv.DictReader(file)]


def test_both_files_hold_the_rows_exactly(tmp_path):
    fill(tmp_path)
    assert read_rows(tmp_path) == ROWS
    assert read_table(tmp_path) == ROWS


def test_folder_without_metrics_has_no_rows(tmp_path):
    assert read_rows(tmp_path) == []


@pytest.mark.parametrize(("step", "kept"), [(0, 0), (7, 1), (13, 1), (21, 3)], ids=str)
def test_rows_after_the_checkpoint_are_dropped(step, kept, tmp_path):
    fill(tmp_path)
    Metrics(tmp_path, step=step).append({"step": 99, "epoch": 9.0, "valid_mse": 0.5})
    assert [row["step"] for row in read_rows(tmp_path)] == [*[7, 14, 21][:kept], 99]
    assert read_table(tmp_path) == read_rows(tmp_path)


def test_row_that_a_crash_cut_short_is_dropped(tmp_path):
    fill(tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-5])
    assert read_rows(tmp_path) == ROWS[:2]


def test_tensorboard_is_written_when_asked_for(tmp_path):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    Metrics(tmp_path, tensorboard=True).append(ROWS[0])
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_missing_tensorboard_is_not_passed_over(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install eqlib\[tensorboard\]"):
        Metrics(tmp_path, tensorboard=True)
