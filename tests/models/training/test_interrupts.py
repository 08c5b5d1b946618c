"""Interrupts that come where Python loses them."""

import signal
from contextlib import suppress

import pytest
from torch import nn

from eqlib.models.training import train
from eqlib.models.training.interrupts import heed_interrupt, heeded_interrupts
from tests.models.training.toy import Toy, toy_config


def lose_an_interrupt():
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_lost_interrupt_is_raised_again():
    lose_an_interrupt()
    heed_interrupt()  # outside nobody remembers it
    with heeded_interrupts():
        heed_interrupt()
        lose_an_interrupt()
        with pytest.raises(KeyboardInterrupt):
            heed_interrupt()
    heed_interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupts_that_are_ignored_stay_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with heeded_interrupts():
            signal.raise_signal(signal.SIGINT)
            heed_interrupt()
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_ends_although_the_interrupt_was_lost(monkeypatch, tmp_path):
    losses, calls = Toy.losses, []

    def interrupted(self: Toy, model: nn.Module, batch):
        calls.append(len(batch))
        if len(calls) == 2:
            lose_an_interrupt()
        return losses(self, model, batch)

    monkeypatch.setattr(Toy, "losses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(toy_config(epochs=6), tmp_path / "run")
    assert len(calls) == 2
