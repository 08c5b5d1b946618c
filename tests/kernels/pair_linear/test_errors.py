"""What does not fit is refused, with the argument, what arrived and what was expected."""

import gc

import pytest
import torch

from eqlib.kernels.pair_linear import (
    checks,
    implementations,
    pair_linear,
    pair_reduce,
    pair_weight_gradient,
    pick,
    whynot,
)
from tests.kernels.pair_linear.cases import CASES, Case, make

pytestmark = pytest.mark.unchecked
NAMES = ["naive", "auto"]
CASE = Case((2, 3), 4, rooted=True)
"""Two subgraphs, 5 members and 13 pairs."""


def longs(*values):
    return torch.tensor(values, dtype=torch.int64)


WRONG_OPERANDS = {
    r"x: expected 2 axes, got shape \(5,\)": {"x": torch.zeros(5)},
    r"weight: expected 3 axes, got shape \(5, 6\)": {"weight": torch.zeros(5, 6)},
    r"weight: expected shape \(2, 5, 6\), got \(2, 4, 6\)": {"weight": torch.zeros(2, 4, 6)},
    r"weight: expected shape \(2, 5, 6\), got \(3, 5, 6\)": {"weight": torch.zeros(3, 5, 6)},
    r"spread: expected shape \(5, 30\), got \(5, 18\)": {"spread": torch.zeros(5, 18)},
    r"spread: expected shape \(5, 30\), got \(4, 30\)": {"spread": torch.zeros(4, 30)},
    r"scale: expected shape \(\d+,\), got \(3,\)": {"scale": torch.zeros(3)},
}
WRONG_INDICES = {
    r"transpose: expected shape \(\d+,\), got \(2,\)": {"transpose": longs(0, 1)},
    "transpose: expected the row of": {"transpose": lambda p: p.transpose.roll(1)},
    "transpose: expected 0 <= transpose < ": {"transpose": lambda p: p.transpose + 1},
    "starts: expected one entry more": {"starts": longs()},
    r"pair_starts: expected shape \(3,\)": {"pair_starts": longs(0, 13)},
    r"column: expected shape \(13,\)": {"column": longs(0)},
    r"root: expected shape \(2,\)": {"root": longs(0)},
    r"slot: expected shape \(13,\)": {"slot": longs(0)},
    r"slot_order: expected shape \(13,\)": {"slot_order": longs(0)},
    r"slot_starts: expected shape": {"slot_starts": longs(0, 13)},
    "slot_order: expected slot, slot_order and slot_starts together": {"slot_order": None},
    "x: expected one row for each of 13 pairs": {
        "slot": None,
        "slot_order": None,
        "slot_starts": None,
    },
    r"starts: expected to ascend from 0 to the number of members, 5, got \[0, 3, 4\]": {
        "starts": longs(0, 3, 4)
    },
    "starts: expected to ascend from 0 to the number of members, 5": {"starts": longs(1, 2, 5)},
    "pair_starts: expected to ascend from 0 to the number of pairs, 13": {
        "pair_starts": longs(0, 14, 13)
    },
    r"pair_starts: .* m \* m pairs, got \[5, 8\] pairs for \[2, 3\] members": {
        "pair_starts": longs(0, 5, 13)
    },
    "subgraph: expected the members to be sorted": {"subgraph": longs(0, 1, 0, 1, 1)},
    "row: expected the pairs to be sorted": {"row": lambda p: p.row.flip(0)},
    "column: expected, for each row, the members": {"column": lambda p: p.column.roll(1)},
    "root: expected a member of each subgraph.* that of subgraph 1 is 1": {"root": longs(0, 1)},
    "slot: expected 0 <= slot": {"slot": lambda p: p.slot + 100},
    "slot: expected 0 <= slot < .*, got -": {"slot": lambda p: p.slot - 100},
    "slot: expected the slot of the pair": {
        "slot": lambda p: p.slot.roll(1),
        "slot_order": lambda p: p.slot.roll(1).argsort(stable=True),
    },
    "slot_order: expected 0 <= slot_order < 13": {"slot_order": lambda p: p.slot_order + 1},
    "slot_order, slot_starts: expected the pairs sorted": {
        "slot_order": lambda p: p.slot_order.flip(0)
    },
    "slot_order, slot_starts: expected the pairs": {
        "slot_starts": lambda p: torch.cat([longs(*[0] * len(p.transpose)), longs(13)])
    },
    "slot_starts: expected to ascend": {"slot_starts": lambda p: p.slot_starts - 1},
}


def problem_with(change, rng):
    """The operands with some replaced, by name."""
    problem = make(CASE, rng, torch.float32)
    change = {k: v(problem.pairs) if callable(v) else v for k, v in change.items()}
    operands = {k: v for k, v in change.items() if k in problem._fields}
    indices = {k: v for k, v in change.items() if k in problem.pairs._fields}
    return problem._replace(pairs=problem.pairs._replace(**indices), **operands)


@pytest.mark.parametrize("implementation", NAMES)
@pytest.mark.parametrize(
    ("message", "change"), WRONG_OPERANDS.items(), ids=range(len(WRONG_OPERANDS))
)
def test_operands_that_do_not_fit_are_refused(message, change, implementation, rng):
    with pytest.raises(ValueError, match=message):
        pair_linear(*problem_with(change, rng).linear(), implementation)


@pytest.mark.parametrize("implementation", NAMES)
@pytest.mark.parametrize(
    ("message", "change"), WRONG_INDICES.items(), ids=range(len(WRONG_INDICES))
)
def test_indices_that_do_not_fit_are_refused(message, change, implementation, rng):
    problem = problem_with(change, rng)
    with pytest.raises(ValueError, match=message):
        pair_linear(*problem.linear(), implementation)
    with pytest.raises(ValueError, match=message):
        pair_reduce(*problem.reduction(), implementation)


