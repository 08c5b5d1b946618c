"""The picture of a trained network: clouds coloured by their true and estimated normals."""

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
VIEW = {"elev": 20, "azim": -60}


def draw_normals(
    points: Float[Tensor, "shapes points 3"],
    normals: Float[Tensor, "shapes points 3"],
    found: Float[Tensor, "shapes points 3"],
    path: Path,
) -> None:
    """Draw five shapes, chosen by the quantile of their error: true above estimated normals.

    Each component of a normal, from -1 to 1, is the share of a primary colour, from 0 to 1; short
    lines show the direction. Only points that face the viewer are drawn.

    Args:
        points: clouds of radius 1.
        normals: true outward unit normals.
        found: estimated unit normals.
        path: the PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    errors = (1 - (normals * found).sum(-1).square()).mean(1)
    order = errors.argsort()
    chosen = [int(order[round(q * (len(order) - 1))]) for q in QUANTILES]
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    for column, (quantile, shape) in enumerate(zip(QUANTILES, chosen, strict=True)):
        rows = (("true", normals), ("estimated", found))
        for row, (name, vectors) in enumerate(rows):
            place = row * len(QUANTILES) + column + 1
            axes = figure.add_subplot(2, len(QUANTILES), place, projection="3d")
            seen = normals[shape] @ towards_viewer().to(normals) > 0
            _draw_cloud(axes, points[shape][seen], vectors[shape][seen])
            title = f"{quantile:.0%} quantile of the errors" if row == 0 else f"{errors[shape]:.3f}"
            axes.set_title(f"{name}: {title}", fontsize=9)
    figure.suptitle("Normals of test shapes in random orientations; below, 1 - (n · n̂)²")
    figure.savefig(path, dpi=80)


def towards_viewer() -> Float[Tensor, "3"]:
    """Return the direction from a shape to the eye: points that face away are left out."""
    up, around = math.radians(VIEW["elev"]), math.radians(VIEW["azim"])
    across = math.cos(up)
    return torch.tensor([across * math.cos(around), across * math.sin(around), math.sin(up)])


def _draw_cloud(
    axes: Any, points: Float[Tensor, "points 3"], vectors: Float[Tensor, "points 3"]
) -> None:
    colours = ((vectors + 1) / 2).clamp(0, 1).numpy()
    axes.scatter(*points.T.numpy(), c=colours, s=14, depthshade=False)
    style: dict[str, Any] = {"length": 0.2, "arrow_length_ratio": 0, "linewidth": 0.7}
    axes.quiver(*points.T.numpy(), *vectors.T.numpy(), colors=colours, **style)
    reach = float(points.abs().amax())
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach))
    axes.set_box_aspect((1, 1, 1), zoom=1.35)
    axes.view_init(**VIEW)
    axes.set_axis_off()
