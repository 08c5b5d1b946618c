"""The modes of frame averaging are timed with as many passes as they are said to make."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from benchmarks.answers import build
from benchmarks.frames import BENCHMARKS, CALLS, COPIES, _calls, _clouds, _graphs
from benchmarks.measure import compare
from tests.benchmarks.toys import CPU

MAKE = {"frame_average_pointnet": _clouds, "frame_average_gnn": _graphs}


def rows_seen(network, inputs):
    """Run a contender; return the number of rows in each call of the network inside."""
    rows = []

    def count(module, args, named):
        rows.append(len([*args, *named.values()][0]))

    backbone = getattr(network, "backbone", network)
    backbone.register_forward_pre_hook(count, with_kwargs=True)
    network(**inputs)
    return rows


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_calls_are_those_that_reach_the_network(benchmark):
    inputs = MAKE[benchmark.name](4, 32, torch.Generator().manual_seed(0))
    for name, given in benchmark.implementations.items():
        rows = rows_seen(build(benchmark, name, given, inputs, CPU), inputs)
        assert sum(rows) == pytest.approx(_calls(inputs, name) * len(inputs["points"])), name
        assert len(rows) == (4 if name == CALLS else 1), name


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_rows_have_the_time_of_each_call(benchmark):
    problems = {"small": partial(MAKE[benchmark.name], 2, 32)}
    rows = compare(replace(benchmark, problems=problems), "small", CPU, repeats=1)
    assert {row.note for row in rows} == {""}
    for row in rows:
        assert row.per_call == pytest.approx(row.ratio / row.calls)
    calls = {row.name: row.calls for row in rows}
    assert calls["full"] == calls[COPIES] == 4
    assert calls["stochastic"] == 1
    assert 1 <= calls["minimal"] <= 4


def test_a_table_of_networks_has_columns_for_their_calls(capsys):
    from rich.console import Console

    from benchmarks.results import make_table

    benchmark = BENCHMARKS[0]
    problems = {"small": partial(_clouds, 2, 32)}
    rows = compare(replace(benchmark, problems=problems), "small", CPU, repeats=1)
    console = Console(width=140)
    with console.capture() as capture:
        console.print(make_table(rows, "title"))
        console.print(make_table([replace(rows[0], calls=torch.nan)], "title"))
    with_calls, without = capture.get().split("title")[1:]
    assert "per call" in with_calls
    assert "per call" not in without
