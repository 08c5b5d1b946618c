"""Interrupts that are never lost."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_came = threading.Event()


@contextmanager
def heeded_interrupts() -> Iterator[None]:
    """Remember an interrupt inside, for `heed_interrupt` to raise it again.

    Python only reports an exception that is raised in a destructor or in a callback from C, and
    goes on: an interrupt that comes there would be lost.
    """
    handler: Callable[[int, FrameType | None], object] = signal.default_int_handler
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not handler:
        yield  # somebody else looks after interrupts
        return
    _came.clear()
    signal.signal(signal.SIGINT, _remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        _came.clear()


def heed_interrupt() -> None:
    """Raise KeyboardInterrupt if an interrupt came and was lost."""
    if _came.is_set():
        raise KeyboardInterrupt


def _remember(number: int, frame: FrameType | None) -> None:
    _came.set()
    raise KeyboardInterrupt
