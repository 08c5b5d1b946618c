"""Matrix products of ragged graphs: both forms against plain matrices, and their derivatives."""

import pytest
import torch

from eqlib.models.graphs.networks.base import RaggedGraphs
from eqlib.models.graphs.networks.squares import (
    multiply,
    multiply_padded,
    multiply_singly,
    squares,
)
from tests.models.graphs.networks.samples import SIZES, odd_graphs

CASES = [SIZES, [], [0], [5, 0, 1], [13, 1, 9, 12, 40, 8]]


def values(sizes, rng, channels=3):
    pairs = sum(size * size for size in sizes)
    return torch.randn(pairs, channels, dtype=torch.float64, generator=rng)


def plain(a, b, sizes):
    squared = [size * size for size in sizes]
    found = [a.new_zeros(0, a.shape[1])]
    for size, left, right in zip(sizes, a.split(squared), b.split(squared), strict=True):
        left, right = (part.view(size, size, a.shape[1]).movedim(2, 0) for part in (left, right))
        found.append((left @ right).movedim(0, 2).reshape(size * size, a.shape[1]))
    return torch.cat(found)


@pytest.mark.parametrize("sizes", CASES, ids=str)
@pytest.mark.parametrize("form", [multiply, multiply_padded, multiply_singly])
def test_products_are_those_of_the_matrices_of_each_graph(form, sizes, rng):
    a, b = values(sizes, rng), values(sizes, rng)
    assert torch.allclose(form(a, b, sizes), plain(a, b, sizes), rtol=1e-12, atol=1e-12)
    assert not sizes or sum(sizes) < 2 or not torch.allclose(form(b, a, sizes), plain(a, b, sizes))


@pytest.mark.parametrize("form", [multiply_padded, multiply_singly])
def test_derivatives(form, rng):
    sizes = [3, 0, 1, 4]
    a, b = (values(sizes, rng, 2).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(lambda *both: form(*both, sizes), (a, b))
    assert torch.autograd.gradgradcheck(lambda *both: form(*both, sizes), (a, b))


def test_places_of_nodes_and_edges():
    graphs = RaggedGraphs(**odd_graphs())
    pairs = squares(graphs)
    assert pairs.sizes == SIZES
    assert torch.bincount(pairs.graph, minlength=7).tolist() == [size**2 for size in SIZES]
    flag = torch.zeros(len(pairs.graph))
    flag[pairs.edges] = 1
    flag[pairs.diagonal] += 2
    squared = [size * size for size in SIZES]
    for graph, part in enumerate(flag.split(squared)):
        matrix = part.view(SIZES[graph], SIZES[graph])
        assert matrix.diagonal().eq(2).all()
        assert torch.equal(matrix, matrix.T)
    first = sum(SIZES[:4])
    inside = graphs.batch[graphs.edge_index[0]] == 4
    expected = torch.zeros(6, 6)
    expected[tuple(graphs.edge_index[:, inside] - first)] = 1
    assert torch.equal(flag.split(squared)[4].view(6, 6) == 1, expected.bool())
