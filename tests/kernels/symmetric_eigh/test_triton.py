"""What surrounds the Triton kernels, and the checks of triton_checks.py in other processes."""

from pathlib import Path

import pytest
import torch

from eqlib.kernels.symmetric_eigh import whynot
from tests.kernels.processes import run

pytest.importorskip("triton", reason="triton is not installed")

CHECKS = Path(__file__).with_name("triton_checks.py")


def test_kernels_in_the_interpreter():
    run(["pytest", "-q", "-p", "no:cacheprovider", str(CHECKS)], TRITON_INTERPRET="1")


@pytest.mark.gpu
def test_kernels_on_the_gpu():
    run(["pytest", "-q", "-p", "no:cacheprovider", str(CHECKS)])


def test_kernels_compile():
    table = run(
        [
            "eqlib.kernels.aot",
            "--quick",
            "--kernel",
            "3x3 float32",
            "--capability",
            "80",
            "90",
            "120",
        ]
    )
    lines = table.splitlines()[2:-1]
    assert len(lines) == 6
    # Neither spills nor offsets of 32 bits.
    assert all(line.split()[3] == line.split()[7] == "0" for line in lines)


@pytest.mark.slow
def test_all_kernels_compile_for_every_chip():
    for dimension in (2, 3):
        table = run(["eqlib.kernels.aot", "--kernel", f"{dimension}x{dimension} float"])
        assert "24 configurations" in table


@pytest.mark.unchecked
def test_compiled_kernels_want_a_gpu():
    from eqlib.kernels.symmetric_eigh import triton_launch

    with pytest.raises(ValueError, match=r"matrices: expected a CUDA device, .* got cpu"):
        triton_launch.decompose(torch.ones(2, 3, 3))


def test_why_not_triton(monkeypatch):
    from triton import knobs

    cpu = torch.device("cpu")
    assert whynot("triton", cpu, torch.float32) == "it runs on CUDA devices, not on cpu"
    monkeypatch.setattr(knobs.runtime, "interpret", True)
    assert whynot("triton", cpu, torch.float32) == ""
    assert "2 or 3 rows, not 4" in whynot("triton", cpu, torch.float32, 4)
