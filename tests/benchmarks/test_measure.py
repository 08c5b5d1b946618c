import math
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from benchmarks import measure
from benchmarks.answers import Question, make_inputs, make_run
from benchmarks.measure import DisagreementError, compare
from benchmarks.registry import Foreign, MadeFor, OnlyFor, Problem, Work, if_installed
from benchmarks.roofline import Ceilings
from tests.benchmarks.toys import (
    CPU,
    PASSES,
    cube,
    declining,
    failing,
    nan,
    problem,
    product,
    toy,
    wrong_gradient,
    wrong_second_gradient,
    wrong_shape,
    wrong_value,
)

CEILINGS = Ceilings(copy=1e9, matmul=1e9)


def rows_of(benchmark, **options):
    rows = compare(benchmark, "small", CPU, **{"repeats": 2, **options})
    return {(row.stage, row.name): row for row in rows}


def test_every_contender_has_a_row_in_every_pass():
    rows = rows_of(toy())
    names = ("cube", "product", "other", "absent")
    assert list(rows) == [(stage, name) for stage in PASSES for name in names]
    assert rows["forward", "absent"].note == "not installed"
    assert rows["forward", "cube"].kind == "eqlib"
    assert rows["forward", "other"].kind == "peer"
    timed = [row for row in rows.values() if row.name != "absent"]
    assert all(0 < row.p20_ms <= row.p50_ms <= row.p80_ms for row in timed)
    assert all(row.samples == 2 for row in timed)
    assert all(row.ratio == 1 for row in timed if row.name == "cube")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (wrong_value, "output of bad, forward "),
        (nan, "output of bad, forward "),
        (wrong_shape, "output of bad, forward "),
        (wrong_gradient, r"gradient 1 of bad, forward\+backward "),
        (wrong_second_gradient, "gradient 2 of bad, double backward "),
    ],
    ids=["value", "nan", "shape", "gradient", "second gradient"],
)
@pytest.mark.parametrize("role", ["implementations", "peers"])
def test_disagreement_is_detected(role, wrong, message):
    ours = {"cube": cube}
    changes = {"peers": {}, "implementations": ours}
    changes[role] = {**changes[role], "bad": wrong}
    with pytest.raises(DisagreementError, match=message):
        compare(toy(**changes), "small", CPU, repeats=1)


def test_integer_outputs_are_compared_exactly_in_canonical_order():
    def sort(x, power):
        return x.argsort()

    def reverse(x, power):
        return x.argsort(descending=True)

    changes = {"implementations": {"sort": sort}, "peers": {"reverse": reverse}}
    changes |= {"passes": ("forward",), "differentiate": ()}
    with pytest.raises(DisagreementError, match="output of reverse"):
        rows_of(toy(**changes))
    rows = rows_of(toy(**changes, canonical=lambda order: order.sort().values))
    assert rows["forward", "reverse"].note == ""


def test_networks_need_not_agree_and_are_built_without_touching_the_seed():
    def systems(generator):
        return {"input": torch.randn(4, 3, generator=generator)}

    class Narrow(nn.Linear):
        def __init__(self):
            super().__init__(3, 1)

    class Wide(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 1))

    changes = {"problems": {"small": systems}, "differentiate": (), "passes": PASSES[:2]}
    networks = toy(**changes, implementations={"narrow": Narrow, "wide": Wide}, peers={})
    with pytest.raises(DisagreementError):
        rows_of(networks)
    before = torch.random.get_rng_state()
    changes |= {"implementations": {"narrow": Narrow, "wide": Wide}, "peers": {}, "agree": False}
    assert all(row.note == "" for row in rows_of(toy(**changes)).values())
    assert torch.equal(torch.random.get_rng_state(), before)


def reversed_cube(x, power):
    """Work in a layout of its own: entries from last to first, each with a factor."""
    return x**power * torch.arange(len(x), 0, -1)


def ordered_cube(x, power):
    return x**power * torch.arange(1, len(x) + 1)


def flip(x):
    return x.flip(0)


