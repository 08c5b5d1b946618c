"""How far the decisions of a graph network depend on the numbering of the nodes."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from eqlib.frames.permutations.classes import NodeClasses
from eqlib.frames.permutations.frames import sample_orders
from eqlib.symmetry import EdgeIndex, Element, NodeOrder


class RelabellingAgreement(NamedTuple):
    """What relabelling the nodes of graphs does to the outputs of a map.

    ``share`` is the share of relabellings that give a graph its most frequent ``decision``, 1 where
    all agree; ``deviation`` is the largest distance of an output from the mean of its graph,
    relative to the largest magnitude of all outputs.
    """

    decision: Int[Tensor, "graphs"]
    share: Float[Tensor, "graphs"]
    deviation: Float[Tensor, "graphs"]


def relabelling_agreement(
    fn: Callable[..., Tensor],
    graph: Mapping[str, Any],
    relabellings: int = 32,
    generator: torch.Generator | None = None,
) -> RelabellingAgreement:
    """Compare the outputs of a map for graphs whose nodes are numbered anew.

    Args:
        fn: takes ``graph`` by name and returns a row per graph: scores of classes, of which the
            largest decides, or a single score (graphs,) or (graphs, 1), of which the sign does.
        graph: a ragged batch: ``edge_index``, ``batch``, tensors with one row per node, and
            whatever else ``fn`` takes. Numbers of edges or graphs that equal that of the nodes
            would be taken for nodes: see Raises.
        relabellings: number of numberings to draw, all random.
        generator: source of the numberings; by default a new one with a fixed seed.

    Returns:
        One row per graph.

    Raises:
        ValueError: a tensor is missing or ambiguous, or ``fn`` returns another shape.

    Note:
        The map is called as it is, in its mode, without gradients; let it draw its own samples.
    """
    missing = {"edge_index", "batch"} - set(graph)
    if missing or relabellings < 1:
        raise ValueError(
            "graph, relabellings: expected edge_index and batch, and at least one relabelling, "
            f"got {', '.join(graph)} and {relabellings}"
        )
    _check_rows(graph)
    generator = generator or torch.Generator().manual_seed(0)
    nodes = graph["batch"]
    tied = NodeClasses(torch.zeros_like(nodes), nodes, torch.ones(0, dtype=torch.float64))
    slots = sample_orders(tied, relabellings, generator)
    with torch.no_grad():
        outputs = torch.stack([_scores(fn, graph, Element(permutation=slot)) for slot in slots])
    decisions = outputs.argmax(-1) if outputs.shape[-1] > 1 else (outputs[..., 0] > 0).long()
    decision = decisions.mode(0).values
    share = (decisions == decision).double().mean(0)
    scale = outputs.abs().amax() if outputs.numel() else outputs.new_ones(())
    spread = (outputs - outputs.mean(0)).abs().amax(-1).amax(0)
    deviation = torch.where(scale > 0, spread / scale, spread)
    return RelabellingAgreement(decision, share, deviation.double())


def _check_rows(graph: Mapping[str, Any]) -> None:
    nodes, edges = len(graph["batch"]), graph["edge_index"].shape[1]
    if nodes == edges and any(_is_field(name, value, nodes) for name, value in graph.items()):
        raise ValueError(
            f"graph: {nodes} nodes and as many edges, so that fields of nodes and edges look the "
            "same; add or leave out a graph of the batch"
        )


def _is_field(name: str, value: Any, nodes: int) -> bool:
    fixed = name in ("edge_index", "batch")
    return isinstance(value, Tensor) and not fixed and value.ndim > 0 and len(value) == nodes


def _scores(
    fn: Callable[..., Tensor], graph: Mapping[str, Any], element: Element
) -> Shaped[Tensor, "graphs scores"]:
    nodes = len(graph["batch"])
    renumbered = dict(graph)
    renumbered["edge_index"] = EdgeIndex().act(element, graph["edge_index"])
    for name, value in graph.items():
        if _is_field(name, value, nodes):
            renumbered[name] = NodeOrder(0).act(element, value)
    scores = fn(**renumbered)
    if not isinstance(scores, Tensor) or scores.ndim not in (1, 2):
        raise ValueError(
            "fn: expected a tensor (graphs,) or (graphs, scores), "
            f"got {tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__}"
        )
    return scores.reshape(len(scores), -1)
