"""Time against the size of the problem, on logarithmic axes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import Row
from benchmarks.registry import Benchmark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 100
COLORS = 96
LEAST_POINTS = 3  # of a line that is worth a panel
PANEL = (4.6, 3.8)  # inches
MARKERS = "osD^v<>Pph8"

Curves = dict[str, list[tuple[float, float]]]
"""The points of each contender, in the order of its first axis."""


def save_plot(path: Path, benchmark: Benchmark, rows: Sequence[Row], title: str) -> bool:
    """Draw the time per row, a column of panels for each pass and a row for each axis.

    Problems are joined to a line where they differ in one place alone. Few of them are not drawn.

    Args:
        path: the PNG file.
        benchmark: where the problems' places are found.
        rows: what was measured.
        title: of the whole picture.

    Returns:
        Whether there was anything to draw.
    """
    from matplotlib.figure import Figure

    passes = [name for name in benchmark.passes if any(row.stage == name for row in rows)]
    series = _series(benchmark, rows)
    if not series or not passes:
        return False
    names = list(dict.fromkeys(row.name for row in rows))
    styles = {name: _style(index, name in benchmark.peers) for index, name in enumerate(names)}
    width, height = PANEL
    figure = Figure(figsize=(width * len(passes), height * len(series) + 1), layout="constrained")
    panels = figure.subplots(len(series), len(passes), squeeze=False, sharey="row")
    for line, (axis, problems, caption) in zip(panels, series, strict=True):
        for panel, stage in zip(line, passes, strict=True):
            found = [row for row in rows if row.stage == stage and row.problem in problems]
            _draw(panel, _curves(benchmark, found, axis), styles)
            panel.set_title(f"{stage}\n{caption}", fontsize=9)
            panel.set_xlabel(axis)
        per_row = "rows" in benchmark.problem(problems[0]).place
        line[0].set_ylabel("ns per row" if per_row else "ns")
    _add_legend(figure, panels.flat)
    figure.suptitle(title, fontsize=10)
    _save(figure, path)
    return True


def _series(benchmark: Benchmark, rows: Sequence[Row]) -> list[tuple[str, list[str], str]]:
    """Return axis, problems and caption of each line of panels."""
    measured = dict.fromkeys(row.problem for row in rows if row.problem in benchmark.problems)
    places = {name: dict(benchmark.problem(name).place) for name in measured}
    series: dict[tuple[str, str], list[str]] = {}
    for name, place in places.items():
        for axis in place:
            rest = ", ".join(
                f"{key} {_short(value)}" for key, value in place.items() if key != axis
            )
            series.setdefault((axis, rest), []).append(name)
    return [
        (axis, sorted(problems, key=lambda name: places[name][axis]), rest)
        for (axis, rest), problems in series.items()
        if len(problems) >= LEAST_POINTS
    ]


def _short(value: float) -> str:
    exponent = round(value).bit_length() - 1
    return f"2^{exponent}" if exponent > 9 and value == 2**exponent else f"{value:,.0f}"


def _curves(benchmark: Benchmark, rows: Sequence[Row], axis: str) -> Curves:
    curves: Curves = {}
    for row in rows:
        if not row.note:
            place = benchmark.problem(row.problem).place
            point = (place[axis], 1e6 * row.p50_ms / place.get("rows", 1))
            curves.setdefault(row.name, []).append(point)
    return {name: sorted(points) for name, points in curves.items() if len(points) > 1}


def _style(index: int, peer: bool) -> dict[str, Any]:
    return {
        "color": f"C{index % 10}",
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": "--" if peer else "-",
        "markersize": 4,
    }


def _draw(panel: "Axes", curves: Curves, styles: Mapping[str, dict[str, Any]]) -> None:
    panel.set_visible(bool(curves))
    for name, points in curves.items():
        panel.plot(*zip(*points, strict=True), label=name, **styles[name])
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    ticks = sorted({x for points in curves.values() for x, _ in points})
    panel.set_xticks(ticks, [_short(x) for x in ticks])
    panel.minorticks_off()
    panel.grid(alpha=0.3)


def _add_legend(figure: "Figure", panels: "Iterable[Axes]") -> None:
    handles: dict[str, Any] = {}
    for panel in panels:
        lines, labels = panel.get_legend_handles_labels()
        handles.update(zip(labels, lines, strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)


def _save(figure: "Figure", path: Path) -> None:
    """Write a PNG with a palette, which takes a third of the space."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(COLORS).save(path, optimize=True)
