"""Small sets of graphs: pairs that colour refinement cannot tell apart."""

import networkx
import numpy as np
import pytest
import torch

from eqlib.models.graphs import Graphs
from tests.models.graphs.folds import random_graphs, write_folds, write_text


def circles(*sizes: int) -> tuple[int, np.ndarray]:
    """Disjoint circles: number of nodes and edges in both directions."""
    graph = networkx.disjoint_union_all([networkx.cycle_graph(size) for size in sizes])
    edges = np.array(graph.to_directed().edges, np.int64)
    return len(graph), edges.T.copy()


@pytest.fixture
def pairs() -> Graphs:
    """Pairs with labels 1 and 0: one circle, and two circles with as many nodes in all."""
    sizes = [(6,), (3, 3), (7,), (3, 4), (8,), (4, 4), (8,), (3, 5)]
    graphs = Graphs.stack(circles(*size) for size in sizes)
    graphs.y = torch.tensor([1, 0] * 4)
    return graphs


@pytest.fixture
def exp(tmp_path):
    """A folder with a stand-in of EXP: 1200 small graphs in pairs."""
    sizes = [(7,), (3, 4), (8,), (3, 5)] * 300
    graphs = [circles(*size) for size in sizes]
    nodes = [size for size, _ in graphs]
    edges = [edge_index for _, edge_index in graphs]
    (tmp_path / "exp").mkdir()
    np.savez(
        tmp_path / "exp" / "exp.npz",
        x=np.zeros((sum(nodes), 1), np.int8),
        edge_index=np.concatenate(edges, 1).astype(np.int16),
        node_ptr=np.cumsum([0, *nodes]),
        edge_ptr=np.cumsum([0, *(edge_index.shape[1] for edge_index in edges)]),
        y=np.array([1, 0] * 600, np.int8),
    )
    return tmp_path


@pytest.fixture
def text(tmp_path):
    """A folder with a stand-in of MUTAG, 43 graphs with given folds."""
    folder = tmp_path / "tu" / "MUTAG"
    write_text(folder, "MUTAG", random_graphs(43))
    write_folds(folder, 43)
    return tmp_path
