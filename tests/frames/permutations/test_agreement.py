"""How often relabelled graphs get the same decision."""

import pytest
import torch
from torch import Tensor

from eqlib.frames import FrameAverage, relabelling_agreement
from tests.frames.permutations.backbones import RAGGED, Numbered, ragged_inputs


def test_relabelling_agreement_tells_invariant_maps(rng):
    inputs = ragged_inputs()
    layer = FrameAverage(Numbered(), signature=RAGGED).double()

    def scores(**graph) -> Tensor:
        return layer(**graph)["graph"]

    def bare(**graph) -> Tensor:
        return layer.backbone(**graph)["graph"]

    agreement = relabelling_agreement(scores, inputs, generator=rng)
    assert agreement.share.tolist() == [1.0] * 5
    assert agreement.deviation.max() < 1e-12
    control = relabelling_agreement(bare, inputs, generator=rng)
    assert control.deviation.max() > 1e-2
    assert control.deviation[1] == 0  # the graph without nodes


def test_relabelling_agreement_counts_decisions():
    inputs = {
        "edge_index": torch.tensor([[0], [1]]),
        "batch": torch.tensor([0, 0, 1, 1]),
        "x": torch.tensor([1.0, -1.0, 1.0, 1.0]),
    }
    agreement = relabelling_agreement(lambda x, edge_index, batch: x[[0, 2]], inputs, 200)
    assert 0.5 <= agreement.share[0] < 0.6  # an even coin; ties go to the smaller decision
    assert agreement.share[1] == 1
    assert agreement.decision[1] == 1
    assert agreement.deviation[0] > 0.9


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"batch": None}, "expected edge_index and batch"),
        ({"x": torch.ones(2), "edge_index": torch.zeros(2, 2).long()}, "look the same"),
        ({"fn": lambda **graph: torch.zeros(1, 2, 3)}, "fn: expected a tensor"),
        ({"fn": lambda **graph: None}, "fn: expected a tensor"),
        ({"relabellings": 0}, "at least one"),
    ],
    ids=["batch", "ambiguous", "shape", "nothing", "none"],
)
def test_bad_agreement(change, match):
    inputs = {"edge_index": torch.zeros(2, 1).long(), "batch": torch.zeros(2).long(), **change}
    fn = inputs.pop("fn", lambda **graph: torch.zeros(1, 2))
    relabellings = inputs.pop("relabellings", 2)
    inputs = {name: value for name, value in inputs.items() if value is not None}
    with pytest.raises(ValueError, match=match):
        relabelling_agreement(fn, inputs, relabellings)
