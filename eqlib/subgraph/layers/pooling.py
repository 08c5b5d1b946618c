"""From rows of the graph to one row per graph."""

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.geometry import segment_mean, segment_sum
from eqlib.subgraph._arguments import check_how, check_levels
from eqlib.subgraph.features import Features
from eqlib.subgraph.levels import How, graph_of_rows, off_diagonal
from eqlib.subgraph.plans.plan import SubgraphPlan


def pool(
    features: Features, plan: SubgraphPlan, how: How = "mean"
) -> Float[Tensor, "graphs channels"]:
    """Means or sums over each graph: of diagonal pairs, of other pairs, of nodes, of scalars.

    Args:
        features: rows of the graph, of any orders.
        plan: the subgraphs.
        how: "mean" or "sum".

    Returns:
        (graphs, 2 C2 + C1 + C0), side by side in this order; 0 where a graph has no such rows.

    Raises:
        ValueError: the features have other rows, or ``how`` another value.
    """
    check_how(how)
    reduce = segment_mean if how == "mean" else segment_sum
    parts = []
    for order, rows in check_levels(features, plan, local=False).items():
        kinds = 2 if order == 2 else 1
        group = graph_of_rows(plan, order, local=False) * kinds
        if order == 2:
            group = group + off_diagonal(plan, local=False)
        width = kinds * rows.shape[1]
        parts.append(reduce(rows, group, plan.num_graphs * kinds).view(plan.num_graphs, width))
    return torch.cat(parts, 1)
