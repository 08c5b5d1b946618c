"""Graphs as features of pairs of nodes."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eqlib.geometry._checks import check_range
from eqlib.kernels.tracing import is_traced
from eqlib.subgraph.plans.arguments import check_edge_index
from eqlib.subgraph.plans.plan import SubgraphPlan


def pair_features(
    plan: SubgraphPlan,
    edge_index: Int[Tensor, "2 edges"],
    edge_features: Float[Tensor, "edges edge_channels"] | None = None,
    node_features: Float[Tensor, "nodes node_channels"] | None = None,
    *,
    missing: Literal["error", "drop"] = "error",
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "slots channels"]:
    r"""The graph as features of the stored pairs of nodes.

    .. math:: X_{ij} = \big([(i, j) \in E],\ [i = j],\ \textstyle\sum_{(i, j)} e_{ij},\
        [i = j]\, x_i\big)

    The flags tell pairs without an edge from pairs whose edge has features of 0.

    Args:
        plan: that of the graph.
        edge_index: source i and target j of each edge; an edge fills the pair (i, j) alone. A
            self-loop is an edge of the pair (i, i).
        edge_features: features of each edge. Those of repeated edges are added; the flag stays 1.
        node_features: features of each node, which go to the pair (i, i).
        missing: what happens to edges, and to nodes with features, whose pair no subgraph holds:
            "error", as the plan is of another graph, or "drop", for plans that do not hold all.
        dtype: of the result; None: that of the features, and by default that of torch.

    Returns:
        One row per stored pair, with 2 + edge_channels + node_channels channels.

    Raises:
        TypeError: ``edge_index`` is no int64 tensor, or features are not floating point.
        ValueError: shapes or devices do not fit, an index is out of range, ``missing`` is unknown,
            or a pair is missing. Indices are not read under torch.compile, where missing pairs are
            dropped.
    """
    _check(plan, edge_index, edge_features, node_features, missing)
    if dtype is None:
        dtype = _dtype(edge_features, node_features)
    first, second = plan.pair_index
    nodes = plan.num_nodes
    flag = edge_index.new_ones(edge_index.shape[1], 1, dtype=dtype)
    values = flag if edge_features is None else torch.cat([flag, edge_features.to(dtype)], 1)
    edges = _place(plan, edge_index[0] * nodes + edge_index[1], values, "edge_index", missing)
    columns = [edges[:, :1].clamp(max=1), (first == second)[:, None].to(dtype), edges[:, 1:]]
    if node_features is not None:
        own = torch.arange(nodes, device=first.device) * (nodes + 1)
        columns.append(_place(plan, own, node_features.to(dtype), "node_features", missing))
    return torch.cat(columns, 1)


def _place(plan: SubgraphPlan, keys: Tensor, values: Tensor, name: str, missing: str) -> Tensor:
    """Sum of the rows of values that go to each stored pair."""
    nodes, slots = plan.num_nodes, plan.num_slots
    stored = torch.cat([plan.pair_index[0] * nodes + plan.pair_index[1], keys.new_tensor([-1])])
    slot = torch.searchsorted(stored[:-1], keys)
    found = stored[slot] == keys
    if missing == "error" and not is_traced(found) and not bool(found.all()):
        key = int(keys[~found][0])
        raise ValueError(
            f"{name}: no subgraph of the plan ({plan.policy}) holds the pair "
            f"({key // nodes}, {key % nodes}); expected the plan of this graph, or missing='drop'"
        )
    # What has no pair goes to a last row, which is cut off: shapes do not depend on values.
    slot = slot.where(found, slots)
    total = values.new_zeros(slots + 1, values.shape[1])
    return total.index_add(0, slot, values)[:slots]


def _dtype(*features: Tensor | None) -> torch.dtype:
    found = [values.dtype for values in features if values is not None]
    if not found:
        return torch.get_default_dtype()
    return torch.promote_types(found[0], found[-1])


def _check(
    plan: SubgraphPlan,
    edge_index: Tensor,
    edge_features: Tensor | None,
    node_features: Tensor | None,
    missing: str,
) -> None:
    if missing not in ("error", "drop"):
        raise ValueError(f"missing is {missing!r}; expected error or drop")
    check_edge_index(edge_index)
    if edge_index.device != plan.device:
        raise ValueError(f"edge_index is on {edge_index.device} and plan on {plan.device}")
    if edge_index.shape[1] > 0 and not is_traced(edge_index):
        check_range(edge_index, plan.num_nodes, "edge_index", "number of nodes")
    for name, values, rows in (
        ("edge_features", edge_features, edge_index.shape[1]),
        ("node_features", node_features, plan.num_nodes),
    ):
        if values is None:
            continue
        if not values.is_floating_point():
            raise TypeError(
                f"{name} has dtype {values.dtype}; expected floating point: use .float(), or "
                "torch.nn.functional.one_hot for classes"
            )
        if values.ndim != 2 or values.shape[0] != rows:
            raise ValueError(f"{name} has shape {tuple(values.shape)}; expected ({rows}, channels)")
        if values.device != plan.device:
            raise ValueError(f"{name} is on {values.device} and plan on {plan.device}")
