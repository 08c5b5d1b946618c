"""Equivariant polynomials of the adjacency matrices of a batch of graphs, as features."""

import sys
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from eqlib.subgraph.plans.cost import check_limit
from eqlib.subgraph.polynomials.arguments import Adjacency, check_options, read_adjacency
from eqlib.subgraph.polynomials.cliques import cliques_minus_edge, rooted_cliques
from eqlib.subgraph.polynomials.enumeration import multigraphs
from eqlib.subgraph.polynomials.evaluate import EXACT, compile_program, evaluate, require_memory
from eqlib.subgraph.polynomials.multigraph import Multigraph

if TYPE_CHECKING:
    from eqlib.subgraph.plans.plan import SubgraphPlan

RED = {"graph": 0, "node": 1, "pair": 2}
"""Number of red nodes of the multigraphs of each order."""

DEFAULT = {"graph": "K4", "node": "K4 rooted", "pair": "K4 minus the red edge"}
"""The smallest multigraph of each order that matrix products cannot compute."""


def polynomial_features(
    edge_index: Int[Tensor, "2 edges"],
    batch: Int[Tensor, "nodes"] | None = None,
    num_nodes: int | None = None,
    num_graphs: int | None = None,
    order: Literal["pair", "node", "graph"] = "pair",
    polynomials: Sequence[Multigraph | str] | None = None,
    degree: int | None = None,
    normalise: Literal["log1p", "nodes"] | None = "log1p",
    plan: "SubgraphPlan | None" = None,
    limit: int | None = 2**30,
) -> Float64[Tensor, "rows polynomials"]:
    r"""Evaluate equivariant polynomials of adjacency matrices.

    .. math:: P_H(A)_{\text{red}} = \sum_{\text{black}} \prod_{(a, b) \in E(H)} A_{ab}

    counts the maps of H into the graph that take edges to edges and the red nodes to given ones.

    Args:
        edge_index: edges in both directions. Duplicates count once; a self loop is an entry of the
            diagonal.
        batch: graph of each node, sorted; None puts all nodes into one graph.
        num_nodes: number of nodes; by default those of ``batch``, or up to the last with an edge.
        num_graphs: number of graphs; by default up to the last one that has a node.
        order: what a row belongs to, a stored pair of nodes of ``plan``, a node or a graph.
        polynomials: multigraphs, or what `Multigraph.parse` reads, with two, one and no red nodes
            for the three orders. By default K4, with its red edge removed or its root red: the
            smallest that matrix products, and so second-order networks, cannot compute.
        degree: instead, all connected simple multigraphs of up to so many edges.
        normalise: "log1p" of the counts; "nodes": division by n to the number of black nodes, with
            n the nodes of the graph; None: the counts themselves.
        plan: of these graphs, for their pairs; entries at other pairs are left out. Orders without
            pairs do not look at it.
        limit: bytes that intermediate results may take; None: any.

    Returns:
        One column for each multigraph, in float64.

    Raises:
        TypeError: ``edge_index`` or ``batch`` is not int64.
        ValueError: shapes or sizes disagree; an edge has no reverse, leaves the nodes or joins two
            graphs; a multigraph has the wrong number of red nodes; pairs without a plan; both or
            an unknown one of the options; ``limit`` is too small for one graph; or counts that are
            not normalised reach 2^53.

    Note:
        All counts below 2^53 are exact. K4 and its rooted and pair forms are counted in the
        neighbourhoods of nodes, in time sum d^3 and memory max d^2 for degrees d; all others on
        dense matrices, graphs of one size at a time, at a cost of n to the power of
        `contraction_order`. Do not convert counts to float32 before they are normalised: above
        2^24 that merges and separates what should not be.

    Source:
        Puny et al., Equivariant Polynomials for Graph Neural Networks, ICML 2023. The neighbourhood
        form is ours.
    """
    check_options(order, normalise, polynomials, degree)
    check_limit(limit)
    limit = sys.maxsize if limit is None else limit
    chosen = _chosen(order, polynomials, degree)
    graphs = read_adjacency(edge_index, batch, num_nodes, num_graphs)
    pairs = _pairs(order, plan, graphs)
    rows = {"graph": len(graphs.sizes), "node": len(graphs.batch), "pair": pairs.shape[1]}[order]
    result = torch.zeros(rows, len(chosen), dtype=torch.float64, device=edge_index.device)
    dense = []
    for column, multigraph in enumerate(chosen):
        if multigraph.canonical() == Multigraph.parse(DEFAULT[order]).canonical():
            result[:, column] = _cliques(order, graphs, pairs, limit)
        else:
            dense.append(column)
    if dense:
        _dense(result, dense, chosen, graphs, pairs, limit)
    graph = graphs.batch[pairs[0]] if order == "pair" else graphs.batch
    sizes = graphs.sizes if order == "graph" else graphs.sizes[graph]
    return _normalised(result, chosen, sizes, normalise)