def test_foreign_layouts_are_converted_for_the_comparison_and_not_for_the_timing():
    conversions = []

    def to_native(x):
        conversions.append("to")
        return flip(x)

    changes = {"implementations": {"cube": ordered_cube}}
    peer = Foreign(reversed_cube, to_native, flip)
    rows = rows_of(toy(**changes, peers={"reversed": peer}), repeats=50)
    assert all(row.note == "" and row.samples == 50 for row in rows.values())
    # per pass: the argument; and for random numbers like the output, and like the argument
    assert len(conversions) == 1 + 2 + 3
    with pytest.raises(DisagreementError, match="output of reversed"):
        rows_of(toy(**changes, peers={"reversed": reversed_cube}))


def test_control_gradients_in_a_foreign_layout_are_checked():
    def wrong(x, power):
        return reversed_cube(x, power) + 0.1 * (x - x.detach())

    changes = {"implementations": {"cube": ordered_cube}}
    with pytest.raises(DisagreementError, match=r"gradient 1 of wrong, forward\+backward"):
        rows_of(toy(**changes, peers={"wrong": Foreign(wrong, flip, flip)}))


def test_what_computes_something_else_is_labelled_and_checked_against_its_own_reference():
    def square(x, power):
        return x * x

    def equals(x, power):
        return x.square()

    peer = Foreign(square, computes="the square", equals=equals)
    work = {"work": lambda inputs, stage, name: Work(1.0, 1.0)}
    rows = rows_of(toy(peers={"square": peer}, **work), ceilings=CEILINGS)
    row = rows["forward+backward", "square"]
    assert row.computes == "the square"
    assert row.p50_ms > 0
    assert math.isnan(row.gb_s)  # the work stated is that of the others
    assert rows["forward", "cube"].computes == ""
    with pytest.raises(DisagreementError, match="output of square"):
        rows_of(toy(peers={"square": replace(peer, equals=cube)}))
    with pytest.raises(ValueError, match="name what an operation computes"):
        Foreign(square, computes="the square")
    with pytest.raises(ValueError, match="name what an operation computes"):
        Foreign(square, equals=equals)


def test_less_accuracy_is_labelled_and_has_a_limit():
    def rounded(x, power):
        return x.bfloat16().float() ** power

    peer = Foreign(rounded, computes="in bfloat16", tolerance=0.05)
    rows = rows_of(toy(peers={"rounded": peer}))
    assert rows["forward", "rounded"].computes == "in bfloat16"
    assert rows["forward", "rounded"].note == ""
    with pytest.raises(DisagreementError, match="expected at most 1e-05"):
        rows_of(toy(peers={"rounded": rounded}))
    with pytest.raises(DisagreementError, match="expected at most 1e-04"):
        rows_of(toy(peers={"rounded": replace(peer, tolerance=1e-4)}))


def test_a_problem_may_have_fewer_passes():
    problems = {"small": Problem(partial(problem, 5), passes=PASSES[:2])}
    rows = rows_of(toy(problems=problems))
    assert {stage for stage, _ in rows} == set(PASSES[:2])


def test_slow_contenders_are_sampled_in_fewer_rounds_but_in_three(monkeypatch):
    clock = {"cube": 0.05, "product": 1.0, "other": 1e-3}
    order = []

    def seconds_of(run, calls, device, reader):
        name = run()[0]
        order.append(name)
        return clock[name]

    monkeypatch.setattr(measure, "seconds_of", seconds_of)
    runs = {name: lambda name=name: (name,) for name in clock}
    samples = measure._sample(runs, CPU, repeats=20, seconds=0.5, clock=time.perf_counter)
    assert {name: len(found) for name, found in samples.items()} == {
        "cube": 10,
        "product": 3,
        "other": 20,
    }
    warm_up = [order[: order.index(name)].count(name) for name in ("cube",)]
    assert warm_up == [0]
    assert order[:7] == [*["cube"] * 3, "product", *["other"] * 3]
    assert [turn for turn, _ in samples["product"]] == [6, 13, 19]


def test_ratios_are_taken_to_the_nearest_round():
    reference = [(0, 1.0), (10, 2.0)]
    assert measure._ratio([(1, 3.0)], reference) == 3
    assert measure._ratio([(9, 3.0)], reference) == 1.5
    assert measure._ratio([(19, 3.0)], reference) == 1.5


