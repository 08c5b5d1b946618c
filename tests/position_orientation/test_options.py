"""Options in groups: what they refuse as soon as they are made."""

import pytest
import torch

from eqlib.position_orientation import EdgeOptions, KernelOptions, TurnOptions

BAD = {
    "search": (EdgeOptions, {"search": "near"}, ValueError, "search is 'near'; expected one of"),
    "knn": (EdgeOptions, {"search": "knn"}, ValueError, 'k is None; search="knn" expects'),
    "radius": (EdgeOptions, {"radius": "2"}, TypeError, "radius is '2'; expected a number"),
    "tensor": (EdgeOptions, {"radius": torch.ones(())}, TypeError, "radius is tensor"),
    "length": (EdgeOptions, {"length": None}, TypeError, "length is None; expected a number"),
    "reach": (EdgeOptions, {"reach": -1.0}, ValueError, "reach is -1.0; expected a positive"),
    "implementation": (
        KernelOptions,
        {"implementation": "fast"},
        ValueError,
        "implementation is 'fast'; expected one of auto, naive, blocked, compiled, triton",
    ),
    "hidden": (KernelOptions, {"hidden": 0}, ValueError, "hidden is 0; expected at least 1"),
    "basis": (KernelOptions, {"basis": 2.5}, TypeError, "basis is 2.5; expected an integer"),
    "gaussians": (KernelOptions, {"gaussians": 1}, ValueError, "gaussians is 1; expected 0"),
    "softening": (KernelOptions, {"softening": True}, TypeError, "softening is True"),
    "vectors alone": (TurnOptions, {"moment": "vectors"}, ValueError, "moment: expected 'points'"),
    "twice": (TurnOptions, {"moment": "points+points"}, ValueError, "moment: expected 'points'"),
    "no moment": (TurnOptions, {"moment": None}, ValueError, "moment: .* got None"),
    "signs": (TurnOptions, {"signs": "some"}, ValueError, "signs: expected auto, one, full"),
    "threshold": (TurnOptions, {"threshold": 1.5}, ValueError, "threshold: expected a gap"),
    "text": (TurnOptions, {"threshold": "low"}, TypeError, "threshold is 'low'; expected a number"),
    "blend": (TurnOptions, {"blend": True}, ValueError, "blend: needs a threshold"),
    "generator": (TurnOptions, {"generator": 3}, TypeError, "generator is of type int"),
}


@pytest.mark.unchecked
@pytest.mark.parametrize("case", list(BAD))
def test_bad_options_are_refused(case):
    options, changes, error, message = BAD[case]
    with pytest.raises(error, match=message):
        options(**changes)
    # control: it is the change that is refused
    assert isinstance(options(), options)
