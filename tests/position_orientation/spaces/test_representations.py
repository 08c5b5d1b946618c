"""How relabelling the nodes acts on the scalars of edges."""

import pytest
import torch

from eqlib.position_orientation.spaces.representations import EdgeScalars
from eqlib.symmetry import Permutations


def relabelled(rng, nodes, samples):
    batch = torch.zeros(nodes, dtype=torch.int64)
    return Permutations().sample(rng, samples, kinds=["permutation"], batch=batch)


def test_matrices_move_along_both_axes_of_nodes(rng):
    matrices = torch.randn(2, 4, 4, 3, generator=rng)
    element = relabelled(rng, 4, 1)[0]
    found = EdgeScalars().act(element, matrices)
    slot = element.permutation
    for i in range(4):
        for j in range(4):
            assert torch.equal(found[:, slot[i], slot[j]], matrices[:, i, j])
    assert not torch.equal(found, matrices)


def test_rows_stay_in_the_order_of_the_edges(rng):
    rows = torch.randn(7, 3, generator=rng)
    assert torch.equal(EdgeScalars().act(relabelled(rng, 4, 1)[0], rows), rows)


def test_batches_of_elements(rng):
    elements = relabelled(rng, 4, 5)
    matrices, rows = torch.randn(5, 2, 4, 4, 3, generator=rng), torch.randn(5, 7, 3, generator=rng)
    found = EdgeScalars().act(elements, matrices)
    for index in range(5):
        expected = EdgeScalars().act(elements[index], matrices[index])
        assert torch.equal(found[index], expected)
    assert torch.equal(EdgeScalars().act(elements, rows), rows)


@pytest.mark.unchecked
@pytest.mark.parametrize("shape", [(7,), (2, 4, 4), (1, 2, 4, 4, 3)], ids=str)
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"scalars: expected shape \(edges, s\) or \(clouds"):
        EdgeScalars().validate("scalars", torch.zeros(shape), Permutations())
