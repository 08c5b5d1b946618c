"""What a run tells: metrics as it trains, curves and a report at its end."""

from eqlib.models.training.reports.metrics import Metrics, Row, read_rows
from eqlib.models.training.reports.plots import draw_curves
from eqlib.models.training.reports.report import (
    BEST,
    circumstances,
    dataset_checksum,
    markdown_table,
    read_reports,
    summarise,
    summary_table,
    versions,
    write_report,
)

__all__ = [
    "BEST",
    "Metrics",
    "Row",
    "circumstances",
    "dataset_checksum",
    "draw_curves",
    "markdown_table",
    "read_reports",
    "read_rows",
    "summarise",
    "summary_table",
    "versions",
    "write_report",
]
