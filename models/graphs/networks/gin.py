"""Graph isomorphism network, with or without identifiers of the nodes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eqlib.geometry import gather_nodes, segment_sum
from eqlib.models.graphs.networks.base import GraphNetwork, RaggedGraphs


class GIN(GraphNetwork):
    r"""Sums over neighbours and multilayer perceptrons: as strong as 1-WL, and no stronger.

    .. math:: h_i \leftarrow \mathrm{ReLU}\,\mathrm{BN}\,\mathrm{MLP}_l
        \bigl((1 + \epsilon_l) h_i + \textstyle\sum_{j \to i} h_j\bigr)

    followed by the sum over the nodes of a graph and a last MLP.

    Args:
        width: channels of the node features.
        layers: rounds of messages.
        node_types: number of node types.
        outputs: numbers per graph, one for each class of a classification.

    Source:
        Xu et al., How Powerful are Graph Neural Networks?, ICLR 2019. Here the last layer alone is
        read out.
    """

    def __init__(
        self, width: int = 64, layers: int = 6, node_types: int = 2, outputs: int = 2
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(node_types, width)
        self.epsilon = nn.Parameter(torch.zeros(layers))
        self.layers = nn.ModuleList(_perceptron(width) for _ in range(layers))
        self.decode = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))

    def predict(
        self, graphs: RaggedGraphs, classes: Int[Tensor, "nodes"] | None
    ) -> Float[Tensor, "graphs outputs"]:
        """Return the outputs of each graph."""
        features = self.features(graphs)
        source, target = graphs.edge_index
        for epsilon, layer in zip(self.epsilon, self.layers, strict=True):
            received = segment_sum(gather_nodes(features, source), target, len(features))
            features = layer((1 + epsilon) * features + received)
        return self.decode(segment_sum(features, graphs.batch, graphs.num_graphs))

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


def _perceptron(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
    )
