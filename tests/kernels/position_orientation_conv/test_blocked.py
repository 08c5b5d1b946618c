"""The form in blocks: any size of block, and memory that does not grow with the edges."""

from functools import partial

import pytest
import torch

from benchmarks.memory import peak_bytes
from eqlib.kernels.position_orientation_conv import blocked, derivatives, naive
from tests.kernels.position_orientation_conv import memory
from tests.kernels.position_orientation_conv.cases import CASES, NAMES, Case, close, make

SIZES = (2**10, 2**13, 2**40)  # one edge at a time, a few, all
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@cases
def test_blocks_of_any_size_agree(case, rng, monkeypatch):
    arguments = make(case, rng)
    expected = naive.convolve(arguments)
    grad_y = torch.randn(expected.shape, dtype=expected.dtype, generator=rng)
    tensors = arguments[: len(NAMES)]
    seeds = [torch.randn(t.shape, dtype=t.dtype, generator=rng) for t in tensors]
    first = naive.differentiate(grad_y, arguments, [True] * 9)
    second = derivatives.differentiate_twice(seeds, grad_y, arguments, [True] * 10)
    for size in SIZES:
        monkeypatch.setattr(blocked, "BLOCK_BYTES", {"cpu": size})
        monkeypatch.setattr(derivatives, "BLOCK_BYTES", {"cpu": size})
        assert close(blocked.convolve(arguments), expected, 1e-12)
        found = blocked.differentiate(grad_y, arguments, [True] * 9)
        assert all(close(a, b, 1e-12) for a, b in zip(found, first, strict=True))
        found = derivatives.differentiate_twice(seeds, grad_y, arguments, [True] * 10)
        assert all(close(a, b, 1e-12) for a, b in zip(found, second, strict=True))


def peaks(module, kind, rng):
    """Peak memory of a problem, and of one with more edges and a wider basis."""
    found = []
    for edges, basis in ((200, 64), (400, 128)):
        case = Case(edges=edges, orientations=8, channels=64, hidden=16, basis=basis, pairs=True)
        arguments = make(case, rng, torch.float32)
        y = blocked.convolve(arguments)
        tensors = arguments.differentiable
        run = {
            "forward": partial(module.convolve, arguments),
            "backward": partial(module.differentiate, y, arguments, [True] * 9),
            "twice": partial(derivatives.differentiate_twice, tensors, y, arguments, [True] * 10),
        }[kind]
        run()
        found.append(peak_bytes(run, torch.device("cpu")))
    return found


@pytest.mark.unchecked
@pytest.mark.parametrize("kind", ["forward", "backward", "twice"])
def test_memory_is_that_of_a_block(kind, rng, monkeypatch):
    monkeypatch.setattr(blocked, "BLOCK_BYTES", {"cpu": 2**16})
    monkeypatch.setattr(derivatives, "BLOCK_BYTES", {"cpu": 2**16})
    small, large = peaks(blocked, kind, rng)
    assert large < 1.2 * small
    if kind != "twice":
        assert large < 0.6 * 400 * 8 * 64 * 4  # one value per message


@pytest.mark.unchecked
@pytest.mark.parametrize("kind", ["forward", "backward"])
def test_the_same_check_sees_what_holds_all_edges(kind, rng):
    small, large = peaks(naive, kind, rng)
    assert large > 2 * small
    assert large > 400 * 8 * 64 * 4


@pytest.mark.slow
@pytest.mark.unchecked
def test_memory_at_the_size_in_the_readme(rng):
    most = {"forward": 15, "backward": 22, "forces": 30}
    runs = memory.passes("blocked", memory.problem(rng))
    found = {kind: memory.mebibytes(run) for kind, run in runs.items()}
    assert all(found[kind] < most[kind] for kind in most), found
