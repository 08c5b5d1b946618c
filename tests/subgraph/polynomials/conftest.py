"""An independent oracle: sums over all assignments of the nodes."""

import itertools

import pytest
import torch


def brute_force(multigraph, matrix):
    """Evaluate a polynomial by its definition."""
    nodes = matrix.shape[-1]
    entries = matrix.tolist()
    result = matrix.new_zeros([nodes] * len(multigraph.red))
    for values in itertools.product(range(nodes), repeat=multigraph.nodes):
        product = 1
        for a, b in multigraph.edges:
            product *= entries[values[a]][values[b]]
        result[tuple(values[node] for node in multigraph.red)] += product
    return result


@pytest.fixture
def oracle():
    return brute_force


@pytest.fixture
def random_graphs(rng):
    """Adjacency matrices of a few undirected graphs of one size."""

    def draw(graphs, nodes, density=0.6):
        upper = (torch.rand(graphs, nodes, nodes, generator=rng) < density).triu(1)
        return (upper | upper.mT).long()

    return draw
