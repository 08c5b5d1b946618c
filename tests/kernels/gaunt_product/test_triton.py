"""What surrounds the Triton kernels, and the checks of triton_checks.py in other processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eqlib.gaunt.tables import plan
from eqlib.harmonics import gaunt_coefficients, half_grid, poisson_coefficients, spherical_harmonics
from eqlib.kernels.gaunt_product import whynot
from eqlib.kernels.gaunt_product.triton_coefficients import digest, terms
from eqlib.kernels.gaunt_product.triton_configurations import (
    CHIPS,
    LARGEST_DEGREE,
    channel_shift,
    chip_with,
    grid_tile,
    largest_degree,
    programs,
)
from eqlib.kernels.gaunt_product.triton_tables import pack, pack_grid

ROOT = Path(__file__).parents[3]
CHECKS = Path(__file__).with_name("triton_checks.py")


def run_checks(group, interpreted):
    pytest.importorskip("triton", reason="triton is not installed")
    settings = {"TRITON_DEFAULT_FP_FUSION": "1"} | (
        {"TRITON_INTERPRET": "1"} if interpreted else {}
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CHECKS)]
    run = subprocess.run(
        [*command, "-k", group], cwd=ROOT, env=os.environ | settings, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]


@pytest.mark.parametrize("group", ["TestProduct", "not TestProduct"])
def test_kernels_in_the_interpreter(group):
    run_checks(group, interpreted=True)


@pytest.mark.gpu
@pytest.mark.parametrize("group", ["TestProduct", "not TestProduct"])
def test_kernels_on_the_gpu(group):
    run_checks(group, interpreted=False)


@pytest.mark.parametrize("odd", [False, True], ids=["gaunt", "poisson"])
@pytest.mark.parametrize("lmaxes", [(4, 4, 4), (1, 3, 2), (0, 0, 0)], ids=str)
def test_constants_of_the_sparse_form(lmaxes, odd):
    table = torch.zeros([(lmax + 1) ** 2 for lmax in lmaxes], dtype=torch.float64)
    for c, groups in enumerate(terms(*lmaxes, odd)):
        for a, right in groups:
            for b, value in right:
                table[a, b, c] = value
    expected = (poisson_coefficients if odd else gaunt_coefficients)(*lmaxes)
    assert (table - expected).abs().max() < 1e-13
    # control: the other product has other constants, and another digest
    assert terms(*lmaxes, odd) != terms(*lmaxes, not odd)
    assert digest(*lmaxes, odd) != digest(*lmaxes, not odd)


@pytest.mark.parametrize("channels", [1, 3, 16, 32, 33, 48, 64, 96, 130, 1000])
@pytest.mark.parametrize("batch", [1, 31, 33, 5000])
def test_programs_cover_all_rows(batch, channels):
    for rows in (16, 32, 64, 128):
        shift = channel_shift(channels, rows)
        along_batch, along_channels = programs(batch, channels, shift, rows)
        assert (along_batch - 1) * (rows >> shift) < batch <= along_batch * (rows >> shift)
        assert (along_channels - 1) << shift < channels <= along_channels << shift


@pytest.mark.parametrize(
    ("channels", "together"),
    [(1, 1), (3, 4), (32, 32), (48, 16), (64, 64), (96, 32), (128, 128), (256, 128)],
)
def test_channels_of_one_program(channels, together):
    assert 1 << channel_shift(channels, 128) == together


def half_tables(lmax):
    points, weights, _ = half_grid(3 * lmax)
    values = (
        spherical_harmonics(points, lmax) * (weights.abs() ** (1 / 3) * weights.sign())[:, None]
    )
    even = torch.arange((lmax + 1) ** 2).sqrt().int() % 2 == 0
    return values[None][..., even], values[None][..., ~even]


def test_tables_are_padded_with_zeros_and_split_without_loss():
    even, odd = half_tables(4)
    for dtype, precision, parts, tolerance in (
        (torch.float64, "tf32x3", 1, 1e-15),
        (torch.float32, "tf32x3", 2, 2e-7),
        (torch.float32, "tf32", 1, 5e-4),
        (torch.float32, "bf16", 1, 4e-3),
    ):
        empty, *tables = pack_grid(even, odd, dtype, precision)
        assert empty.numel() == 0
        assert empty.dtype == dtype
        points = -(-even.shape[1] // 32) * 32
        shapes = [(1, parts, points, 16)] * 2 + [(1, parts, 16, points)] * 2
        assert [tuple(table.shape) for table in tables] == shapes
        for table, values in zip(tables, (even, odd, even.mT, odd.mT), strict=True):
            total = table.double().sum(1)
            inside = total[:, : values.shape[1], : values.shape[2]]
            assert ((inside - values).abs() / values.abs().clamp(min=1e-3)).max() < tolerance
            assert total.count_nonzero() == inside.count_nonzero()
            assert table.dtype in (dtype, torch.bfloat16)
            if "tf32" in precision and dtype == torch.float32:
                assert (table.view(torch.int32) & 0x1FFF == 0).all()


def test_low_degrees_need_no_tables():
    assert [table.numel() for table in pack(*half_tables(3), torch.float32, "tf32x3")] == [0]
    assert len(pack(*half_tables(4), torch.float32, "tf32x3")) == 5


def test_every_chip_has_tiles_up_to_its_largest_degree():
    assert {chip_with(number) for numbers in CHIPS.values() for number in numbers} == set(CHIPS)
    assert chip_with(75) == chip_with(130) == "small"
    for chip in CHIPS:
        for dtype in (torch.float32, torch.float64):
            for degree in range(4, largest_degree(chip, dtype) + 1):
                for odd in (False, True):
                    sizes = (sum(2 * n + 1 for n in range(p, degree + 1, 2)) for p in (0, 1))
                    shape = (3 if odd else 1, 32)
                    tables = pack_grid(
                        *(torch.zeros(*shape, size).double() for size in sizes), dtype, "tf32x3"
                    )
                    assert grid_tile(tables, odd, False, chip) is not None


@pytest.mark.unchecked
def test_compiled_kernels_want_a_gpu():
    pytest.importorskip("triton", reason="triton is not installed")
    from eqlib.kernels.gaunt_product import triton_launch

    x = torch.ones(2, 4, 3)
    tables = plan("naive", x.device, x.dtype, (1, 1, 1), False)[1][:1]
    with pytest.raises(ValueError, match=r"x: expected a CUDA device, .* got cpu"):
        triton_launch.product(x, x, (None, None, None), tables, 1, False)


def test_why_not_triton(monkeypatch):
    pytest.importorskip("triton", reason="triton is not installed")
    from triton import knobs

    cpu = torch.device("cpu")
    assert "not on cpu" in whynot("triton", cpu, torch.float32, (2, 2, 2))
    monkeypatch.setattr(knobs.runtime, "interpret", True)
    assert whynot("triton", cpu, torch.float32, (LARGEST_DEGREE, 2, 2)) == ""
    assert "end at degree 6" in whynot("triton_tf32", cpu, torch.float64, (7, 2, 2))
    assert "end at degree 9" in whynot("triton", cpu, torch.float32, (10, 2, 2))
