"""Curves."""

import pytest

from eqlib.models.training.reports import draw_curves

ROW = {"epoch": 1.0, "train_loss": 1.0, "valid_mse": 2.0, "learning_rate": 1e-3}


@pytest.mark.parametrize("rows", [[], [ROW], [ROW, ROW | {"epoch": 2.0}]], ids=len)
def test_curves_are_drawn_where_there_are_rows(rows, tmp_path):
    path = tmp_path / "curves.png"
    draw_curves(rows, "mse", "a run", path)
    assert path.exists() == bool(rows)
    if rows:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_loss_of_zero_is_drawn(tmp_path):
    path = tmp_path / "curves.png"
    draw_curves([ROW | {"train_loss": 0.0, "valid_mse": 0.0}], "mse", "a run", path)
    assert path.read_bytes().startswith(b"\x89PNG")
