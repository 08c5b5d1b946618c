"""The record of a run: one row per evaluation in metrics.jsonl, metrics.csv and TensorBoard."""

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from eqlib.models.training.storage import append_text, explain_failure, write_durably
from eqlib.usage import UsageError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Row = dict[str, int | float]

ADVICE = "make room or mend the permissions, then resume"


class Metrics:
    """Rows of figures, one per evaluation, appended to the files of a run.

    Args:
        folder: the run's folder.
        step: rows of later steps are dropped: the run continues from here.
        tensorboard: write TensorBoard events too, into ``folder/tensorboard``.

    Raises:
        ImportError: TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path, step: int = 0, tensorboard: bool = False) -> None:
        self.lines = folder / "metrics.jsonl"
        self.table = folder / "metrics.csv"
        self.rows = [row for row in read_rows(folder) if row["step"] <= step]
        with explain_failure(f"the metrics in {folder}", ADVICE):
            write_durably(self.lines, "".join(json.dumps(row) + "\n" for row in self.rows).encode())
            write_durably(self.table, _csv(self.rows, header=True).encode())
        self.board = _tensorboard(folder / "tensorboard", step) if tensorboard else None

    def append(self, row: Row) -> None:
        """Add a row and wait until it is on the disk, so that no checkpoint precedes its row."""
        self.rows.append(row)
        with explain_failure(f"the metrics in {self.lines.parent}", ADVICE):
            append_text(self.lines, json.dumps(row) + "\n")
            append_text(self.table, _csv([row], header=len(self.rows) == 1))
        if self.board:
            for name, value in row.items():
                self.board.add_scalar(name, value, int(row["step"]))
            self.board.flush()


def read_rows(folder: Path) -> list[Row]:
    """Return the rows of a run, without a last one that a crash cut short.

    Raises:
        UsageError: another one is damaged.
    """
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(True)
        return [json.loads(line) for line in lines if line.endswith("\n")]
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {error}; restore it from a copy") from error


def _csv(rows: list[Row], header: bool) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _tensorboard(folder: Path, step: int) -> "SummaryWriter":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "tensorboard is asked for and not installed; "
            "install it with `pip install eqlib[tensorboard]` or leave the option off"
        ) from error
    # events of the steps that a crash undid are hidden
    return SummaryWriter(str(folder), purge_step=step + 1)
