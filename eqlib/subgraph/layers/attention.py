"""Aggregation by attention: subgraphs weigh in by what they hold."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.geometry import segment_softmax, segment_sum
from eqlib.geometry._checks import check_count
from eqlib.subgraph._arguments import check_channels
from eqlib.subgraph.features import Features, features_of
from eqlib.subgraph.levels import row_counts, row_of_graph
from eqlib.subgraph.maps.linear import PermutationLinear
from eqlib.subgraph.plans.plan import SubgraphPlan
from eqlib.subgraph.representations import feature_signature
from eqlib.symmetry import Signature


class SubgraphAttention(nn.Module):
    r"""Weighted mean over the copies that subgraphs hold of each pair and node.

    .. math:: X_{uv} = \sum_{e \ni u, v} \mathrm{softmax}_e(S^e_{uv})\, A^e_{uv}

    The scores S are a :class:`PermutationLinear` map of the features of each subgraph.

    Args:
        channels: number of channels of each order.
        rooted: whether scores use the roots.
        heads: number of scores; each weighs an equal share of the channels.
        implementation: of the sums over pairs; see :class:`PermutationLinear`.

    Raises:
        ValueError: an argument has another value, or heads do not divide channels.
        TypeError: an argument has another type.

    Note:
        What only one subgraph holds stays as it is, whatever its score. The features of all pairs
        of all subgraphs are in memory.
    """

    def __init__(
        self,
        channels: Mapping[int, int],
        rooted: bool = False,
        heads: int = 1,
        implementation: str = "auto",
    ) -> None:
        super().__init__()
        check_channels("channels", channels)
        check_count("heads", heads, least=1)
        for order, count in channels.items():
            if count % heads:
                raise ValueError(
                    f"heads is {heads}, which does not divide the {count} channels of order {order}"
                )
        self.heads = heads
        scores = dict.fromkeys(channels, heads)
        self.scores = PermutationLinear(
            channels, scores, rooted, bias=False, implementation=implementation
        )

    @property
    def signature(self) -> Signature:
        """Permutations of the nodes: of rows of the subgraphs that go in, and of the graph."""
        orders = self.scores.channels_in
        return feature_signature(orders, orders, local_in=True)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew.

        Args:
            generator: source of the weights; by default the global one, as in torch's layers.
        """
        self.scores.reset_parameters(generator)

    def forward(
        self,
        pairs: Float[Tensor, "pairs channels_2"] | None = None,
        nodes: Float[Tensor, "members channels_1"] | None = None,
        scalars: Float[Tensor, "subgraphs channels_0"] | None = None,
        *,
        plan: SubgraphPlan,
    ) -> Features:
        """The features of the graph.

        Args:
            pairs: one row for each pair of each subgraph.
            nodes: one row for each member.
            scalars: one row for each subgraph.
            plan: the subgraphs.

        Raises:
            ValueError: features do not fit the layer or the plan.
            TypeError: a dtype is not that of the layer, save under autocast.
        """
        given = Features(pairs, nodes, scalars)
        scores = self.scores(*given, plan=plan).by_order()
        found = {}
        for order, rows in given.by_order().items():
            index, count = row_of_graph(plan, order), row_counts(plan, local=False)[order]
            weights = segment_softmax(scores[order], index, count).to(rows.dtype)
            weighted = rows.unflatten(1, (self.heads, -1)) * weights[..., None]
            found[order] = segment_sum(weighted.flatten(1), index, count)
        return features_of(found)

    def extra_repr(self) -> str:
        """Number of heads."""
        return f"heads={self.heads}"
