"""The picture of a trained N-body network: true trajectories and predicted end points."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float64
from numpy import ndarray
from torch import Tensor

from eqlib.models.nbody.data import INPUT_STEP, TARGET_STEP
from eqlib.models.nbody.simulate import InitialStates, simulate
from eqlib.models.training import Batch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.9, 0.97)
FRAMES = 50
COLOURS = {-1: "#2b6cb0", 1: "#c05621"}
START: dict[str, Any] = {"marker": "o", "markersize": 3.5}
TRUE_END: dict[str, Any] = {"marker": "o", "markersize": 9, "markerfacecolor": "none"}
PREDICTED_END: dict[str, Any] = {"marker": "x", "markersize": 6}


def draw_predictions(
    systems: Batch, predicted: Float[Tensor, "systems particles 3"], path: Path
) -> None:
    """Draw one panel for each of six systems, chosen by the quantile of their error.

    Args:
        systems: charges, points, velocities and targets of a whole split.
        predicted: end positions, in the length unit of the targets.
        path: the PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    errors = (predicted - systems["targets"].double().cpu()).square().mean((1, 2))
    order = errors.argsort()
    chosen = [int(order[round(q * (len(order) - 1))]) for q in QUANTILES]
    trajectories = true_trajectories(systems, chosen)
    figure = Figure(figsize=(10.5, 7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 3).flat
    for panel, quantile, system, trajectory in zip(
        panels, QUANTILES, chosen, trajectories, strict=True
    ):
        charges = systems["charges"][system].tolist()
        _draw_system(panel, trajectory, predicted[system].numpy(), charges)
        panel.set_title(f"{quantile:.0%} quantile of the errors: MSE {errors[system]:.1e}")
    figure.legend(handles=_legend(), loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle("Charged particles on the test set, in the plane of largest extent")
    figure.savefig(path, dpi=110)


def true_trajectories(
    systems: Batch, chosen: list[int]
) -> list[Float64[ndarray, "frames particles 3"]]:
    """Simulate the chosen systems again from the network's input, with frames in between."""
    parts = (systems[name][chosen].double().cpu().numpy() for name in ("points", "velocities"))
    charges = systems["charges"][chosen].cpu().numpy().astype(np.int8)
    states = InitialStates(charges, *parts)
    span = TARGET_STEP - INPUT_STEP
    moved = simulate(states, range(span // FRAMES, span + 1, span // FRAMES)).positions
    return list(np.concatenate([states.positions[None], moved]).swapaxes(0, 1))


def _draw_system(
    panel: "Axes",
    trajectory: Float64[ndarray, "frames particles 3"],
    predicted: Float[ndarray, "particles 3"],
    charges: list[float],
) -> None:
    centre = trajectory.mean((0, 1))
    axes = np.linalg.svd((trajectory - centre).reshape(-1, 3), full_matrices=False)[2][:2]
    path = (trajectory - centre) @ axes.T
    end = (predicted - centre) @ axes.T
    for particle, charge in enumerate(charges):
        colour = COLOURS[round(charge)]
        line = path[:, particle]
        panel.plot(*line.T, color=colour, linewidth=1.4)
        panel.plot(*line[0], color=colour, **START)
        panel.plot(*line[-1], color=colour, **TRUE_END)
        panel.plot(*end[particle], color="black", **PREDICTED_END)
        panel.plot(*np.stack([line[-1], end[particle]]).T, color="black", linewidth=0.7)
    panel.set_aspect("equal", adjustable="datalim")
    panel.tick_params(labelsize=7)
    panel.grid(alpha=0.2)


def _legend() -> list["Line2D"]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=COLOURS[1], label="positive charge"),
        Line2D([], [], color=COLOURS[-1], label="negative charge"),
        Line2D([], [], color="grey", linestyle="", label="start", **START),
        Line2D([], [], color="grey", linestyle="", label="true end", **TRUE_END),
        Line2D([], [], color="black", linestyle="", label="predicted end", **PREDICTED_END),
    ]