def test_slots_in_another_order_are_refused(rng):
    problem = make(Case((3, 3), 3), rng)  # every slot has two pairs
    order = problem.pairs.slot_order.view(-1, 2).flip(1).flatten()
    with pytest.raises(ValueError, match="slot_order: expected the pairs sorted stably by slot"):
        pair_reduce(problem.x, None, *problem.pairs._replace(slot_order=order), "auto")


def test_other_dtypes_are_refused(rng):
    problem = make(CASE, rng, torch.float32)
    real = "expected float64, float32, bfloat16 or float16, got torch.int64"
    for name in ("x", "weight", "spread", "scale"):
        wrong = problem._replace(**{name: getattr(problem, name).long()})
        with pytest.raises(TypeError, match=f"{name}: {real}"):
            pair_linear(*wrong.linear(), "auto")
    for name, index in problem.pairs._asdict().items():
        wrong = problem._replace(pairs=problem.pairs._replace(**{name: index.int()}))
        with pytest.raises(TypeError, match=rf"{name}: expected int64, got torch\.int32"):
            pair_reduce(*wrong.reduction(), "auto")


def test_other_devices_are_refused(rng):
    problem = make(CASE, rng, torch.float32)
    with pytest.raises(ValueError, match="spread is on meta and x on cpu; move them to one device"):
        # torch itself would take operands on both for fake ones
        checks.check_tensor("spread", problem.spread.to("meta"), problem.x, 2, real=True)


def test_a_gradient_of_another_shape_is_refused(rng):
    x, transpose = torch.zeros(2, 3), longs(1, 0)
    with pytest.raises(ValueError, match=r"grad: expected shape \(2, 4\), got \(3, 4\)"):
        pair_weight_gradient(x, torch.zeros(3, 4), transpose, "auto")
    with pytest.raises(ValueError, match="transpose: expected the row of"):
        pair_weight_gradient(torch.zeros(3, 3), torch.zeros(3, 4), longs(1, 2, 0), "auto")


def test_indices_are_looked_at_again_after_a_change(rng, monkeypatch):
    problem = make(CASE, rng)
    calls = []
    check = checks._check_indices

    def counted(*tensors):
        calls.append(1)
        check(*tensors)

    counted.__name__ = "counted"
    monkeypatch.setattr(checks, "_check_indices", counted)
    for _ in range(3):
        pair_linear(*problem.linear(), "auto")
        pair_reduce(*problem.reduction(), "auto")
    assert len(calls) == 1
    problem.pairs.slot[0] += 100
    with pytest.raises(ValueError, match="slot: expected 0 <= slot"):
        pair_reduce(*problem.reduction(), "auto")
    problem.pairs.slot[0] -= 100
    pair_reduce(*problem.reduction(), "auto")
    assert len(calls) == 3
    copies = [index.clone() for index in problem.pairs]
    pair_reduce(problem.x, None, *copies, "auto")
    assert len(calls) == 4


def test_what_was_looked_at_is_not_kept_alive(rng):
    problem = make(CASE, rng)
    pair_reduce(*problem.reduction(), "auto")
    kept = [mark.tensor for marks, _ in checks._PASSED.values() for mark in marks]
    assert any(passed() is problem.pairs.slot for passed in kept)
    del problem
    gc.collect()
    assert all(passed() is None for passed in kept[-10:])
    for _ in range(2 * checks._REMEMBERED):
        pair_reduce(*make(CASE, rng).reduction(), "auto")
    assert len(checks._PASSED) <= checks._REMEMBERED


def test_inference_mode(rng):
    with torch.inference_mode():
        problem = make(CASE, rng)
        y = pair_linear(*problem.linear(), "auto")
        problem.pairs.slot[0] += 100
        with pytest.raises(ValueError, match="slot: expected 0 <= slot"):
            pair_linear(*problem.linear(), "auto")
    assert y.isfinite().all()


def test_unknown_implementations_are_refused(rng):
    problem = make(CASE, rng)
    with pytest.raises(ValueError, match="implementation is 'fastest'; expected 'auto' or one of"):
        pair_linear(*problem.linear(), "fastest")


def test_auto_takes_blocks_where_nothing_faster_runs(rng, monkeypatch):
    problem = make(CASES["ragged, shared"], rng)
    for function in (implementations.pick, implementations.load):
        function.cache_clear()
    monkeypatch.setattr(
        implementations,
        "whynot",
        lambda name, device, dtype: "no C compiler was found" if name == "compiled" else "",
    )
    try:
        expected = ("blocked", "compiled cannot run: no C compiler was found")
        assert pick(problem.x.device, problem.x.dtype) == expected
        found = pair_linear(*problem.linear(), "blocked")
        assert torch.equal(pair_linear(*problem.linear(), "auto"), found)
        with pytest.raises(ValueError, match="'compiled' cannot run: no C compiler was found"):
            pair_linear(*problem.linear(), "compiled")
    finally:
        monkeypatch.undo()
        for function in (implementations.pick, implementations.load):
            function.cache_clear()


def test_reasons_are_told():
    cuda, meta = torch.device("cuda"), torch.device("meta")
    for name in ("naive", "blocked"):
        assert whynot(name, cuda, torch.float32) == ""
    assert whynot("compiled", cuda, torch.float32) == "it runs on the CPU, not on cuda"
    expected = ("blocked", "operations of torch run on every device")
    assert pick(meta, torch.float32) == expected
