"""A layer on a graph that acts in each of its subgraphs."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.subgraph._arguments import check_aggregation, check_residual
from eqlib.subgraph.features import Features, features_of
from eqlib.subgraph.layers.attention import SubgraphAttention
from eqlib.subgraph.layers.extraction import aggregate, extract
from eqlib.subgraph.layers.pointwise import Pointwise
from eqlib.subgraph.levels import How, count_copies, join_copies
from eqlib.subgraph.maps.linear import PermutationLinear
from eqlib.subgraph.plans.plan import SubgraphPlan
from eqlib.subgraph.representations import feature_signature
from eqlib.symmetry import Signature

Aggregation = Literal["mean", "sum", "attention"]


class SubgraphLayer(nn.Module):
    r"""Extract the features of all subgraphs, map them linearly, and bring them back.

    .. math:: Y_{uv} = \frac1{|\{e \ni u, v\}|} \sum_{e \ni u, v} \sigma\bigl(L(X^e)\bigr)_{uv}

    with the most general linear map L that commutes with permutations of the nodes of a subgraph.
    Where L is the same for subgraphs of all sizes, copies are averaged or summed, and there is no
    :math:`\sigma`, nothing in memory has a row for each pair of each subgraph: the copies of a pair
    are one row, and only sums over rows and columns differ between subgraphs.

    Args:
        channels_in: number of channels of each order of the input, such as ``{2: 8, 1: 4}``.
        channels_out: the same of the output.
        rooted: use the root of each subgraph.
        aggregation: "mean" or "sum" over the copies of a pair or node, or "attention".
        activation: applied to all features of the subgraphs before they are brought back.
        residual: add the input to the output; channels in and out are then the same.
        heads: number of scores of "attention".
        weights: "shared", "per_size" or "size_embedding"; see :class:`PermutationLinear`.
        sizes: for "per_size".
        bias: learn a bias.
        normalised: divide each sum over nodes by their number.
        implementation: of the sums over pairs.

    Raises:
        ValueError: an argument has another value.
        TypeError: an argument has another type.

    Note:
        With one subgraph per graph (``whole_graph_plan``) this is a layer of an invariant graph
        network of order 2.

    Source:
        Mitton and Murray-Smith, Subgraph Permutation Equivariant Networks, TMLR 2023.
    """

    def __init__(
        self,
        channels_in: Mapping[int, int],
        channels_out: Mapping[int, int],
        rooted: bool = False,
        aggregation: Aggregation = "mean",
        activation: nn.Module | None = None,
        residual: bool = False,
        heads: int = 1,
        weights: str = "shared",
        sizes: Sequence[int] = (),
        bias: bool = True,
        normalised: bool = True,
        implementation: str = "auto",
    ) -> None:
        super().__init__()
        self.linear = PermutationLinear(
            channels_in, channels_out, rooted, weights, sizes, bias, normalised, implementation
        )
        check_aggregation(aggregation)
        if heads != 1 and aggregation != "attention":
            raise ValueError(f'heads is {heads}; expected none with aggregation="{aggregation}"')
        if residual:
            check_residual(channels_in, channels_out)
        self.how: How = "sum" if aggregation == "sum" else "mean"
        self.residual = residual
        self.activation = None if activation is None else Pointwise(activation)
        self.attention: SubgraphAttention | None = None
        if aggregation == "attention":
            self.attention = SubgraphAttention(channels_out, rooted, heads, implementation)

    @property
    def lean(self) -> bool:
        """Whether no tensor has a row for each pair of each subgraph."""
        shared = self.linear.weights == "shared"
        return shared and self.activation is None and self.attention is None

    @property
    def signature(self) -> Signature:
        """Permutations of the nodes: the plan is relabelled, and rows of the graph follow it."""
        return feature_signature(self.linear.channels_in, self.linear.channels_out)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew.

        Args:
            generator: source of the weights; by default the global one, as in torch's layers.
        """
        self.linear.reset_parameters(generator)
        if self.attention is not None:
            self.attention.reset_parameters(generator)

    def forward(
        self,
        pairs: Float[Tensor, "slots channels_2"] | None = None,
        nodes: Float[Tensor, "nodes channels_1"] | None = None,
        scalars: Float[Tensor, "owners channels_0"] | None = None,
        *,
        plan: SubgraphPlan,
    ) -> Features:
        """The features of the graph, of the orders in ``channels_out``.

        Args:
            pairs: one row for each stored pair of nodes.
            nodes: one row for each node.
            scalars: one row for each owner of a subgraph: its center, or its graph where the plan
                has no centers.
            plan: the subgraphs.

        Raises:
            ValueError: features do not fit the layer or the plan.
            TypeError: a dtype is not that of the layer, save under autocast.
        """
        given = Features(pairs, nodes, scalars)
        found = self._map_shared(given, plan) if self.lean else self._map(given, plan)
        if not self.residual:
            return found
        before = given.by_order()
        return features_of({q: rows + before[q] for q, rows in found.by_order().items()})

    def extra_repr(self) -> str:
        """Options."""
        how = "attention" if self.attention is not None else self.how
        return f"aggregation={how!r}, residual={self.residual}"

    def _map_shared(self, given: Features, plan: SubgraphPlan) -> Features:
        """Map what the subgraphs share; pairs and nodes come back as means."""
        found = self.linear.map_shared(given, plan).by_order()
        for order, rows in found.items():
            if order == 0:
                found[order] = join_copies(rows, plan, order, self.how)
            elif self.how == "sum":
                found[order] = (rows * count_copies(plan, order)[:, None]).to(rows.dtype)
        return features_of(found)

    def _map(self, given: Features, plan: SubgraphPlan) -> Features:
        mapped = self.linear(*extract(given, plan), plan=plan)
        if self.activation is not None:
            mapped = self.activation(*mapped)
        if self.attention is not None:
            return self.attention(*mapped, plan=plan)
        return aggregate(mapped, plan, self.how)