def _chosen(
    order: str, polynomials: Sequence[Multigraph | str] | None, degree: int | None
) -> list[Multigraph]:
    """The multigraphs that are asked for."""
    if degree is not None:
        return list(multigraphs(degree, RED[order], simple=True))
    given = (DEFAULT[order],) if polynomials is None else polynomials
    chosen = [Multigraph.parse(each) if isinstance(each, str) else each for each in given]
    for multigraph in chosen:
        if len(multigraph.red) != RED[order]:
            raise ValueError(
                f"polynomials: {multigraph} has {len(multigraph.red)} red nodes; expected "
                f"{RED[order]} for features of order {order!r}"
            )
    return chosen


def _pairs(order: str, plan: "SubgraphPlan | None", graphs: Adjacency) -> Tensor:
    if order != "pair":
        return graphs.edge_index[:, :0]
    if plan is None:
        raise ValueError("plan: expected one for order 'pair': its pair_index names the pairs")
    if len(plan.batch) != len(graphs.batch):
        raise ValueError(
            f"plan: has {len(plan.batch)} nodes and the graphs {len(graphs.batch)}; make it of the "
            "same batch"
        )
    return plan.pair_index


def _cliques(order: str, graphs: Adjacency, pairs: Tensor, limit: int) -> Tensor:
    nodes = len(graphs.batch)
    if order == "pair":
        return cliques_minus_edge(graphs.edge_index, nodes, pairs, limit)
    counts = rooted_cliques(graphs.edge_index, nodes, limit)
    if order == "node":
        return counts
    return counts.new_zeros(len(graphs.sizes)).index_add_(0, graphs.batch, counts)


def _dense(
    result: Tensor,
    columns: list[int],
    chosen: list[Multigraph],
    graphs: Adjacency,
    pairs: Tensor,
    limit: int,
) -> None:
    """Fill columns from dense matrices, those of graphs of one size together."""
    red = len(chosen[0].red)
    widest = max((compile_program(chosen[column]) for column in columns), key=attrgetter("width"))
    for nodes in graphs.sizes.unique().tolist():
        if nodes == 0:
            continue
        require_memory(widest, nodes, 1, limit)
        alike = (graphs.sizes == nodes).nonzero()[:, 0]
        for part in alike.split(max(1, limit // (8 * nodes**widest.width))):
            matrices = graphs.dense(part, nodes)
            rows, places = _places(red, graphs, part, nodes, pairs)
            for column in columns:
                values = evaluate(chosen[column], matrices, limit)
                result[rows, column] = values.reshape(-1)[places]


def _places(
    red: int, graphs: Adjacency, part: Tensor, nodes: int, pairs: Tensor
) -> tuple[Tensor, Tensor]:
    """Rows of the result that belong to some graphs, and where their values lie."""
    if red == 0:
        return part, torch.arange(len(part), device=part.device)
    number = graphs.number_of(part)[graphs.batch if red == 1 else graphs.batch[pairs[0]]]
    rows = (number >= 0).nonzero()[:, 0]
    place = number[rows]
    for axis in (rows,) if red == 1 else (pairs[0, rows], pairs[1, rows]):
        place = place * nodes + graphs.place[axis]
    return rows, place


def _normalised(
    counts: Tensor, chosen: list[Multigraph], sizes: Tensor, normalise: str | None
) -> Tensor:
    if normalise == "log1p":
        return counts.log1p()
    if normalise == "nodes":
        black = torch.tensor([len(each.black) for each in chosen], device=counts.device)
        return counts / sizes.clamp(min=1)[:, None].double() ** black
    if counts.numel() and counts.max().item() >= EXACT:
        raise ValueError(
            f"normalise: a count of {counts.max().item():.3g} is 2^53 or more, where float64 is no "
            "longer exact; normalise by 'log1p' or 'nodes', or leave multigraphs out"
        )
    return counts
