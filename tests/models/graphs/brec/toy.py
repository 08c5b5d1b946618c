"""Pairs that are easily told apart or not, and networks whose answers are known."""

import networkx
import numpy as np
import torch
from torch import nn

from eqlib.geometry import segment_sum
from eqlib.models.graphs import Graphs
from eqlib.models.graphs.brec.pairs import RawPairs
from eqlib.models.graphs.networks.base import GraphNetwork

OUTPUTS = 16


def edges_of(graph):
    edges = np.array(graph.to_directed().edges, np.int64).reshape(-1, 2).T
    return len(graph), edges.copy()


def circles(*sizes):
    return networkx.disjoint_union_all([networkx.cycle_graph(size) for size in sizes])


EASY = (networkx.path_graph(6), networkx.star_graph(5))
"""Different degrees."""
HARD = (circles(6), circles(3, 3))
"""Equal to colour refinement."""


def easy_and_hard() -> RawPairs:
    """Pair 0 is easy, pair 1 is hard."""
    return RawPairs(Graphs.stack(edges_of(graph) for pair in (EASY, HARD) for graph in pair))


class Constant(GraphNetwork):
    """The same output for every graph."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.ones(OUTPUTS, dtype=torch.float64))

    def predict(self, graphs, classes):
        return self.value.expand(graphs.num_graphs, -1)


class PlaceInBatch(GraphNetwork):
    """Sees whether a graph is an even or an odd one of its batch, as no network should."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.randn(2, OUTPUTS, dtype=torch.float64))

    def predict(self, graphs, classes):
        return self.value[torch.arange(graphs.num_graphs) % 2]


class RandomNumbers(GraphNetwork):
    """Sees random numbers of the nodes instead of the graph."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(OUTPUTS, OUTPUTS, dtype=torch.float64)

    def predict(self, graphs, classes):
        return self.linear(torch.randn(graphs.num_graphs, OUTPUTS, dtype=torch.float64))


class Degrees(GraphNetwork):
    """Sums of powers of the degrees: exactly invariant."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, OUTPUTS, dtype=torch.float64)

    def predict(self, graphs, classes):
        source = graphs.edge_index[0]
        ones = torch.ones(len(source), 1, dtype=torch.float64)
        degrees = segment_sum(ones, source, len(graphs.batch))
        powers = torch.cat([degrees**power for power in range(4)], 1)
        return self.linear(segment_sum(powers, graphs.batch, graphs.num_graphs))


def maker(network):
    """Return what makes such a network from a seed."""

    def make(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return network()

    return make
