"""Blocks of any size give the same, and pairs that share slots have no features in memory."""

import pytest
import torch

from eqlib.kernels.pair_linear import blocked
from eqlib.kernels.pair_linear.arguments import Linear, Reduction, WeightGradient
from eqlib.kernels.problems import MANY_SUBGRAPHS
from tests.kernels.pair_linear import memory
from tests.kernels.pair_linear.cases import CASES, TOLERANCE, Case, close, make
from tests.kernels.pair_linear.oracle import by_dense_sums, by_loop, by_products

FEW = ["ragged, rooted, shared", "ragged, rooted", "small, shared", "copies of a graph", "wide"]
SIZES = [1, 100, 1000, 10_000]
"""Bytes of a block: one row, and more."""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FEW)
def test_blocks_of_any_size(name, size, rng, monkeypatch):
    monkeypatch.setattr(blocked, "BLOCK_BYTES", {"cpu": size})
    problem = make(CASES[name], rng)
    tolerance = TOLERANCE[torch.float64]
    y = blocked.linear(Linear(*problem[:5]))
    assert close(y, by_loop(problem), tolerance)
    sums = blocked.reduce(Reduction(problem.x, problem.scale, problem.pairs))
    assert close(sums, by_dense_sums(problem), tolerance)
    by_weight = blocked.weight_gradient(WeightGradient(problem.x, y, problem.pairs.transpose))
    assert close(by_weight, by_products(problem.x, y, problem.pairs.transpose), tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", FEW)
def test_on_a_gpu(name, dtype, rng):
    problem = make(CASES[name], rng, dtype, "cuda")
    runs = [memory.passes("blocked", problem) for _ in range(2)]
    first, second = ({kind: run() for kind, run in passes.items()} for passes in runs)
    assert all(torch.equal(first[kind], second[kind]) for kind in first)
    on_cpu = make(CASES[name], torch.Generator().manual_seed(rng.initial_seed()), dtype)
    assert close(first["linear"].cpu(), by_loop(on_cpu), TOLERANCE[dtype])
    assert close(first["reduce"].cpu(), by_dense_sums(on_cpu), TOLERANCE[dtype])


CROWDED = Case((20,) * 30, 20, channels=64, outputs=64, rooted=True)
"""12,000 pairs share 400 slots."""


@pytest.mark.unchecked
@pytest.mark.parametrize("kind", ["reduce", "linear", "weight_gradient"])
def test_pairs_have_no_features_in_memory(kind, rng, monkeypatch):
    monkeypatch.setattr(blocked, "BLOCK_BYTES", {"cpu": 2**16})
    problem = make(CROWDED, rng, torch.float32)
    features = len(problem.pairs.row) * 64 * 4
    run = memory.passes("blocked", problem)[kind]
    assert memory.mebibytes(run) * 2**20 < features / 2
    if kind != "weight_gradient":  # the same check sees what does
        run = memory.passes("naive", problem)[kind]
        assert memory.mebibytes(run) * 2**20 > features


@pytest.mark.slow
@pytest.mark.unchecked
@pytest.mark.parametrize("size", list(MANY_SUBGRAPHS))
def test_memory_at_the_sizes_in_the_readme(size, rng):
    problem = memory.problem(size, rng)
    y = problem.x.nbytes / 2**20
    sums = 3 * len(problem.pairs.subgraph) * memory.CHANNELS * 4 / 2**20
    most = {"reduce": 2 * sums + 4, "linear": y + 5, "weight_gradient": 2}
    runs = memory.passes("blocked", problem)
    found = {kind: memory.mebibytes(run) for kind, run in runs.items()}
    assert all(found[kind] < most[kind] for kind in most), found
