"""Graphs of torch_geometric in and out, without importing it before one arrives."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from eqlib.geometry._pyg import graph_of_nodes, is_graph
from eqlib.subgraph.features import Features
from eqlib.subgraph.plans.egos import ego_plan
from eqlib.subgraph.plans.pairs import pair_features
from eqlib.subgraph.plans.plan import SubgraphPlan

Names = str | Sequence[str] | None
PlanMaker = Callable[[Tensor, Tensor, int, int], SubgraphPlan]
NodesIn = Literal["pairs", "nodes", "both"]


def from_data(
    data: Any,
    nodes: Names = "x",
    edges: Names = None,
    *,
    plan: SubgraphPlan | PlanMaker = ego_plan,
    nodes_in: NodesIn = "pairs",
    missing: Literal["error", "drop"] = "error",
) -> tuple[Features, SubgraphPlan]:
    """Features and subgraphs of a graph or a batch of graphs, for ``layer(*features, plan=plan)``.

    Args:
        data: a ``Data``, which is a batch of one graph, or a ``Batch``; it is left as it is.
        nodes: attributes of the nodes, (nodes,) or (nodes, s), put side by side; None: none.
        edges: attributes of the edges, (edges,) or (edges, s), put side by side; None: none.
        plan: the plan of this batch, or what makes one of ``edge_index``, ``batch``, ``num_nodes``
            and ``num_graphs``, such as ``functools.partial(ego_plan, hops=2)``.
        nodes_in: where the attributes of nodes go: to pairs (i, i) as in :func:`pair_features`, to
            features of nodes, or to both.
        missing: what happens to edges that no subgraph holds; see :func:`pair_features`.

    Returns:
        Features of the graph: pairs, with the edge flag, the diagonal flag, the attributes of edges
        and those of nodes; and nodes where these are asked for. Then the plan.

    Raises:
        TypeError: ``data`` is no graph of torch_geometric, or ``plan`` neither plan nor function.
        ValueError: the graph lacks an attribute, or one has another shape; ``plan`` is that of
            another number of nodes; a choice is unknown; or what the maker of the plan raises.

    Note:
        Integers become numbers of the default dtype: encode classes first.
    """
    _check(data)
    if nodes_in not in ("pairs", "nodes", "both"):
        raise ValueError(f"nodes_in is {nodes_in!r}; expected pairs, nodes or both")
    edge_index, count = _tensor(data, "edge_index"), data.num_nodes
    if callable(plan):
        batch, graphs = graph_of_nodes(data, edge_index.device)
        plan = plan(edge_index, batch, count, graphs)
    _check_plan(plan, count)
    of_nodes = _columns(data, nodes, count, "node")
    of_edges = _columns(data, edges, edge_index.shape[1], "edge")
    given = [rows.dtype for rows in (of_nodes, of_edges) if rows is not None]
    dtype = torch.promote_types(given[0], given[-1]) if given else torch.get_default_dtype()
    of_nodes = None if of_nodes is None else of_nodes.to(dtype)
    own = None if nodes_in == "nodes" else of_nodes
    pairs = pair_features(plan, edge_index, of_edges, own, missing=missing, dtype=dtype)
    return Features(pairs, None if nodes_in == "pairs" else of_nodes), plan


def to_data(
    data: Any,
    features: Features,
    plan: SubgraphPlan,
    *,
    nodes: str | None = "x",
    scalars: str | None = "u",
    pairs: str | None = "pair_attr",
) -> Any:
    """A graph or a batch of graphs with features of the graph as attributes.

    Args:
        data: a ``Data`` or a ``Batch``; it is left as it is.
        features: rows of nodes, of owners of subgraphs, and of stored pairs; None is left out.
        plan: that of the features.
        nodes: name of the features of nodes; None: left out.
        scalars: name of those of the owners, which are nodes or graphs; None: left out.
        pairs: name of those of pairs; None: left out. The nodes of each pair are ``pair_index``.

    Returns:
        A shallow copy with these attributes.

    Raises:
        TypeError: ``data`` is no graph of torch_geometric.
        ValueError: features do not have the rows of the plan, or the plan is that of another graph.

    Note:
        ``Batch.to_data_list`` splits attributes that all graphs had when the batch was made, such
        as ``x``, and leaves out those that came later.
    """
    _check(data)
    _check_plan(plan, data.num_nodes)
    found = copy.copy(data)
    for name, values, rows, what in (
        (nodes, features.nodes, plan.num_nodes, "nodes"),
        (scalars, features.scalars, plan.num_owners, "scalars"),
        (pairs, features.pairs, plan.num_slots, "pairs"),
    ):
        if values is None or name is None:
            continue
        if values.shape[0] != rows:
            raise ValueError(
                f"features.{what} has {values.shape[0]} rows; expected {rows} on the level of the "
                "graph: aggregate(features, plan) first"
            )
        found[name] = values
        if what == "pairs":
            found["pair_index"] = plan.pair_index
    return found


def _check(data: Any) -> None:
    """Raise unless a value is a ``Data`` or a ``Batch``."""
    if not is_graph(data, "data"):
        raise TypeError(
            f"data is of type {type(data).__name__}; expected a Data or a Batch of "
            "torch_geometric: give tensors to ego_plan and pair_features"
        )


def _check_plan(plan: SubgraphPlan, nodes: int) -> None:
    if not isinstance(plan, SubgraphPlan):
        raise TypeError(
            f"plan is of type {type(plan).__name__}; expected a SubgraphPlan, or a function that "
            "makes one"
        )
    if plan.num_nodes != nodes:
        raise ValueError(
            f"plan has {plan.num_nodes} nodes and data {nodes}; expected the plan of this batch, "
            "which that of a data set gives by plan.select(graphs)"
        )


def _tensor(data: Any, name: str) -> Tensor:
    value = getattr(data, name, None)
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name}: the graph has no such tensor; it has {', '.join(data.keys()) or 'nothing'}"
        )
    return value


def _columns(data: Any, names: Names, rows: int, what: str) -> Tensor | None:
    """Attributes side by side, as floating point."""
    columns = []
    for name in (names,) if isinstance(names, str) else names or ():
        value = _tensor(data, name)
        if value.ndim not in (1, 2) or value.shape[0] != rows:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}; expected ({rows},) or ({rows}, s): one "
                f"row per {what}"
            )
        if not value.is_floating_point():
            value = value.to(torch.get_default_dtype())
        columns.append(value[:, None] if value.ndim == 1 else value)
    return torch.cat(columns, 1) if columns else None
