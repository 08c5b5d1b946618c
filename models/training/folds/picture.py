"""The picture of a cross-validation: test curves over all folds, and where each fold ends."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eqlib.models.training.folds.figures import Finished

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"published": "#1f6feb", "nested": "#d9480f"}


def draw_folds(runs: Sequence[Finished], figures: dict[str, Any], title: str, path: Path) -> None:
    """Draw the test measure over the epochs, mean and spread over the folds, and each fold's end.

    Args:
        runs: the runs of the cross-validation.
        figures: what `gather` made of them.
        title: name of the cross-validation.
        path: the PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    curves, ends = figure.subplots(1, 2, width_ratios=[2, 1])
    name = next(iter(figures["rules"]))
    for rule in dict.fromkeys(run.protocol for run in runs):
        _draw_curves(curves, [run for run in runs if run.protocol == rule], name, rule)
    _draw_ends(ends, figures, name)
    baseline = figures["data"].get("majority")
    for axes in (curves, ends):
        if baseline is not None:
            axes.axhline(baseline, color="#57606a", linestyle=":", linewidth=1.2, zorder=1)
            axes.annotate(
                "majority class",
                (0.99, baseline),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=8,
                color="#57606a",
            )
        axes.grid(alpha=0.3, linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    curves.set(title=title, xlabel="epoch", ylabel=f"test {name}")
    curves.legend(frameon=False, loc="lower right")
    figure.savefig(path)


def _draw_curves(axes: "Axes", runs: Sequence[Finished], name: str, rule: str) -> None:
    length = min(len(run.rows) for run in runs)
    epochs = [row["epoch"] for row in runs[0].rows[:length]]
    values = np.array([run.curve(name)[:length] for run in runs])
    mean, std = values.mean(0), values.std(0, ddof=1)
    axes.fill_between(epochs, mean - std, mean + std, color=COLOURS[rule], alpha=0.12, linewidth=0)
    axes.plot(epochs, mean, color=COLOURS[rule], label=f"{rule}: mean ± std of {len(runs)} folds")


def _draw_ends(axes: "Axes", figures: dict[str, Any], name: str) -> None:
    """Draw each fold's figure by each rule, with their mean and standard deviation."""
    folds = figures["folds"]
    for place, (key, colour) in enumerate(
        [(name, COLOURS["published"]), (f"nested_{name}", COLOURS["nested"])]
    ):
        if key not in folds[0]:
            continue
        values = [entry[key] for entry in folds]
        spots = place + np.linspace(-0.18, 0.18, len(values))
        axes.plot(spots, values, "o", color=colour, markersize=4, alpha=0.6)
        mean, std = (figures["test"][f"{key}_{kind}"] for kind in ("mean", "std"))
        axes.errorbar(place + 0.32, mean, std, fmt="D", color=colour, capsize=4, markersize=5)
        axes.annotate(
            f"{100 * mean:.1f} ± {100 * std:.1f} %",
            (place, 1.01),
            xycoords=("data", "axes fraction"),
            ha="center",
            fontsize=9,
            color=colour,
        )
    axes.set(xlim=(-0.5, 1.6), xticks=[0, 1])
    axes.set_xticklabels(["last ten epochs", "selected on\nheld-out items"])
