"""What does not fit is refused, with the argument, what arrived and what was expected."""

from dataclasses import replace
from math import inf, nan

import pytest
import torch

from eqlib.kernels.position_orientation_conv import (
    implementations,
    pick,
    position_orientation_conv,
    position_orientation_conv_backward,
    whynot,
)
from tests.kernels.position_orientation_conv.cases import CASES, make

pytestmark = pytest.mark.unchecked
NAMES = ["naive", "auto"]
WRONG = {
    "attributes: expected one of": {"attributes": "angle"},
    "degree: expected 1 or more, got 0": {"degree": 0},
    "softening: expected a finite length above 0, got 0.0": {"softening": 0.0},
    "softening: expected a finite length above 0, got inf": {"softening": inf},
    "radius: expected a length above 0, or infinity, got 0.0": {"radius": 0.0},
    "radius: expected a length above 0, or infinity, got nan": {"radius": nan},
    r"x: expected 3 axes, got shape \(4, 5\)": {"x": torch.zeros(4, 5)},
    r"b1: expected 1 axes, got shape \(1, 6\)": {"b1": torch.zeros(1, 6)},
    r"offsets: expected shape \(23, 3\), got \(22, 3\)": {"offsets": torch.zeros(22, 3)},
    r"offsets: expected shape \(23, 3\), got \(23, 2\)": {"offsets": torch.zeros(23, 2)},
    r"axes: expected shape \(1, 4, 1, 3\)": {"axes": torch.zeros(1, 3, 1, 3)},
    "axes: attributes 'perpendicular' need 1 per orientation, got 2": {
        "axes": torch.zeros(1, 4, 2, 3)
    },
    r"scalars: expected shape \(23, 2\), got \(3, 2\)": {"scalars": torch.zeros(3, 2)},
    r"w1: expected shape \(6, 11\), got \(6, 10\)": {"w1": torch.zeros(6, 10)},
    r"w2: expected shape \(7, 6\)": {"w2": torch.zeros(7, 5)},
    r"w3: expected shape \(5, 7\)": {"w3": torch.zeros(4, 7)},
    "b1, b2: expected one unit or more, got 0 and 7": {
        "w1": torch.zeros(0, 11),
        "b1": torch.zeros(0),
        "w2": torch.zeros(7, 0),
    },
    r"target: expected shape \(23,\)": {"target": torch.zeros(5, dtype=torch.int64)},
    r"by_source: expected shape \(23,\)": {"by_source": torch.zeros(5, dtype=torch.int64)},
    r"frame: expected shape \(23,\)": {"frame": torch.zeros(5, dtype=torch.int64)},
    r"opposite: expected shape \(4,\)": {"opposite": torch.arange(3)},
    "starts: expected one entry more": {"starts": torch.zeros(0, dtype=torch.int64)},
    "opposite: edges of both directions need as many targets": {
        "starts": torch.cat([torch.zeros(8, dtype=torch.int64), torch.tensor([23])])
    },
    r"source_starts: expected shape \(8,\)": {"source_starts": torch.zeros(3, dtype=torch.int64)},
    "axes: expected one frame or more, got none": {"axes": torch.zeros(0, 4, 1, 3)},
    "source: expected 0 <= source < 7, got 7 to 7": {"source": torch.full((23,), 7)},
    "source: expected 0 <= source < 7, got -1 to -1": {"source": torch.full((23,), -1)},
    "frame: expected 0 <= frame < 1, got 1": {"frame": torch.ones(23, dtype=torch.int64)},
    "opposite: expected 0 <= opposite < 4, got 1 to 4": {"opposite": torch.arange(1, 5)},
    r"opposite: expected the index .* got \[1, 2, 3, 0\]": {"opposite": torch.arange(4).roll(-1)},
    "by_source: expected 0 <= by_source < 23": {"by_source": torch.full((23,), 23)},
    "by_source: expected the edges sorted stably": {"by_source": torch.zeros(23).long()},
}


