from functools import partial

import pytest

from benchmarks.measure import Row
from benchmarks.plot import _curves, _series, save_plot
from benchmarks.registry import PASSES, Problem
from tests.benchmarks.toys import cube, problem, product, toy

pytest.importorskip("matplotlib")

PLACES = {
    "a": {"degree": 1, "rows": 1000},
    "b": {"degree": 2, "rows": 1000},
    "b2": {"degree": 3, "rows": 1000},
    "c": {"degree": 2, "rows": 4096},
    "d": {"degree": 2, "rows": 9000},
    "alone": {"degree": 7, "rows": 9},
    "nowhere": {},
}
BENCHMARK = toy(
    problems={name: Problem(partial(problem, 5), place=place) for name, place in PLACES.items()},
    implementations={"cube": cube},
    peers={"product": product},
)


def row(name, contender="cube", stage="forward", note=""):
    return Row("toy_cube", name, stage, contender, "eqlib", p50_ms=2.0, note=note)


ROWS = [row(name, contender) for name in PLACES for contender in ("cube", "product")]


def test_problems_that_differ_in_one_place_make_a_line():
    assert _series(BENCHMARK, ROWS) == [
        ("degree", ["a", "b", "b2"], "rows 1,000"),
        ("rows", ["b", "c", "d"], "degree 2"),
    ]


def test_time_is_per_row():
    curves = _curves(BENCHMARK, [row("c"), row("b"), row("b", "product", note="missing")], "rows")
    assert curves == {"cube": [(1000, 2000.0), (4096, pytest.approx(2e6 / 4096))]}


def test_picture_is_small_and_has_a_panel_for_each_pass(tmp_path):
    path = tmp_path / "new/plot.png"
    rows = [row(name, stage=stage) for name in PLACES for stage in PASSES]
    assert save_plot(path, BENCHMARK, rows, "title")
    data = path.read_bytes()
    assert data[:4] == b"\x89PNG"
    assert len(data) < 200_000
    width = int.from_bytes(data[16:20], "big")
    assert width == 3 * 460


def test_nothing_to_draw_leaves_no_file(tmp_path):
    assert not save_plot(tmp_path / "plot.png", BENCHMARK, [row("alone"), row("nowhere")], "title")
    assert list(tmp_path.iterdir()) == []


def test_problems_that_are_no_more_are_left_out(tmp_path):
    assert save_plot(tmp_path / "plot.png", BENCHMARK, [*ROWS, row("removed")], "title")


def test_without_a_number_of_rows_the_time_is_that_of_a_call():
    problems = {name: Problem(partial(problem, 5), place={"edges": 10}) for name in "ab"}
    benchmark = toy(problems=problems)
    assert _curves(benchmark, [row("a"), row("b")], "edges") == {"cube": [(10, 2e6), (10, 2e6)]}
