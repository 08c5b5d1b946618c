"""Reports of runs, their pages, and tables over seeds."""

import json
import math
from pathlib import Path

import pytest
import torch

from eqlib.models.training import InMemory
from eqlib.models.training.reports import (
    dataset_checksum,
    markdown_table,
    read_reports,
    summarise,
    summary_table,
    versions,
    write_report,
)
from eqlib.models.training.reports.report import REQUIRED, report_page
from eqlib.usage import UsageError


def report(seed: int = 0, mse: float = 0.5, options: str = "", **changes: object) -> dict:
    command = f"eqlib train toy --model net --preset cpu --seed {seed} {options}".strip()
    return {
        "task": "toy",
        "dataset": "random",
        "model": "net",
        "preset": "cpu",
        "seed": seed,
        "parameters": 1234,
        "seconds": 10.0 + seed,
        "test": {"mse": mse, "mse_median": mse / 2},
        "equivariance": {"float32": 1e-7 * (seed + 1), "float64": 1e-16},
        "command": command,
        "versions": {"eqlib": "0.1.0", "torch": "2.13.0"},
    } | changes


def save(folder: Path, *reports: dict) -> list[Path]:
    for number, content in enumerate(reports):
        (folder / str(number)).mkdir(parents=True)
        write_report(folder / str(number), content)
    return [folder / str(number) for number in range(len(reports))]


def test_report_is_written_for_machines_and_for_people(tmp_path):
    (tmp_path / "predictions.png").touch()
    content = report(valid={"mse": 0.25}, device="cpu", best_epoch=7.0)
    write_report(tmp_path, content)
    assert json.loads((tmp_path / "report.json").read_text()) == content
    page = (tmp_path / "report.md").read_text()
    assert page.startswith("# toy: net, preset cpu, seed 0\n")
    assert "| mse        | 0.5  | 0.25       |" in page
    assert "| float32 | 1.0e-07 |" in page
    assert content["command"] in page
    assert "](predictions.png)" in page
    assert "curves.png" not in page
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "predictions.png",
        "report.json",
        "report.md",
    ]


@pytest.mark.parametrize("key", REQUIRED)
def test_incomplete_report_is_not_written(key, tmp_path):
    content = report()
    del content[key]
    with pytest.raises(KeyError, match=key):
        write_report(tmp_path, content)
    assert list(tmp_path.iterdir()) == []


def test_report_that_is_no_json_leaves_no_report(tmp_path):
    with pytest.raises(TypeError):
        write_report(tmp_path, report(device=torch.device("cpu")))
    assert not (tmp_path / "report.json").exists()


def test_page_needs_no_more_than_the_required_keys():
    assert "| parameters       | 1,234 " in report_page(report())


def test_summary_has_mean_and_sample_deviation():
    (summary,) = summarise([report(2, 0.9), report(0, 0.3), report(1, 0.6)])
    assert summary.seeds == [0, 1, 2]
    assert summary.test["mse"].mean == pytest.approx(0.6)
    assert summary.test["mse"].std == pytest.approx(0.3)
    assert summary.test["mse"].n == 3
    assert summary.test["mse_median"].std == pytest.approx(0.15)
    assert summary.seconds.mean == pytest.approx(11.0)
    assert summary.equivariance["float32"] == pytest.approx(3e-7)
    assert summary.parameters == 1234


def test_single_seed_has_no_deviation():
    (summary,) = summarise([report()])
    assert summary.test["mse"].std is None
    assert "±" not in summary_table([summary])


def test_runs_of_other_settings_are_kept_apart():
    wide = "--network.width 128 --training.epochs 3"
    summaries = summarise([report(0), report(1), report(0, options=wide), report(0, model="big")])
    assert [(s.model, s.settings, s.seeds) for s in summaries] == [
        ("big", "", [0]),
        ("net", "", [0, 1]),
        ("net", wide, [0]),
    ]


def test_same_run_twice_is_refused():
    with pytest.raises(UsageError, match="several reports of one run"):
        summarise([report(0), report(0, mse=0.7)])


def test_table_shows_what_differs():
    table = summary_table(summarise([report(0, 0.3), report(1, 0.6)]))
    header, rule, row = table.splitlines()
    assert "settings" not in header
    assert {len(header), len(rule)} == {len(row)}
    assert "| 0.45 ± 0.21 |" in row
    assert "equivariance, float32" in header
    assert "| 2.0e-07               | 1.0e-16               |" in row
    with_settings = summary_table(summarise([report(0), report(0, options="--data.train 5")]))
    assert "| --data.train 5 |" in with_settings


def test_measure_that_some_runs_lack_is_left_blank():
    table = summary_table(summarise([report(0), report(0, model="old", test={"mae": 1.0})]))
    assert table.splitlines()[0].count("test ") == 3


def test_reports_are_found_in_folders_and_files(tmp_path):
    folders = save(tmp_path / "runs", report(0), report(1))
    result = tmp_path / "net-cpu.json"
    result.write_text(json.dumps(report(2)))
    found = read_reports([tmp_path / "runs", folders[1], result])
    assert [content["seed"] for content in found] == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged or not JSON"),
        ("[]", "is not a report"),
        ('{"task": "toy"}', "is not a report: dataset, model"),
    ],
)
def test_damaged_report_is_explained(text, message, tmp_path):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_reports([tmp_path])


def test_missing_report_is_explained(tmp_path):
    with pytest.raises(UsageError, match="no finished run in it"):
        read_reports([tmp_path])
    with pytest.raises(UsageError, match="no such file or folder"):
        read_reports([tmp_path / "none"])


def test_summaries_are_plain_data():
    (summary,) = summarise([report(0), report(1)])
    content = json.loads(json.dumps(summary.to_dict()))
    assert content["test"]["mse"]["n"] == 2
    assert math.isclose(content["seconds"]["mean"], 10.5)


def test_table_is_aligned():
    assert markdown_table(["a", "long"], [["12345", "x"]]).splitlines() == [
        "| a     | long |",
        "|-------|------|",
        "| 12345 | x    |",
    ]


def test_versions_name_what_figures_depend_on():
    assert {"eqlib", "python", "torch"} <= versions().keys()


def test_checksum_depends_on_every_value_and_on_order(rng):
    points = torch.randn(2500, 3, generator=rng)
    checksum = dataset_checksum(InMemory(points=points))
    assert checksum == dataset_checksum(InMemory(points=points.clone()))
    changed = points.clone()
    changed[2400, 1] += 1e-6
    others = (changed, points.flip(0), points.double(), points.reshape(2500, 1, 3))
    assert len({checksum, *(dataset_checksum(InMemory(points=other)) for other in others)}) == 5
    assert checksum != dataset_checksum(InMemory(positions=points))
