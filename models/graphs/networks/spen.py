"""Subgraph permutation-equivariant network: second-order layers on the ego nets of a graph."""

from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eqlib.models.graphs.networks.base import (
    GraphNetwork,
    RaggedGraphs,
    plan_of,
    require_choice,
    require_positive,
)
from eqlib.models.graphs.networks.plans import PlanOptions, Policy
from eqlib.models.graphs.networks.recompute import recomputed
from eqlib.subgraph import (
    FeatureBatchNorm,
    FeatureGraphNorm,
    Features,
    Pointwise,
    SubgraphLayer,
    SubgraphPlan,
    pair_features,
    polynomial_features,
    pool,
)
from eqlib.usage import UsageError

Aggregation = Literal["mean", "sum", "attention"]
Norm = Literal["batch", "graph", "none"]
Read = Literal["mean", "sum"]
_NORMS = {"batch": FeatureBatchNorm, "graph": FeatureGraphNorm}


class SPEN(GraphNetwork):
    r"""Permutation-equivariant maps on pairs and nodes of subgraphs, put together again in between.

    .. math:: X^{l+1} = \mathrm{norm}\;\mathrm{ELU}\; \underset{S}{\mathrm{mean}}\;
        L^l\bigl(X^l|_S\bigr)

    with subgraphs :math:`S`, by default the neighbourhood of each node, and all linear maps
    :math:`L` that commute with the permutations of their nodes: from pairs to pairs and nodes
    (first layer), from pairs and nodes to the same, and to one row for each subgraph (last layer).
    The mean of these over a graph goes through a perceptron.

    Types lie on the diagonal of the pair features, edges beside it. Features are stored once for
    each pair of nodes that shares a subgraph, not once for each subgraph: memory is linear in
    their number.

    Args:
        width: channels of pair, node and subgraph features.
        layers: number of layers, the first and the last included.
        node_types: number of node types.
        outputs: numbers per graph, one for each class of a classification.
        policy: "ego" nets; "node_deleted", the graph without each node; "node_marked", a copy of it
            for each node, marked; "whole", the graph itself, where the network is the global
            second-order one; "auto", "ego" with several hops or roots, otherwise of "ego" and
            "whole" the one with fewer pairs in the graphs that `make_plan` is given.
        hops: how far ego nets reach, in edges.
        rooted: whether the layers know the center of each ego net, with more maps.
        aggregation: what several subgraphs say of one pair or node becomes its "mean", "sum", or
            an average with learned weights ("attention").
        norm: "batch" normalisation, normalisation over each "graph", or "none", after each layer.
        residual: whether layers between the first and the last add to what they are given.
        read: "mean" or "sum" over the subgraphs of a graph.
        hidden: channels of the first hidden layer of the perceptron; the second has half of them.
        dropout: share of the hidden channels of the perceptron that training sets to zero.
        recompute: whether the backward pass computes the insides of layers anew instead of keeping
            them.
        polynomials: whether the first layer also sees the numbers of complete graphs of four nodes
            around each node and each pair, which no network of second order can count. Edges then
            come in both directions.

    Raises:
        UsageError: an option has none of its values, or does not go with another.

    Note:
        With a plan that is given, and without polynomials, the network is one graph for
        torch.compile. It makes its own plan, and counts for polynomials, outside of that graph.

    Source:
        Mitton and Murray-Smith, Subgraph Permutation Equivariant Networks, TMLR 2023. There the
        outputs from pairs and from nodes lie side by side, here they are added; there every size
        of a subgraph has weights of its own, here all sizes share them and sums are divided by the
        size. Its perceptron, dropout, ELU and mean over subgraphs are these; its norm is "graph".
    """

    plan_options: PlanOptions

    def __init__(
        self,
        width: int = 32,
        layers: int = 4,
        node_types: int = 2,
        outputs: int = 2,
        policy: Policy = "ego",
        hops: int = 1,
        rooted: bool = False,
        aggregation: Aggregation = "mean",
        norm: Norm = "batch",
        residual: bool = False,
        read: Read = "mean",
        hidden: int = 256,
        dropout: float = 0.5,
        recompute: bool = False,
        polynomials: bool = False,
    ) -> None:
        super().__init__()
        _require_options(aggregation, norm, read, hidden)
        require_positive(width=width, layers=layers, node_types=node_types, outputs=outputs)
        options = PlanOptions(policy, hops, rooted).settled()
        self.plan_options, self.node_types = options, node_types
        # where nodes are deleted, small graphs leave no subgraph that holds their edges
        self.missing: Literal["error", "drop"] = "drop" if policy == "node_deleted" else "error"
        self.read: Read = read
        self.recompute, self.polynomials = recompute, polynomials
        self.embed = nn.Embedding(node_types, width)
        self.stages = nn.ModuleList(
            _Stage(
                before,
                after,
                rooted=options.marks,
                aggregation=aggregation,
                norm=norm,
                residual=residual and before == after,
            )
            for before, after in pairwise(_channels(width, layers, polynomials))
        )
        self.decode = _perceptron(width, hidden, outputs, dropout)

    def predict(
        self, graphs: RaggedGraphs, classes: Int[Tensor, "nodes"] | None
    ) -> Float[Tensor, "graphs outputs"]:
        """Return the outputs of each graph."""
        plan = plan_of(graphs)
        features = self.features(graphs)
        for stage in self.stages:
            run = partial(recomputed, stage) if self.recompute else stage
            features = run(features, plan)
        return self.decode(pool(features, plan, self.read))

    def features(self, graphs: RaggedGraphs) -> Features:
        """Return what the first layer sees: edges, types on the diagonal, polynomials."""
        plan, types = plan_of(graphs), self.embed(graphs.x)
        pairs = pair_features(plan, graphs.edge_index, node_features=types, missing=self.missing)
        if not self.polynomials:
            return Features(pairs)
        given = (graphs.edge_index, graphs.batch, len(graphs.batch), graphs.num_graphs)
        of_pairs = polynomial_features(*given, order="pair", plan=plan).to(types.dtype)
        of_nodes = polynomial_features(*given, order="node").to(types.dtype)
        return Features(torch.cat([pairs, of_pairs], 1), of_nodes)


