"""What is said of implementations that there are not, or that cannot run."""

import pytest
import torch

from eqlib.kernels import choice
from eqlib.kernels.choice import require_implementation, whynot_triton

REASONS = {"naive": "", "compiled": "no C compiler was found"}


def test_implementations_that_can_run_pass():
    require_implementation("naive", tuple(REASONS), REASONS.__getitem__)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nave", r"implementation is 'nave'; expected 'auto' or one of \('naive', 'compiled'\)"),
        ("compiled", "implementation 'compiled' cannot run: no C compiler was found; .*'auto'"),
    ],
)
def test_others_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        require_implementation(name, tuple(REASONS), REASONS.__getitem__)


def test_triton_runs_on_gpus_where_it_is_installed(monkeypatch):
    pytest.importorskip("triton", reason="triton is not installed")
    from triton import knobs

    monkeypatch.setattr(knobs.runtime, "interpret", False)
    assert whynot_triton(torch.device("cuda")) == ""
    assert whynot_triton(torch.device("cpu")) == "it runs on CUDA devices, not on cpu"
    monkeypatch.setattr(knobs.runtime, "interpret", True)
    assert whynot_triton(torch.device("cpu")) == ""
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    assert whynot_triton(torch.device("cuda")) == "triton is not installed"
