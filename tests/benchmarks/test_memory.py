"""Peak memory on the CPU, where the answer is known."""

import subprocess
import sys

import pytest
import torch

from benchmarks.measure import compare
from benchmarks.memory import bytes_of, peak_bytes
from benchmarks.results import ROOT
from tests.benchmarks.toys import CPU, cube, toy

MIB = 2**20


def floats(mebibytes):
    return torch.empty(mebibytes * MIB // 4)


def nothing():
    return None


def kept():
    return floats(3)


def one_after_another():
    for _ in range(5):
        floats(2)


def two_at_once():
    return floats(2) + floats(2)  # and their sum


def inside_an_operation():
    return torch.ops.eqlib_tests.scratch(torch.zeros(1))


@torch.library.custom_op("eqlib_tests::scratch", mutates_args=())
def scratch(x: torch.Tensor) -> torch.Tensor:
    floats(7).fill_(1)
    return x.clone()


@pytest.mark.parametrize(
    ("run", "expected"),
    [(nothing, 0), (kept, 3), (one_after_another, 2), (two_at_once, 6), (inside_an_operation, 7)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_peak_is_what_is_held_at_once(run, expected):
    assert peak_bytes(run, CPU) == pytest.approx(expected * MIB, abs=MIB / 100)


def test_backward_counts():
    x = floats(4).fill_(1).requires_grad_()

    def run():
        return torch.autograd.grad(x.exp().sum(), x)

    # the exponential and its gradient; the gradient of the sum is expanded
    assert peak_bytes(run, CPU) == pytest.approx(8 * MIB, abs=MIB / 100)


def test_measuring_is_silent(capfd):
    peak_bytes(kept, CPU)
    assert capfd.readouterr() == ("", "")


def test_failures_pass_through_and_restore_the_output(capfd):
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        peak_bytes(fail, CPU)
    assert peak_bytes(kept, CPU) >= 3 * MIB


def test_shared_memory_counts_once():
    x = floats(2)
    assert bytes_of([x, x[1:], x.view(2, -1), "text", None]) == 2 * MIB
    assert bytes_of([]) == 0


@pytest.mark.parametrize(
    ("name", "expected"), [("lean", 0.0), ("wasteful", 1.5)], ids=["lean", "wasteful"]
)
def test_extra_memory_is_relative_to_inputs_and_outputs(name, expected):
    def lean(x, power):
        return x.clone()

    def wasteful(x, power):
        return torch.stack([x, x, x])[0].clone()

    def inputs(generator):
        return {"x": torch.ones(MIB // 4), "power": 3}

    operation = {"lean": lean, "wasteful": wasteful}[name]
    changes = {"problems": {"one": inputs}, "passes": ("forward",), "peers": {}}
    benchmark = toy(**changes, implementations={name: operation})
    (row,) = compare(benchmark, "one", CPU, repeats=1)
    assert row.extra == pytest.approx(expected, abs=0.01)
    assert row.peak_mib == pytest.approx(1 + 2 * expected, abs=0.01)


def test_empty_problems_have_no_ratio():
    rows = compare(toy(peers={}, implementations={"cube": cube}), "empty", CPU, repeats=1)
    assert [row.note for row in rows] == [""] * 3


COUNT_FAULTS = """
import resource, sys
import torch
from benchmarks.memory import keep_freed_memory

keeps = sys.argv[1] == "keep" and keep_freed_memory()
for _ in range(20):  # blocks of the right size are found after some
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(keeps, faults)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the C library of Linux")
@pytest.mark.parametrize("word", ["keep", "release"])
def test_freed_memory_stays_with_the_process_where_that_is_asked_for(word):
    command = [sys.executable, "-c", COUNT_FAULTS, word]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    keeps, faults = done.stdout.split()
    if word == "release":
        assert keeps == "False"
        assert int(faults) >= 2**24 * 4 / 2**21  # a page has no more than 2 MiB
    elif keeps == "True":
        assert int(faults) < 2**24 * 4 / 2**21
