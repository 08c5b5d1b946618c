from dataclasses import replace

import pytest
import torch
from rich.console import Console

from benchmarks.measure import Row
from benchmarks.results import (
    COLUMNS,
    describe_environment,
    make_table,
    read_results,
    write_results,
)

ROW = Row(
    "toy",
    "small",
    "forward",
    "ours",
    "eqlib",
    p20_ms=1.0,
    p50_ms=2.0,
    p80_ms=3.0,
    samples=7,
    ratio=1.0,
    peak_mib=4.5,
    extra=0.25,
)
RATED = replace(ROW, gb_s=5.0, of_copy=0.5, gflop_s=60.0, of_matmul=0.75, limit="matmul")
ABSENT = Row("toy", "small", "forward", "theirs", "peer", note="not installed")


def printed(rows):
    console = Console(width=140)
    with console.capture() as capture:
        console.print(make_table(rows, "title"))
    return capture.get()


def test_table_has_rates_only_where_they_are_known():
    assert "GB/s" not in printed([ROW])
    text = printed([RATED, ROW])
    assert "5 (50%)" in text
    assert "60 (75%)" in text
    assert "matmul" in text
    assert "nan" not in text


def test_table_says_what_is_missing_and_what_computes_something_else():
    absent = replace(ABSENT, name="that")
    text = printed([ROW, ABSENT, absent, replace(ROW, name="other", computes="all paths")])
    assert "theirs; that: not installed" in text
    assert "other: computes all paths" in text


@pytest.mark.parametrize("rows", [[ROW], [RATED, ABSENT]], ids=["plain", "rated and absent"])
def test_results_are_read_as_they_were_written(rows, tmp_path):
    path = tmp_path / "toy.csv"
    environment = describe_environment(torch.device("cpu"))
    write_results(path, rows, environment)
    assert [repr(row) for row in read_results(path, "cpu")] == [repr(row) for row in rows]
    assert read_results(path, "cuda") == []


def test_files_with_other_columns_can_be_added_to(tmp_path):
    path = tmp_path / "toy.csv"
    path.write_text("problem,device,gone\nlarge,cuda,1\n")
    write_results(path, [ROW], describe_environment(torch.device("cpu")))
    lines = path.read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert len(lines) == 3
    assert "large" in lines[2]
