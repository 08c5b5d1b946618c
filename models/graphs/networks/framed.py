"""Networks that are averaged over permutation frames: invariant, exactly or on average."""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eqlib.frames import (
    NodeClasses,
    PermutationFrames,
    class_frames,
    node_classes,
    search_frames,
)
from eqlib.geometry import segment_sum
from eqlib.models.graphs.networks.base import (
    SIGNATURE,
    GraphNetwork,
    RaggedGraphs,
    require_positive,
)
from eqlib.models.graphs.networks.gin import IdentifiedGIN
from eqlib.models.graphs.networks.mlp import MLP
from eqlib.symmetry import Signature

SEARCHED = 720  # orders of a search that are averaged over where none stands for all


class Copies(NamedTuple):
    """Graphs in the orders of their frames, one copy for each order."""

    graphs: RaggedGraphs
    graph: Int[Tensor, "copies"]
    """The graph that each copy is of."""
    weights: Float[Tensor, "copies"]
    """They sum to one over the copies of a graph."""
    num_graphs: int
    exact: Bool[Tensor, "graphs"]
    """Whether the copies of a graph give the average over its whole frame."""


class FrameAveraged(GraphNetwork):
    r"""The average of a network over the permutation frames of its graphs.

    .. math:: \langle f \rangle(G) = \frac{1}{|F(G)|} \sum_{\sigma \in F(G)} f(\sigma^{-1} G)

    Exactly invariant for graphs whose frame has at most ``limit`` orders. For the others it is
    approximate, an average over samples: invariant in expectation alone. Evaluation draws the same
    samples at every call.

    Args:
        backbone: the network, which sees the nodes in the order of a frame.
        samples: orders drawn in evaluation.
        train_samples: orders drawn in each training step, from torch's default generator.
        limit: evaluate all orders of frames that have at most so many.
        spectral: whether the frames sort spectral keys; otherwise they are all permutations, and
            what is sampled is the average over the group.
        search: evaluate on the orders of `eqlib.frames.search_frames`, a part of those that
            training draws from: exact where one of them stands for all, which it proves.

    Raises:
        UsageError: there is to be no sample.
    """

    def __init__(
        self,
        backbone: GraphNetwork,
        samples: int,
        train_samples: int,
        limit: int = 0,
        spectral: bool = True,
        search: bool = False,
    ) -> None:
        super().__init__()
        require_positive(samples=samples, train_samples=train_samples)
        self.search = search
        self.backbone, self.node_types = backbone, backbone.node_types
        self.samples, self.train_samples, self.limit = samples, train_samples, limit
        self.spectral = spectral

    @property
    def signature(self) -> Signature:
        """What relabelling the nodes should do: nothing, on average where orders are sampled."""
        return replace(SIGNATURE, exact=self.search)

    def predict(
        self, graphs: RaggedGraphs, classes: Int[Tensor, "nodes"] | None
    ) -> Float[Tensor, "graphs outputs"]:
        """Return the outputs of each graph."""
        return self.average(self.copies(graphs, classes))

    def copies(self, graphs: RaggedGraphs, classes: Int[Tensor, "nodes"] | None = None) -> Copies:
        """Return the graphs in the orders that this pass averages over."""
        generator = torch.Generator(graphs.batch.device).manual_seed(0)
        if self.search and not self.training:
            return copy_graphs(graphs, self._searched(graphs, generator))
        if not self.spectral:
            classes = torch.zeros_like(graphs.batch)
        if classes is None:
            found = node_classes(
                graphs.edge_index, graphs.x, batch=graphs.batch, num_graphs=graphs.num_graphs
            )
        else:
            margin = torch.ones(graphs.num_graphs, dtype=torch.float64, device=classes.device)
            found = NodeClasses(classes, graphs.batch, margin)
        if self.training:
            return copy_graphs(graphs, class_frames(found, 0, self.train_samples))
        return copy_graphs(graphs, class_frames(found, self.limit, self.samples, generator))

    def average(self, copies: Copies) -> Float[Tensor, "graphs outputs"]:
        """Return the backbone's outputs, averaged over the copies of each graph."""
        found = self.backbone.predict(copies.graphs, None)
        weighted = found * copies.weights[:, None].to(found.dtype)
        return segment_sum(weighted, copies.graph, copies.num_graphs)

    def _searched(self, graphs: RaggedGraphs, generator: torch.Generator) -> PermutationFrames:
        return search_frames(
            graphs.edge_index,
            graphs.x,
            batch=graphs.batch,
            num_graphs=graphs.num_graphs,
            invariant=True,
            limit=max(self.limit, SEARCHED),
            samples=self.samples,
            generator=generator,
        )


