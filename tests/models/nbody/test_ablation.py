"""The table of networks: one row for the seeds of each, with what a step costs."""

import json
from pathlib import Path

import pytest

from eqlib.models.nbody import ablation

RESULTS = Path(ablation.__file__).parent / "results"


@pytest.fixture
def reports(tmp_path) -> list[Path]:
    made = []
    for seed, mse, flag in [(0, 0.002, ""), (1, 0.004, ""), (0, 0.01, " --network.width 8")]:
        width = 8 if flag else 4
        report = {
            "model": "egnn",
            "seed": seed,
            "parameters": 1234,
            "equivariance": {"float32": 1e-6 * (1 + seed), "float64": 1e-15},
            "test": {"mse": mse, "mse_median": mse / 10},
            "command": f"eqlib train nbody --model egnn --preset cpu --seed {seed}{flag}",
            "config": {"network": {"width": width, "layers": 1}},
        }
        made.append(tmp_path / f"{len(made)}.json")
        made[-1].write_text(json.dumps(report))
    return made


def test_seeds_are_taken_together_and_options_apart(reports):
    one, other = ablation.tabulate(reports)
    assert one[:4] == ("`egnn`", "2", "0.003 ± 0.001", "0.0003 ± 0.0001")
    assert other[:4] == ("`egnn width=8`", "1", "0.01", "0.001")
    assert one[4:6] == ("2.0e-06, 1.0e-15", "1,234")
    assert float(one[6]) >= 0


def test_every_committed_report_can_be_timed(capsys):
    paths = sorted(RESULTS.glob("linear*.json"))
    ablation.main([str(path) for path in paths])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| network | seeds | test mse")
    assert lines[2].startswith("| `linear` | 1 |")
