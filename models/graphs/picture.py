"""The picture of a trained graph network: pairs of graphs, or what becomes of each class."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from eqlib.models.training import Batch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#2b6cb0", "#c05621")
TITLES = ("unsatisfiable", "satisfiable")


def draw_pairs(graphs: Batch, probability: Float[Tensor, "copies graphs"], path: Path) -> None:
    """Draw the first pair, and the probabilities of both graphs of each pair.

    Args:
        graphs: pairs of graphs of labels 0 and 1, the graphs of a pair one after the other.
        probability: predicted for label 1, for relabelled copies of each graph.
        path: the PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    *pair, plane = figure.subplots(1, 3)
    labels = graphs["y"].reshape(-1, 2)
    order = labels.argsort(1) + 2 * torch.arange(len(labels))[:, None]
    for label, panel in enumerate(pair):
        _draw_graph(panel, graphs, int(order[0, label]))
        panel.set_title(f"A test formula, {TITLES[label]}")
    x, y = probability[:, order[:, 0]], probability[:, order[:, 1]]
    plane.plot([0, 1], [0, 1], color="grey", linewidth=0.7)
    plane.scatter(x.flatten(), y.flatten(), s=16, alpha=0.3, color="black", linewidths=0)
    plane.set_xlabel("“satisfiable” for the unsatisfiable one")
    plane.set_ylabel("“satisfiable” for its satisfiable partner")
    plane.set_title(f"{len(labels)} pairs, {len(probability)} relabellings each")
    plane.set_xlim(-0.03, 1.03)
    plane.set_ylim(-0.03, 1.03)
    plane.set_box_aspect(1)
    figure.savefig(path, dpi=110)


def draw_classes(
    labels: Int[Tensor, "graphs"], chance: Float[Tensor, "graphs classes"], path: Path
) -> None:
    """Draw how many graphs of each class are taken for which, and how sure the network is.

    Args:
        labels: class of each graph.
        chance: predicted probability of each class.
        path: the PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    matrix, curve = figure.subplots(1, 2)
    classes = chance.shape[1]
    table = torch.zeros(classes, classes, dtype=torch.int64)
    pairs = torch.stack([labels, chance.argmax(1)])
    table.index_put_((pairs[0], pairs[1]), torch.ones_like(labels), accumulate=True)
    counts = table.numpy()
    _draw_table(matrix, counts)
    for label in range(classes):
        given = chance[labels == label, label].sort().values
        place = (torch.arange(len(given)) + 0.5) / max(len(given), 1)
        curve.plot(place, given, marker=".", label=f"class {label}, {len(given)} graphs")
    curve.axhline(1 / classes, color="grey", linewidth=0.7)
    curve.set(xlabel="graphs, least certain first", ylabel="probability of their class")
    curve.set_ylim(-0.03, 1.03)
    curve.legend(frameon=False)
    figure.savefig(path, dpi=110)


def _draw_table(panel: "Axes", counts: Int[ndarray, "classes classes"]) -> None:
    """Draw how many items of each class, in rows, are taken for which, in columns."""
    panel.imshow(counts, cmap="Blues", vmin=0)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > 0.6 * counts.max() else "black"
        panel.text(column, row, str(count), ha="center", va="center", color=colour)
    panel.set(
        xlabel="predicted class",
        ylabel="class",
        xticks=range(len(counts)),
        yticks=range(len(counts)),
        title=f"{counts.trace()} of {counts.sum()} test graphs right",
    )


def _draw_graph(panel: "Axes", graphs: Batch, index: int) -> None:
    """Draw one graph, its nodes at the entries of Laplacian eigenvectors."""
    nodes = (graphs["batch"] == index).nonzero()[:, 0]
    first, size = int(nodes[0]), len(nodes)
    inside = graphs["batch"][graphs["edge_index"][0]] == index
    source, target = (graphs["edge_index"][:, inside] - first).cpu()
    points = _layout(source, target, size)
    for i, j in zip(source.tolist(), target.tolist(), strict=True):
        if i < j:
            panel.plot(*points[[i, j]].T, color="grey", linewidth=0.8, zorder=1)
    kinds = graphs["x"][nodes].cpu()
    for kind, colour in enumerate(COLOURS):
        x, y = points[kinds == kind].T
        panel.scatter(x, y, s=22, color=colour, zorder=2)
    panel.set_aspect("equal")
    panel.axis("off")


def _layout(source: Tensor, target: Tensor, size: int) -> Float[Tensor, "nodes 2"]:
    """Places of nodes: parts side by side, each by eigenvectors of its Laplacian."""
    adjacency = torch.zeros(size, size, dtype=torch.float64)
    adjacency[source, target] = 1
    part = torch.arange(size)
    for _ in range(size):
        reach = torch.where(adjacency > 0, part, size).amin(1)
        part = torch.minimum(part, reach)
    points, offset = torch.zeros(size, 2, dtype=torch.float64), 0.0
    for index in part.unique():
        nodes = (part == index).nonzero()[:, 0]
        block = adjacency[nodes][:, nodes]
        vectors = torch.linalg.eigh(block.sum(1).diag() - block).eigenvectors
        extent = vectors.new_zeros(len(nodes), 2)
        # The next two move apart what the first two leave in one place.
        found = vectors[:, 1:3].clone()
        found[:, : len(nodes) - 3] += 0.25 * vectors[:, 3:5]
        extent[:, : found.shape[1]] = found / found.abs().amax(0).clamp(min=1e-12)
        points[nodes] = extent + torch.tensor([offset, 0.0])
        offset += 2.4
    return points