def test_rates_are_those_of_the_stated_work():
    def work(inputs, stage, name):
        assert inputs["x"].shape == (5,)
        return Work(bytes=4e6, flops=None if name == "other" else 1e6)

    rows = rows_of(toy(work=work), ceilings=CEILINGS)
    row = rows["forward", "cube"]
    seconds = row.p50_ms / 1e3
    assert row.gb_s == pytest.approx(4e6 / seconds / 1e9)
    assert row.of_copy == pytest.approx(row.gb_s)
    assert row.of_matmul == pytest.approx(1e6 / seconds / 1e9)
    assert row.limit == "memory"
    assert math.isnan(rows["forward", "other"].gflop_s)
    assert math.isnan(rows_of(toy(work=work))["forward", "cube"].gb_s)


def test_peers_that_fail_are_noted():
    peers = {"failing": failing, "elsewhere": OnlyFor(frozenset({"empty"}), product)}
    rows = rows_of(toy(peers=peers))
    assert rows["forward", "failing"].note == "forward: out of order"
    assert rows["forward", "elsewhere"].note == "does not apply to this problem"


@pytest.mark.parametrize("when", ["made", "called"])
def test_peers_may_fail_in_any_way(when):
    def make(inputs):
        if when == "made":
            raise AssertionError("not this size")
        return call

    def call(x, power):
        raise AssertionError("not this size")

    note = rows_of(toy(peers={"odd": MadeFor(make)}))["forward", "odd"].note
    assert note.endswith("AssertionError: not this size")
    with pytest.raises(AssertionError, match="not this size"):
        rows_of(toy(implementations={"cube": cube, "odd": MadeFor(make)}))


def test_implementations_may_decline_but_not_fail():
    rows = rows_of(toy(implementations={"cube": cube, "second": declining}))
    assert rows["forward", "second"].note == "forward: small problems only"
    with pytest.raises(RuntimeError, match="out of order"):
        rows_of(toy(implementations={"cube": cube, "second": failing}))
    with pytest.raises(NotImplementedError, match="small problems"):
        rows_of(toy(implementations={"cube": declining}))


def test_missing_packages_are_named():
    assert if_installed("torch", cube) is cube
    assert if_installed("no_such_package", cube) == "no_such_package is not installed"


def test_random_directions_differ_from_each_other_and_not_between_contenders():
    def inputs(generator):
        return {"x": torch.ones(4), "y": torch.ones(4)}

    def product(x, y):
        return x * y

    question = Question(
        toy(problems={"one": inputs}, differentiate=("x", "y")),
        "double backward",
        make_inputs(toy(problems={"one": inputs}, differentiate=("x", "y")), "one", CPU),
    )
    first, second = (make_run(question, product)() for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    _, gx, _, ggx, ggy, _ = first
    assert not torch.equal(ggx, ggy)  # those of the seeds of y and of x
    assert not torch.equal(gx * gx, ggy)  # those of the cotangent and of the seeds


def test_out_of_memory_is_noted_for_all_but_the_reference():
    def large(x, power):
        raise torch.OutOfMemoryError("CUDA out of memory")

    rows = rows_of(toy(implementations={"cube": cube, "large": large}))
    assert rows["forward", "large"].note == "forward: CUDA out of memory"
    with pytest.raises(torch.OutOfMemoryError):
        rows_of(toy(implementations={"cube": large}))


@pytest.mark.gpu
@pytest.mark.parametrize("on_device", [True, False], ids=["made there", "moved there"])
def test_comparison_on_a_gpu(on_device):
    def inputs(generator):
        device = generator.device
        assert device.type == ("cuda" if on_device else "cpu")
        return {"x": torch.randn(2**18, generator=generator, device=device), "power": 3}

    benchmark = toy(problems={"small": Problem(inputs, on_device=on_device)})
    rows = compare(benchmark, "small", torch.device("cuda"), repeats=2)
    timed = [row for row in rows if not row.note]
    assert len(timed) == 9
    assert all(row.p50_ms > 0 and row.peak_mib >= 1 for row in timed)