@pytest.mark.parametrize("implementation", NAMES)
@pytest.mark.parametrize(("message", "change"), WRONG.items(), ids=range(len(WRONG)))
def test_what_does_not_fit_is_refused(message, change, implementation, rng):
    arguments = make(CASES["R3xS2 pairs"], rng, torch.float32)
    if message.startswith("by_source: expected the edges"):
        arguments = arguments._replace(
            source=torch.zeros(23).long(),
            source_starts=torch.tensor([0, *[23] * 7]),
        )
    with pytest.raises(ValueError, match=message):
        position_orientation_conv(*arguments._replace(**change), implementation)
    grad_y = torch.zeros(7, 4, 5)
    with pytest.raises(ValueError, match=message):
        position_orientation_conv_backward(
            grad_y, *arguments._replace(**change), implementation, [True] * 9
        )


@pytest.mark.parametrize("implementation", NAMES)
def test_unsorted_edges_are_refused(implementation, rng):
    arguments = make(CASES["R3xS2"], rng)
    wrong = {
        "target, starts: expected target to ascend": [
            {"target": arguments.target.flip(0)},
            {"starts": arguments.starts.flip(0)},
            {"starts": arguments.starts + 1},
            {"starts": arguments.starts[:4]},
            {"target": arguments.target + 1},
        ],
        r"source\[by_source\], source_starts: expected": [
            {"by_source": arguments.by_source.flip(0)},
            {"source_starts": arguments.source_starts.flip(0)},
        ],
    }
    for message, changes in wrong.items():
        for change in changes:
            with pytest.raises(ValueError, match=message):
                position_orientation_conv(*arguments._replace(**change), implementation)


def test_other_dtypes_are_refused(rng):
    arguments = make(CASES["R3xS2"], rng)
    expected = "expected float64, float32, bfloat16 or float16, got torch.int64"
    with pytest.raises(TypeError, match=f"x: {expected}"):
        position_orientation_conv(*arguments._replace(x=arguments.x.long()), "naive")
    with pytest.raises(TypeError, match=r"source: expected int64, got torch\.int32"):
        position_orientation_conv(*arguments._replace(source=arguments.source.int()), "naive")


def test_a_gradient_of_another_shape_is_refused(rng):
    arguments = make(CASES["R3xS2"], rng)
    with pytest.raises(ValueError, match=r"grad_y: expected the shape of the result, \(7, 4, 5\)"):
        position_orientation_conv_backward(torch.zeros(7, 4, 4), *arguments, "naive", [True] * 9)


def test_unknown_implementations_are_refused(rng):
    arguments = make(replace(CASES["R3xS2"], edges=1), rng)
    with pytest.raises(ValueError, match="implementation is 'fastest'; expected 'auto' or one of"):
        position_orientation_conv(*arguments, "fastest")


def test_auto_takes_blocks_where_nothing_faster_runs(rng, monkeypatch):
    arguments = make(CASES["R3xS2"], rng)
    monkeypatch.setattr(
        implementations,
        "whynot",
        lambda name, arguments: "no C compiler was found" if name == "compiled" else "",
    )
    expected = ("blocked", "compiled cannot run: no C compiler was found")
    assert pick(arguments.x.device, arguments.x.dtype) == expected
    found = position_orientation_conv(*arguments, "blocked")
    assert torch.equal(position_orientation_conv(*arguments, "auto"), found)
    with pytest.raises(ValueError, match="'compiled' cannot run: no C compiler was found"):
        position_orientation_conv(*arguments, "compiled")


def test_reasons_are_told(rng):
    arguments = make(CASES["R3xS2"], rng)
    assert whynot("naive", arguments) == whynot("blocked", arguments) == ""
    elsewhere = arguments._replace(x=arguments.x.to("meta"))
    assert whynot("compiled", elsewhere) == "it runs on the CPU, not on meta"
    for dtype in (torch.float64, torch.bfloat16):
        expected = ("blocked", "operations of torch run on every device")
        assert pick(torch.device("meta"), dtype) == expected
