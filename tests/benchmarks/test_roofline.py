import math

import pytest
import torch

from benchmarks.registry import Work
from benchmarks.roofline import Ceilings, Rates, measure_ceilings, rates, seconds_of
from tests.benchmarks.toys import CPU


def test_ceilings_are_measured():
    found = measure_ceilings(CPU, copy_bytes=2**20, size=64)
    assert 1e7 < found.copy < 1e14
    assert 1e7 < found.matmul < 1e15
    assert math.isnan(found.matmul_tf32)
    assert found.accurate_matmul == found.matmul


@pytest.mark.gpu
def test_ceilings_of_a_gpu_leave_its_settings():
    before = torch.backends.cuda.matmul.allow_tf32
    found = measure_ceilings(torch.device("cuda"), copy_bytes=2**26, size=1024)
    assert found.copy > 1e10
    assert found.matmul_tf32 > 0
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_three_tf32_products_stand_for_one_of_float32():
    assert Ceilings(1.0, 50.0, 300.0).accurate_matmul == 100
    assert Ceilings(1.0, 50.0, 90.0).accurate_matmul == 50


def test_ceilings_are_described():
    assert Ceilings(2e9, 3e10).describe() == "copy 2 GB/s, matmul 30 GF/s"
    assert Ceilings(3e12, 5e13, 4e14).describe().endswith("matmul 5e+04 GF/s (TF32 4e+05)")


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (Work(2e9, 1e9), Rates(4.0, 0.4, 2.0, 0.1, "memory")),
        (Work(2e9, 8e9), Rates(4.0, 0.4, 16.0, 0.8, "matmul")),
    ],
    ids=["memory", "matmul"],
)
def test_the_nearer_ceiling_is_the_limit(work, expected):
    assert rates(work, 0.5, Ceilings(copy=10e9, matmul=20e9)) == expected


def test_unknown_operations_have_no_rate():
    found = rates(Work(2e9), 0.5, Ceilings(10e9, 20e9))
    assert found.gb_s == 4
    assert math.isnan(found.gflop_s)
    assert found.limit == ""


def test_calls_are_counted():
    calls = []
    assert seconds_of(lambda: calls.append(1), 5, CPU) > 0
    assert len(calls) == 5