class _Stage(nn.Module):
    """A layer on subgraphs, its nonlinearity and its norm."""

    def __init__(
        self,
        before: dict[int, int],
        after: dict[int, int],
        rooted: bool,
        aggregation: Aggregation,
        norm: Norm,
        residual: bool,
    ) -> None:
        super().__init__()
        self.layer = SubgraphLayer(
            before, after, rooted=rooted, aggregation=aggregation, residual=residual
        )
        self.activation = Pointwise(nn.ELU())
        self.norm = None if norm == "none" else _NORMS[norm](after)

    def forward(self, features: Features, plan: SubgraphPlan) -> Features:
        found = self.activation(*self.layer(*features, plan=plan))
        return found if self.norm is None else self.norm(*found, plan=plan)


def _require_options(aggregation: str, norm: str, read: str, hidden: int) -> None:
    """Refuse options that do not exist."""
    require_choice("aggregation", aggregation, ("mean", "sum", "attention"))
    require_choice("norm", norm, ("batch", "graph", "none"))
    require_choice("read", read, ("mean", "sum"))
    if hidden < 2:  # the second layer has half of them
        raise UsageError(f"hidden: expected 2 or more, got {hidden}")


def _channels(width: int, layers: int, polynomials: bool) -> list[dict[int, int]]:
    """Return the channels of each order before, between and after the layers."""
    # flags of edges and of the diagonal beside the types
    first = {2: 3 + width, 1: 1} if polynomials else {2: 2 + width}
    return [first, *([{2: width, 1: width}] * (layers - 1)), {0: width}]


def _perceptron(width: int, hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.ELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden // 2),
        nn.ELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden // 2, outputs),
    )
