"""The script for a machine with a GPU, with a stand-in for Python that writes down its calls."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import packages
from benchmarks.results import ROOT

STAND_IN = """#!/bin/sh
echo "$*" >> "$(dirname "$0")/calls"
case "$*" in
    *--names*) printf 'first\\nsecond\\n' ;;
    *xdist*) exit 1 ;;
    *broken*) exit 1 ;;
esac
"""


@pytest.fixture
def python(tmp_path):
    path = tmp_path / "python"
    path.write_text(STAND_IN)
    path.chmod(0o755)
    return path


def gpu(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    out = str(python.parent / "out")
    command = ["bash", str(ROOT / "benchmarks/gpu.sh"), "--python", str(python), "--out", out]
    return subprocess.run([*command, *words], capture_output=True, text=True, check=False)


def calls(python: Path) -> list[str]:
    path = python.with_name("calls")
    return path.read_text().splitlines() if path.exists() else []


def test_all_stages_in_order(python):
    done = gpu(python)
    assert done.returncode == 0, done.stderr
    made = [call for call in calls(python) if "xdist" not in call and "--names" not in call]
    assert made[:4] == [
        "benchmarks/packages.py",
        "-m pytest -q -m gpu tests",
        "benchmarks/run.py --device cuda --resume first",
        "benchmarks/run.py --device cuda --resume second",
    ]
    trained = [call.split()[2:6] for call in made[4:]]
    assert ["train", "nbody", "--model", "egnn"] in trained
    assert ["train", "normals", "--model", "fa_dgcnn"] in trained
    assert all("--preset gpu" in call for call in made[4:])
    assert "== timings:second: done in" in done.stdout


def test_one_step_and_not_again_unless_wanted(python):
    assert gpu(python, "timings:first", "presets:nbody/egnn").returncode == 0
    assert len(calls(python)) == 2
    done = gpu(python, "timings:first", "presets:nbody/egnn", "timings:second")
    assert done.returncode == 0
    assert "== timings:first: done before" in done.stdout
    assert calls(python)[2:] == ["benchmarks/run.py --device cuda --resume second"]
    assert gpu(python, "--again", "timings:first").returncode == 0
    assert len(calls(python)) == 4


def test_a_step_that_fails_stops_no_other_and_is_repeated(python):
    done = gpu(python, "timings:broken", "timings:first")
    assert done.returncode == 1
    assert "timings:broken: FAILED" in done.stderr
    assert "timings:first: done" in done.stdout
    assert gpu(python, "timings:broken").returncode == 1
    assert [call.split()[-1] for call in calls(python)] == ["broken", "first", "broken"]


def test_wheels_are_installed_without_a_network(python, tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "some-1.0-py3-none-any.whl").touch()
    assert gpu(python, "--wheels", str(wheels), "packages").returncode == 0
    install, show = calls(python)
    assert install.startswith("-m pip install --quiet --no-index --no-deps --upgrade --target")
    assert install.endswith(f"{wheels}/some-1.0-py3-none-any.whl")
    assert show == "benchmarks/packages.py"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["timing"], "unknown stage 'timing'"),
        (["--wheels", "nowhere"], "no folder nowhere"),
        (["tests", "--out"], "--out needs a value"),
    ],
    ids=["stage", "wheels", "value"],
)
def test_wrong_usage_is_told(words, message, python):
    done = gpu(python, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert calls(python) == []


def test_help_names_the_stages(python):
    text = gpu(python, "--help").stdout
    stages = ("packages", "tests", "timings:NAME", "presets:TASK/MODEL")
    assert all(stage in text for stage in stages)


def test_missing_packages_are_listed_with_a_command(monkeypatch, capsys):
    monkeypatch.setattr(packages, "_version", lambda name: None if name == "beartype" else "99")
    assert packages.main() == 1
    printed = capsys.readouterr().out
    assert "beartype           MISSING" in printed
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"--python-version {version}" in printed
    assert "'beartype'" in printed


def test_control_nothing_is_missing_where_tests_run(capsys):
    assert packages.main() == 0
    assert "MISSING" not in capsys.readouterr().out
