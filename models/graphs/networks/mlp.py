"""A multilayer perceptron on adjacency matrices of fixed size."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from eqlib.models.graphs.networks.base import GraphNetwork, RaggedGraphs, require_positive
from eqlib.models.graphs.networks.gin import require_size


class MLP(GraphNetwork):
    """Perceptron on the adjacency matrix in the given order of the nodes: not invariant.

    Args:
        width: channels of the hidden layers.
        layers: number of hidden layers.
        node_types: number of node types.
        outputs: numbers per graph, one for each class of a classification.
        nodes: largest number of nodes of a graph; smaller ones are padded.

    Raises:
        UsageError: a size is not positive.
    """

    node_types: int

    def __init__(
        self,
        width: int = 64,
        layers: int = 2,
        node_types: int = 2,
        outputs: int = 2,
        nodes: int = 64,
    ) -> None:
        super().__init__()
        require_positive(width=width, layers=layers, node_types=node_types, outputs=outputs)
        require_positive(nodes=nodes)
        self.nodes, self.node_types = nodes, node_types
        stages: list[nn.Module] = []
        for index in range(layers):
            stages += [
                nn.Linear(width if index else nodes * (nodes + node_types), width),
                nn.ReLU(),
            ]
        self.stages = nn.Sequential(*stages, nn.Linear(width, outputs))

    def predict(
        self, graphs: RaggedGraphs, classes: Int[Tensor, "nodes"] | None
    ) -> Float[Tensor, "graphs outputs"]:
        """Return the outputs of each graph.

        Raises:
            ValueError: a graph has more nodes than the network has been made for.
        """
        place = graphs.place
        require_size(place, self.nodes)
        dtype = next(self.parameters()).dtype
        rows = torch.zeros(
            graphs.num_graphs,
            self.nodes,
            self.nodes + self.node_types,
            dtype=dtype,
            device=place.device,
        )
        source, target = graphs.edge_index
        rows[graphs.batch[source], place[source], place[target]] = 1
        types = functional.one_hot(graphs.x, self.node_types).to(dtype)
        rows[graphs.batch, place, self.nodes :] = types
        return self.stages(rows.flatten(1))