class FAGIN(FrameAveraged):
    """GIN with identifiers from permutation frames; evaluation averages over samples of them.

    Args:
        width: channels of the node features.
        layers: rounds of messages.
        nodes: largest number of nodes of a graph, hence the number of identifiers.
        samples: orders drawn for each graph in evaluation.
        train_samples: orders drawn for each graph in a training step.
        search: evaluate on the orders of a search instead of samples, which is exact.
        node_types: number of node types.
        outputs: numbers per graph, one for each class of a classification.
    """

    def __init__(
        self,
        width: int = 64,
        layers: int = 6,
        nodes: int = 64,
        samples: int = 8,
        train_samples: int = 1,
        search: bool = False,
        node_types: int = 2,
        outputs: int = 2,
    ) -> None:
        backbone = IdentifiedGIN(width, layers, node_types, outputs, nodes)
        super().__init__(backbone, samples, train_samples, search=search)


class GAGIN(FrameAveraged):
    """GIN with random identifiers, without a frame: the control of FA-GIN.

    Args:
        width: channels of the node features.
        layers: rounds of messages.
        nodes: largest number of nodes of a graph, hence the number of identifiers.
        samples: permutations drawn for each graph in evaluation.
        train_samples: permutations drawn for each graph in a training step.
        node_types: number of node types.
        outputs: numbers per graph, one for each class of a classification.
    """

    def __init__(
        self,
        width: int = 64,
        layers: int = 6,
        nodes: int = 64,
        samples: int = 8,
        train_samples: int = 1,
        node_types: int = 2,
        outputs: int = 2,
    ) -> None:
        backbone = IdentifiedGIN(width, layers, node_types, outputs, nodes)
        super().__init__(backbone, samples, train_samples, spectral=False)


class FAMLP(FrameAveraged):
    """Perceptron on adjacency matrices in the orders of permutation frames.

    Args:
        width: channels of the hidden layers.
        layers: number of hidden layers.
        nodes: largest number of nodes of a graph; smaller ones are padded.
        samples: orders drawn for each graph in evaluation.
        train_samples: orders drawn for each graph in a training step.
        search: evaluate on the orders of a search instead of samples, which is exact.
        node_types: number of node types.
        outputs: numbers per graph, one for each class of a classification.
    """

    def __init__(
        self,
        width: int = 64,
        layers: int = 2,
        nodes: int = 64,
        samples: int = 8,
        train_samples: int = 1,
        search: bool = False,
        node_types: int = 2,
        outputs: int = 2,
    ) -> None:
        backbone = MLP(width, layers, node_types, outputs, nodes)
        super().__init__(backbone, samples, train_samples, search=search)


def copy_graphs(graphs: RaggedGraphs, frames: PermutationFrames) -> Copies:
    """Return a copy of its graph for each order, with the nodes in that order."""
    order, frame, graph = frames.order, frames.frame, frames.graph
    device = order.device
    counts = torch.bincount(graphs.batch, minlength=graphs.num_graphs)
    first = counts.cumsum(0) - counts
    start = torch.bincount(frame, minlength=len(graph)).cumsum(0) - counts[graph]
    # slot[start of a copy + place of a node in its graph] = where the order puts this node
    slot = torch.empty_like(order)
    slot[start[frame] + order - first[graph[frame]]] = torch.arange(len(order), device=device)
    edges, copy = _edges_of_copies(graphs, graph)
    shift = start[copy] - first[graph[copy]]
    copied = RaggedGraphs(graphs.x[order], slot[edges + shift], frame, len(graph))
    return Copies(copied, graph, frames.weights, graphs.num_graphs, frames.exact)


def _edges_of_copies(
    graphs: RaggedGraphs, graph: Int[Tensor, "copies"]
) -> tuple[Int[Tensor, "2 copied"], Int[Tensor, "copied"]]:
    """The edges of the graph of each copy, in the numbers of the batch, and their copies."""
    owner = graphs.batch[graphs.edge_index[0]]
    by_graph = owner.argsort(stable=True)
    counts = torch.bincount(owner, minlength=graphs.num_graphs)
    first = counts.cumsum(0) - counts
    length = counts[graph]
    copy = torch.arange(len(graph), device=graph.device).repeat_interleave(length)
    within = torch.arange(len(copy), device=graph.device) - (length.cumsum(0) - length)[copy]
    return graphs.edge_index[:, by_graph[first[graph[copy]] + within]], copy
