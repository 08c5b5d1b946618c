"""What each network achieves and costs: a table of reports, with the time of a training step.

``python -m eqlib.models.nbody.ablation REPORT.json ...`` reads reports of runs, takes those that
differ in their seed alone together, and times a step of each network on this machine.
"""

import json
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from eqlib.models.nbody.task import NBody, network_inputs
from eqlib.models.training import Batch

SYSTEMS, PARTICLES = 100, 5
STEPS = 15
COLUMNS = ("network", "seeds", "test mse", "median", "equivariance", "parameters", "ms per step")


def main(paths: Sequence[str]) -> None:
    """Print the table of some reports."""
    torch.set_num_threads(1)
    rows = [COLUMNS, tuple("---" for _ in COLUMNS), *tabulate(paths)]
    print("\n".join("| " + " | ".join(row) + " |" for row in rows))


def tabulate(paths: Sequence[str | Path]) -> list[tuple[str, ...]]:
    """Return a row for each network among some reports.

    Args:
        paths: reports of runs, as JSON.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for path in paths:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        name = f"{report['model']} {options(report)}".strip()
        groups.setdefault(name, []).append(report)
    return [row(name, reports) for name, reports in groups.items()]


def row(name: str, reports: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return the means over the seeds of one network, and what a step of it costs."""
    figures = [[report["test"][key] for report in reports] for key in ("mse", "mse_median")]
    errors = [max(r["equivariance"][dtype] for r in reports) for dtype in ("float32", "float64")]
    first = reports[0]
    return (
        f"`{name}`",
        str(len(reports)),
        *(spread(values) for values in figures),
        ", ".join(f"{error:.1e}" for error in errors),
        f"{first['parameters']:,}",
        f"{step_ms(first['model'], first['config']['network']):.0f}",
    )


def step_ms(model: str, network: dict[str, Any]) -> float:
    """Return the median time of forward and backward on one batch, in milliseconds of this thread.

    The clock is that of the processor time, so that other programs count little.

    Args:
        model: name of the network.
        network: its options.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = NBody.models[model](**network).train()
        batch = systems()
    inputs, times = network_inputs(batch), []
    for _ in range(STEPS + 3):
        start = time.process_time()
        (built(**inputs).view_as(batch["targets"]) - batch["targets"]).square().mean().backward()
        times.append(time.process_time() - start)
    return 1e3 * statistics.median(times[3:])


def systems() -> Batch:
    """Return a batch of random systems."""
    points, velocities = torch.randn(2, SYSTEMS, PARTICLES, 3)
    return {
        "points": 1.7 * points,
        "velocities": 0.6 * velocities,
        "charges": torch.randint(2, (SYSTEMS, PARTICLES)) * 2.0 - 1,
        "targets": 1.7 * points + 0.6 * velocities,
    }


def options(report: dict[str, Any]) -> str:
    """Return those options of a network that its command states."""
    words = report["command"].split()
    return " ".join(
        f"{word.removeprefix('--network.')}={value}"
        for word, value in pairwise(words)
        if word.startswith("--network.")
    )


def spread(values: Sequence[float]) -> str:
    """Return mean and sample standard deviation."""
    mean = f"{statistics.mean(values):.3g}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1g}"


if __name__ == "__main__":
    main(sys.argv[1:])
