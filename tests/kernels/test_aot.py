"""Every Triton kernel compiles ahead of time, without spills and within the limits of each chip."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from eqlib.kernels.aot import SHARED_LIMIT, AotCase, AotReport, cases, main, report

pytest.importorskip("triton", reason="triton is not installed")

ROOT = Path(__file__).parents[2]
CASE = AotCase(
    kernel=main, types={}, constants={}, options={"num_warps": 8}, capability=86, label="case"
)
GOOD = AotReport(
    case=CASE,
    registers=128,
    stack=0,
    spills=0,
    shared=1024,
    stores=1,
    matrix_instructions="HMMA",
    narrow_pointers=0,
    seconds=0.0,
)


def compile_table(*options):
    """Run the command in a process that does not interpret kernels."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "eqlib.kernels.aot", *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_few_kernels_compile_for_every_chip():
    run = compile_table("--quick", "--kernel", "product_kernel gaunt 2,2,2")
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.startswith("Triton ")
    lines = run.stdout.splitlines()[2:-1]
    assert [line.split()[0] for line in lines] == [f"sm_{number}" for number in SHARED_LIMIT]
    run = compile_table("--quick", "--kernel", "grid_product", "--capability", "86", "90")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "HGMMA" in run.stdout
    assert "HMMA" in run.stdout


@pytest.mark.slow
@pytest.mark.parametrize("capability", list(SHARED_LIMIT))
def test_every_kernel_compiles(capability):
    run = compile_table("--capability", str(capability))
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"spills": 2}, "spills"),
        ({"stack": 8}, "spills"),
        ({"shared": 101377}, "shared memory above 101376"),
        ({"registers": 255, "case": replace(CASE, options={"num_warps": 16})}, "registers"),
        ({"stores": 0}, "no code"),
    ],
    ids=["spills", "stack", "shared", "registers", "nothing"],
)
def test_what_may_not_be_used_is_found(change, problem):
    assert GOOD.problems == []
    bad = replace(GOOD, **change)
    assert problem in " ".join(bad.problems)
    assert "<-" in str(bad)
    assert "<-" not in str(GOOD)


def test_a_bad_kernel_fails_the_command(monkeypatch, capsys):
    monkeypatch.setattr("eqlib.kernels.aot.cases", lambda *_: [CASE])
    monkeypatch.setattr("eqlib.kernels.aot.report", lambda _: replace(GOOD, spills=1))
    assert main([]) == 1
    assert "1 configurations in 0 s, 1 that may not be used" in capsys.readouterr().out
    monkeypatch.setattr("eqlib.kernels.aot.report", lambda _: GOOD)
    assert main([]) == 0


def test_a_selection_of_nothing_fails_the_command(capsys):
    assert main(["--kernel", "no such kernel"]) == 1
    assert "0 configurations" in capsys.readouterr().out


def test_interpreted_kernels_cannot_be_compiled():
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET"):
        report(CASE)


def test_the_table_has_every_degree_and_dtype():
    table = [f"{case.name} {case.label}" for case in cases(capabilities=[90])]
    assert len(set(table)) == len(table)
    for text in ("gaunt 9,9,9 float32", "bracket 3,3,3 float64", "6,6,6 bfloat16", "tf32", "bf16"):
        assert any(text in line for line in table)
    assert len(list(cases(capabilities=[90], full=False))) < len(table) / 10
