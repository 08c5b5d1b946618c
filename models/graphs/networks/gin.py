"""Graph isomorphism network, with or without identifiers of the nodes."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eqlib.geometry import gather_nodes, segment_mean, segment_sum
from eqlib.models.graphs.networks.base import (
    GraphNetwork,
    RaggedGraphs,
    require_choice,
    require_positive,
)

Read = Literal["last", "all"]
Pool = Literal["sum", "mean"]


class GIN(GraphNetwork):
    r"""Sums over neighbours and multilayer perceptrons: as strong as 1-WL, and no stronger.

    .. math:: h_i \leftarrow \mathrm{ReLU}\,\mathrm{BN}\,\mathrm{MLP}_l
        \bigl((1 + \epsilon_l) h_i + \textstyle\sum_{j \to i} h_j\bigr)

    followed by the sum or mean over the nodes of a graph, and by an MLP for the last layer, or by a
    linear map for every layer whose outputs are summed.

    Args:
        width: channels of the node features.
        layers: rounds of messages.
        node_types: number of node types.
        outputs: numbers per graph, one for each class of a classification.
        read: "last" reads out the last layer, "all" every layer and the embedded types.
        pool: "sum" or "mean" over the nodes of a graph.
        inner_norm: whether the hidden layer of each MLP has batch normalisation too.
        dropout: share of the pooled features that training sets to zero.

    Raises:
        UsageError: ``read`` or ``pool`` is none of the above, or a size is not positive.

    Source:
        Xu et al., How Powerful are Graph Neural Networks?, ICLR 2019. Its classification networks
        have four rounds, read="all" and inner_norm=True, and see types as one-hot rows; here they
        are embedded first, and dropout acts on what is pooled, not on the outputs.
    """

    def __init__(
        self,
        width: int = 64,
        layers: int = 6,
        node_types: int = 2,
        outputs: int = 2,
        read: Read = "last",
        pool: Pool = "sum",
        inner_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_choice("read", read, ("last", "all"))
        require_choice("pool", pool, ("sum", "mean"))
        require_positive(width=width, layers=layers, node_types=node_types, outputs=outputs)
        self.read, self.pool, self.node_types = read, pool, node_types
        self.embed = nn.Embedding(node_types, width)
        self.epsilon = nn.Parameter(torch.zeros(layers))
        self.layers = nn.ModuleList(_perceptron(width, inner_norm) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.decode: nn.Module
        if read == "last":
            hidden = nn.Linear(width, width)
            self.decode = nn.Sequential(hidden, nn.ReLU(), nn.Linear(width, outputs))
        else:
            self.decode = nn.Linear((layers + 1) * width, outputs)

    def predict(
        self, graphs: RaggedGraphs, classes: Int[Tensor, "nodes"] | None
    ) -> Float[Tensor, "graphs outputs"]:
        """Return the outputs of each graph."""
        features = self.features(graphs)
        seen = [features]
        source, target = graphs.edge_index
        for epsilon, layer in zip(self.epsilon, self.layers, strict=True):
            received = segment_sum(gather_nodes(features, source), target, len(features))
            features = layer((1 + epsilon) * features + received)
            seen.append(features)
        if self.read == "all":
            features = torch.cat(seen, 1)
        pool = segment_sum if self.pool == "sum" else segment_mean
        pooled = pool(features, graphs.batch, graphs.num_graphs)
        return self.decode(self.dropout(pooled))

    def features(self, graphs: RaggedGraphs) -> Float[Tensor, "nodes channels"]:
        """Return what the first layer sees of each node."""
        return self.embed(graphs.x)


class IdentifiedGIN(GIN):
    """GIN that also sees the place of each node in its graph: universal, but not invariant.

    Args:
        width: channels of the node features.
        layers: rounds of messages.
        node_types: number of node types.
        outputs: numbers per graph.
        nodes: largest number of nodes of a graph.

    Raises:
        UsageError: a size is not positive.
    """

    def __init__(
        self,
        width: int = 64,
        layers: int = 6,
        node_types: int = 2,
        outputs: int = 2,
        nodes: int = 64,
    ) -> None:
        super().__init__(width, layers, node_types, outputs)
        require_positive(nodes=nodes)
        self.identify = nn.Embedding(nodes, width)

    def features(self, graphs: RaggedGraphs) -> Float[Tensor, "nodes channels"]:
        """Return what the first layer sees of each node.

        Raises:
            ValueError: a graph has more nodes than there are identifiers.
        """
        place = graphs.place
        require_size(place, self.identify.num_embeddings)
        return super().features(graphs) + self.identify(place)


def require_size(place: Int[Tensor, "nodes"], nodes: int) -> None:
    """Refuse graphs with more nodes than a network has been made for."""
    if len(place) and int(place.max()) >= nodes:
        raise ValueError(
            f"batch: a graph has {int(place.max()) + 1} nodes, the network has places for {nodes}; "
            f"make it with nodes={int(place.max()) + 1}"
        )


def _perceptron(width: int, inner_norm: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width),
        *([nn.BatchNorm1d(width)] if inner_norm else []),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
    )
