"""What surrounds the Triton kernels, and the checks of triton_checks.py in other processes."""

from pathlib import Path

import pytest
import torch

from eqlib.kernels.aot import SHARED_LIMIT
from eqlib.kernels.pair_linear import whynot
from eqlib.kernels.pair_linear.arguments import Linear, Reduction, WeightGradient
from eqlib.kernels.pair_linear.triton_configurations import constants, tile_of
from tests.kernels.pair_linear.cases import Case, make
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


def test_kernels_compile():
    table = run(
        ["eqlib.kernels.aot", "--quick", "--kernel", "rooted shared 64,64", "--capability", "90"]
    )
    assert "HGMMA" in table
    assert "3 configurations" in table


@pytest.mark.slow
@pytest.mark.parametrize("capability", list(SHARED_LIMIT))
def test_all_kernels_compile(capability):
    for label in ("shared", "own", "alone"):
        run(["eqlib.kernels.aot", "--kernel", f"{label} ", "--capability", str(capability)])


@pytest.mark.unchecked
def test_compiled_kernels_want_a_gpu(rng):
    from eqlib.kernels.pair_linear import triton_launch

    problem = make(Case(), rng)
    x, pairs = problem.x, problem.pairs
    for function, arguments in (
        (triton_launch.linear, Linear(*problem[:5])),
        (triton_launch.reduce, Reduction(x, None, pairs)),
        (triton_launch.weight_gradient, WeightGradient(x, x, pairs.transpose)),
    ):
        with pytest.raises(ValueError, match=r"x: expected a CUDA device, .* got cpu"):
            function(arguments)


def test_why_not_triton(monkeypatch):
    from triton import knobs

    device = torch.device("cpu")
    assert whynot("triton", device, torch.float32) == "it runs on CUDA devices, not on cpu"
    monkeypatch.setattr(knobs.runtime, "interpret", True)
    assert whynot("triton", device, torch.float32) == ""


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [1, 16, 17, 64, 65, 300])
def test_tiles_hold_what_products_want(width, dtype):
    assert 16 <= tile_of(width, 64) <= 64
    for kernel in ("reduce", "linear", "weight"):
        found, options = constants(kernel, width, width, 5, dtype)
        sides = [value for name, value in found.items() if name in ("BC", "BS", "BG", "ROWS")]
        assert all(side >= 16 and side & (side - 1) == 0 for side in sides)
        assert options["num_warps"] in (4, 8)
