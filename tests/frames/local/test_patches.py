"""Patches: the neighbours of every point, in as many slots for each."""

import numpy as np
import pytest
import torch

from eqlib.frames import nearest_patches, patches_of_edges


def test_patches_are_the_nearest_points_of_the_same_cloud(rng):
    from scipy.spatial import cKDTree

    points = torch.randn(2, 3, 11, 2, dtype=torch.float64, generator=rng)
    patches = nearest_patches(points, 4)
    assert patches.nodes.shape == (2, 3, 11, 4)
    assert patches.exists.all()
    for i in range(2):
        for j in range(3):
            _, nearest = cKDTree(points[i, j].numpy()).query(points[i, j].numpy(), 4)
            assert np.array_equal(patches.nodes[i, j].numpy(), nearest)


def test_slots_beyond_the_last_neighbour_hold_the_point_itself(rng):
    points = torch.randn(3, 3, dtype=torch.float64, generator=rng)
    patches = nearest_patches(points, 5)
    assert patches.exists.tolist() == 3 * [[True] * 3 + [False] * 2]
    assert patches.nodes[:, 3:].tolist() == [[0, 0], [1, 1], [2, 2]]


def test_edges_of_different_numbers_fill_as_many_slots():
    edges = torch.tensor([[2, 0, 1, 1], [0, 2, 0, 0]])
    patches = patches_of_edges(edges, 3)
    assert patches.nodes.tolist() == [[2, 1, 1], [1, 1, 1], [0, 2, 2]]
    assert patches.exists.tolist() == [[True] * 3, [False] * 3, [True, False, False]]
    assert patches_of_edges(edges[:, :0], 2).nodes.shape == (2, 0)


@pytest.mark.unchecked
def test_slots_that_are_too_few_are_refused():
    edges = torch.tensor([[2, 0, 1, 1], [0, 2, 0, 0]])
    assert patches_of_edges(edges, 3, slots=4).nodes.shape == (3, 4)
    with pytest.raises(ValueError, match="slots: 2 cannot hold the 3 edges into one node"):
        patches_of_edges(edges, 3, slots=2)
