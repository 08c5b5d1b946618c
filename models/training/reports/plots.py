"""Curves of a run as a PNG."""

from pathlib import Path

from eqlib.models.training.reports.metrics import Row


def draw_curves(rows: list[Row], selection: str, title: str, path: Path) -> None:
    """Draw the training loss, the validation measure and the learning rate over the epochs.

    The losses are on a logarithmic scale where all of them are positive.

    Args:
        rows: the rows of a run's metrics; none draws nothing.
        selection: name of the validation measure that selects the checkpoint.
        title: name of the run.
        path: the PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not rows:
        return
    epochs = [row["epoch"] for row in rows]
    valid = [row[f"valid_{selection}"] for row in rows]
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    loss, rate = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    loss.plot(epochs, [row["train_loss"] for row in rows], label="training loss", color="#9aa5b1")
    loss.plot(epochs, valid, label=f"validation {selection}", color="#1f6feb")
    best = min(range(len(rows)), key=valid.__getitem__)
    loss.plot(epochs[best], valid[best], "o", color="#d9480f", label=f"best: {valid[best]:.4g}")
    positive = min(*valid, *(row["train_loss"] for row in rows)) > 0
    loss.set(yscale="log" if positive else "linear", title=title)
    loss.legend(frameon=False)
    rate.plot(epochs, [row["learning_rate"] for row in rows], color="#57606a")
    rate.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    for axes in (loss, rate):
        axes.grid(alpha=0.3, which="both", linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
