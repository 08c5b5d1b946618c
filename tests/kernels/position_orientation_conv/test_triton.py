"""What surrounds the Triton kernels, and the checks of triton_checks.py in other processes."""

from pathlib import Path

import pytest
import torch

from eqlib.kernels.aot import SHARED_LIMIT
from eqlib.kernels.position_orientation_conv import whynot
from eqlib.kernels.position_orientation_conv.triton_configurations import (
    CHIPS,
    KERNELS,
    TOTALS,
    chip_with,
    shape_of,
    tiles,
)
from tests.kernels.position_orientation_conv.cases import CASES, Case, make
from tests.kernels.processes import run

pytest.importorskip("triton", reason="triton is not installed")

CHECKS = Path(__file__).with_name("triton_checks.py")


def run_checks(group, **settings):
    run(["pytest", "-q", "-p", "no:cacheprovider", str(CHECKS), "-k", group], **settings)


def test_kernels_in_the_interpreter():
    run_checks("not TestAll", TRITON_INTERPRET="1")


@pytest.mark.slow
def test_more_of_the_kernels_in_the_interpreter():
    run_checks("TestAll", TRITON_INTERPRET="1")


@pytest.mark.gpu
def test_kernels_on_the_gpu():
    run_checks("")


def test_a_kernel_compiles():
    table = run(["eqlib.kernels.aot", "--quick", "--kernel", "third_kernel", "--capability", "90"])
    assert "HMMA" in table
    assert "1 configurations" in table


@pytest.mark.slow
@pytest.mark.parametrize("capability", list(SHARED_LIMIT))
def test_all_kernels_compile(capability):
    for label in ("planar 32", "spatial 128,256", "rotations 128,256", "uneven"):
        run(["eqlib.kernels.aot", "--kernel", label, "--capability", str(capability)])


@pytest.mark.unchecked
def test_compiled_kernels_want_a_gpu(rng):
    from eqlib.kernels.position_orientation_conv import triton_launch

    with pytest.raises(ValueError, match=r"x: expected a CUDA device, .* got cpu"):
        triton_launch.convolve(make(CASES["R3xS2"], rng))


def test_why_not_triton(rng, monkeypatch):
    from triton import knobs

    arguments = make(CASES["R3xS2"], rng)
    assert whynot("triton", arguments) == "it runs on CUDA devices, not on cpu"
    monkeypatch.setattr(knobs.runtime, "interpret", True)
    assert whynot("triton", arguments) == ""
    wide = make(Case("axes", m=3, scalars=14), rng, torch.float32)
    assert "hold 32 monomials and scalars in float32, not 33" in whynot("triton", wide)


def test_every_chip_has_tiles(rng):
    assert {chip_with(number) for number in SHARED_LIMIT} == set(CHIPS)
    assert chip_with(75) == chip_with(130) == "small"
    for case in (CASES["one of all"], Case("axes", m=3, hidden=256, basis=300, channels=256)):
        shape = shape_of(make(case, rng))
        for chip in CHIPS:
            for dtype in (torch.float64, torch.float32, torch.bfloat16):
                found = tiles(shape, dtype, chip)
                assert list(found) == list(KERNELS)
                assert all(min(tile[:4]) >= 16 for tile in found.values())
    assert TOTALS >= 16
