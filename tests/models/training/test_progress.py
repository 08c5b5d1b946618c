"""What a person sees."""

import io

import pytest
from rich.console import Console

from eqlib.models.training.progress import ProgressBar, say


def text_of(terminal, **show):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120, highlight=False)
    with ProgressBar("toy", start=10, total=20, console=console) as progress:
        progress.show(15, "loss 0.5")
    return stream.getvalue()


def test_plain_lines_hold_no_control_characters():
    assert text_of(terminal=False) == "toy  step 15/20  0:00:00 left  loss 0.5\n"


def test_terminal_shows_a_bar():
    text = text_of(terminal=True)
    assert "━" in text
    assert "15/20" in text
    assert "loss 0.5" in text


@pytest.mark.parametrize("terminal", [False, True], ids=["plain", "terminal"])
def test_it_is_shown_at_once_and_then_now_and_then(terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal)
    progress = ProgressBar("toy", 0, 20, console)
    assert progress.due()
    progress.show(1, "")
    assert not progress.due()
    progress.shown -= progress.interval
    assert progress.due()


def test_only_the_main_process_prints(monkeypatch, capsys):
    say("[main] speaks")
    monkeypatch.setenv("RANK", "1")
    say("another speaks")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "[main] speaks\n")
