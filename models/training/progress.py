"""What a person sees while a model trains: a bar in a terminal, plain lines elsewhere."""

import os
import time
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

REDRAW_SECONDS = 0.1
LINE_SECONDS = 5.0


class ProgressBar:
    """Shows how far a run is and when it will end.

    Args:
        label: the name of the run.
        start: steps that were taken before.
        total: steps of the whole run.
        console: where to print; None takes the standard error stream.
    """

    def __init__(self, label: str, start: int, total: int, console: Console | None = None) -> None:
        self.label, self.start, self.total = label, start, total
        self.console = console or error_console()
        live = self.console.is_terminal
        self.interval = REDRAW_SECONDS if live else LINE_SECONDS
        self.began = time.perf_counter()
        self.shown = -float("inf")
        # the bar is drawn by `show`, not by a thread that would compete with the training
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("<"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=self.console,
            auto_refresh=False,
            disable=not live,
        )
        self.task = self.bar.add_task(label, completed=start, total=total, status="")

    def __enter__(self) -> "ProgressBar":
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def due(self) -> bool:
        """Whether enough time has passed to show something again."""
        return time.perf_counter() - self.shown >= self.interval

    def show(self, step: int, status: str) -> None:
        """Show the number of steps taken, the time that is left and a line of figures."""
        self.shown = time.perf_counter()
        if self.bar.disable:
            share = (self.total - step) / max(step - self.start, 1)
            left = timedelta(seconds=round((self.shown - self.began) * share))
            say(f"{self.label}  step {step}/{self.total}  {left} left  {status}", self.console)
        else:
            self.bar.update(self.task, completed=step, status=status)
            self.bar.refresh()


def say(message: str, console: Console | None = None) -> None:
    """Print a line where progress is printed."""
    (console or error_console()).print(message, markup=False, soft_wrap=True)


def error_console() -> Console:
    """Return a console on the standard error stream; of torchrun's processes, one prints."""
    return Console(stderr=True, highlight=False, quiet=os.environ.get("RANK", "0") != "0")
