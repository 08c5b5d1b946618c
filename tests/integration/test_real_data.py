"""Layers on real molecules and real scans: what random clouds do not show."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import nn

from eqlib.frames import FrameAverage, pca_frames
from eqlib.geometry import knn_graph, radius_graph
from eqlib.symmetry import equivariance_error
from tests.tolerances import EQUIVARIANCE

pytestmark = pytest.mark.data


@pytest.fixture
def molecules(data) -> torch.Tensor:
    """Return conformations of aspirin in Å, (conformations, atoms, 3)."""
    with np.load(data / "molecules/rmd17_aspirin/rmd17_aspirin.npz", allow_pickle=False) as file:
        return torch.from_numpy(file["training_positions"][:100]).double()


@pytest.fixture
def scan(data) -> torch.Tensor:
    """Return every fourth point of a LiDAR scan in metres, (points, 3)."""
    path = data / "lidar/kitti_mini/training/velodyne/000000.bin"
    return torch.from_numpy(np.fromfile(path, "<f4").reshape(-1, 4)[::4, :3].copy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_frame_averaging_is_exact_on_molecules(molecules, dtype):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 3)).to(dtype)
    layer = FrameAverage(network, group="E(3)")
    points = molecules.to(dtype)
    assert pca_frames(points, "E(3)").gap.min() > 2e-2
    error = equivariance_error(layer, {"points": points}).max
    assert error < EQUIVARIANCE[dtype]
    # control: the same check must reject the bare backbone
    bare = equivariance_error(lambda points: network(points), {"points": points}, layer.signature)
    assert bare.max > 1e-2


def test_bonds_of_molecules_equal_those_of_a_tree_search(molecules):
    atoms = molecules.shape[1]
    batch = torch.arange(len(molecules)).repeat_interleave(atoms)
    found = radius_graph(molecules.flatten(0, 1), 1.8, batch, len(molecules)).edge_index
    expected = {
        (graph * atoms + i, graph * atoms + j)
        for graph, points in enumerate(molecules)
        for pair in cKDTree(points.numpy()).query_pairs(1.8)
        for i, j in (pair, pair[::-1])
    }
    assert set(map(tuple, found.T.tolist())) == expected
    assert len(expected) > 40 * len(molecules)


def test_neighbours_in_a_scan_equal_those_of_a_tree_search(scan):
    points, k = scan.double(), 8
    tree = cKDTree(points.numpy())
    source, target = radius_graph(points, 0.3).edge_index
    assert len(source) == 2 * len(tree.query_pairs(0.3))
    nearest = knn_graph(points, k).edge_index
    distances = (points[nearest[0]] - points[nearest[1]]).norm(dim=1).view(-1, k)
    expected = torch.from_numpy(tree.query(points.numpy(), k + 1)[0][:, 1:])
    assert torch.allclose(distances.sort(1).values, expected, atol=1e-12)
    assert (points[source] - points[target]).norm(dim=1).max() <= 0.3
