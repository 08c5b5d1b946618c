"""Patches: the neighbours of every point, in as many slots for each."""

import numpy as np
import pytest
import torch

from eqlib.frames import local_frames, nearest_patches, patches_of_edges


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


POINTS = torch.zeros(2, 5, 3)
EDGES = torch.tensor([[1, 2], [0, 0]])


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("neighbours", "error", "message"),
    [
        (EDGES.int(), TypeError, "edge_index: expected torch.int64, got torch.int32"),
        (EDGES.double(), TypeError, "edge_index: expected torch.int64, got torch.float64"),
        (EDGES[0], ValueError, r"edge_index: expected shape \(2, edges\), got \(2,\)"),
        (EDGES.mT[:1], ValueError, r"edge_index: expected shape \(2, edges\), got \(1, 2\)"),
        (EDGES + 4, ValueError, r"edge_index: expected nodes 0 \.\.\. 4, got 4 \.\.\. 6"),
        (patches_of_edges(EDGES, 5), ValueError, r"neighbours: expected .* \(2, 5\), got \(5,\)"),
    ],
    ids=["int32", "float64", "vector", "one row", "range", "patches"],
)
def test_neighbours_of_another_form_are_refused(neighbours, error, message):
    with pytest.raises(error, match=message):
        local_frames(POINTS, neighbours=neighbours)
    # control: in the right form they are taken
    assert local_frames(POINTS, neighbours=EDGES).gap.shape == (2, 5)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 2.0}, ValueError, "k: expected at least one point in a patch, got 2.0"),
        ({"num_graphs": 2}, ValueError, "num_graphs: only a ragged batch"),
        ({"batch": torch.zeros(5)}, ValueError, r"points: expected shape \(nodes, d\)"),
    ],
    ids=["k", "num_graphs", "batch"],
)
def test_layouts_that_contradict_each_other_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        nearest_patches(POINTS, **options)


@pytest.mark.unchecked
def test_slots_that_are_too_few_are_refused():
    edges = torch.tensor([[2, 0, 1, 1], [0, 2, 0, 0]])
    assert patches_of_edges(edges, 3, slots=4).nodes.shape == (3, 4)
    with pytest.raises(ValueError, match="slots: 2 cannot hold the 3 edges into one node"):
        patches_of_edges(edges, 3, slots=2)
