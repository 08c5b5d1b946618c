"""Graphs as features of pairs of nodes."""

import pytest
import torch

from eqlib.subgraph import ego_plan, node_deleted_plan, pair_features, whole_graph_plan
from tests.subgraph.plans.oracle import GRAPHS, random_graphs, stack


def egos(graphs, **options):
    return ego_plan(*graphs, when_dearer="ignore", **options)


def by_loops(plan, edge_index, edge_features, node_features):
    """Return the features of each stored pair by their definition."""
    edges = list(map(tuple, edge_index.T.tolist()))
    rows = []
    for i, j in plan.pair_index.T.tolist():
        here = [edge for edge, pair in enumerate(edges) if pair == (i, j)]
        flags = torch.tensor([float(len(here) > 0), float(i == j)]).double()
        own = node_features[i] * (i == j)
        rows.append(torch.cat([flags, edge_features[here].sum(0), own]))
    return torch.stack(rows)


def features(graphs, rng, dtype=torch.float64):
    edges = torch.randn(graphs.edge_index.shape[1], 3, dtype=dtype, generator=rng)
    return edges, torch.randn(graphs.num_nodes, 2, dtype=dtype, generator=rng)


@pytest.mark.parametrize("hops", [1, 2], ids=["1 hop", "2 hops"])
def test_features_are_their_definition(hops, rng):
    graphs = random_graphs((6, 0, 1, 7), rng)
    plan, values = egos(graphs, hops=hops), features(graphs, rng)
    found = pair_features(plan, graphs.edge_index, *values)
    torch.testing.assert_close(found, by_loops(plan, graphs.edge_index, *values))


def test_control_the_direction_of_edges_counts(rng):
    graphs = random_graphs((6, 7), rng)
    plan, values = egos(graphs), features(graphs, rng)
    found = pair_features(plan, graphs.edge_index.flip(0), *values)
    wanted = by_loops(plan, graphs.edge_index, *values)
    assert (found - wanted).abs().max() > 0.1
    torch.testing.assert_close(found[plan.slot_transpose][:, :5], wanted[:, :5])


def test_flags_alone():
    graphs = GRAPHS["repeated edges"]
    plan = egos(graphs)
    found = pair_features(plan, graphs.edge_index)
    assert plan.pair_index.T.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 2]]
    assert found.tolist() == [[0, 1], [1, 0], [1, 0], [0, 1], [1, 1]]
    assert found.dtype == torch.get_default_dtype()
    assert pair_features(plan, graphs.edge_index, dtype=torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("name", GRAPHS)
def test_degenerate_graphs(name):
    graphs = GRAPHS[name]
    plan = egos(graphs)
    edges = torch.ones(graphs.edge_index.shape[1], 0)
    found = pair_features(plan, graphs.edge_index, edges, torch.ones(graphs.num_nodes, 4))
    assert found.shape == (plan.num_slots, 6)
    assert found.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dtypes(dtype, rng):
    graphs = random_graphs((6, 7), rng)
    plan, values = egos(graphs), features(graphs, rng)
    low = [value.to(dtype) for value in values]
    found = pair_features(plan, graphs.edge_index, *low)
    wanted = pair_features(plan, graphs.edge_index, *(value.double() for value in low))
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), wanted, rtol=torch.finfo(dtype).eps, atol=1e-6)
    mixed = pair_features(plan, graphs.edge_index, low[0], values[1])
    assert mixed.dtype == torch.float64


def test_gradients(rng):
    graphs = random_graphs((4, 3), rng)
    plan = egos(graphs)
    values = [value.requires_grad_() for value in features(graphs, rng)]

    def place(edges, nodes):
        return pair_features(plan, graphs.edge_index, edges, nodes)

    assert torch.autograd.gradcheck(place, values)
    assert torch.autograd.gradgradcheck(place, values)


def test_features_are_relabelled_with_the_graph(rng):
    graphs = random_graphs((6, 5), rng)
    edges, nodes = features(graphs, rng)
    order = torch.cat([torch.randperm(6, generator=rng), 6 + torch.randperm(5, generator=rng)])
    moved = graphs._replace(edge_index=order[graphs.edge_index])
    plan, moved_plan = egos(graphs), egos(moved)
    found = pair_features(moved_plan, moved.edge_index, edges, nodes[order.argsort()])
    names = order[plan.pair_index]
    into = (names[0] * 11 + names[1]).argsort()
    wanted = pair_features(plan, graphs.edge_index, edges, nodes)[into]
    torch.testing.assert_close(found, wanted)
    # control: without moving the nodes' features
    wrong = pair_features(moved_plan, moved.edge_index, edges, nodes)
    assert (wrong - wanted).abs().max() > 0.1


def test_missing_pairs():
    graphs = stack((2, [(0, 1), (1, 0)]), (3, [(0, 1), (1, 2)]))
    plan = node_deleted_plan(*graphs)
    with pytest.raises(ValueError, match=r"node deleted\) holds the pair \(0, 1\); .*'drop'"):
        pair_features(plan, graphs.edge_index)
    found = pair_features(plan, graphs.edge_index, missing="drop")
    assert found[:, 0].sum() == 2
    single = node_deleted_plan(*GRAPHS["one node"])
    with pytest.raises(ValueError, match="node_features: no subgraph"):
        pair_features(single, torch.zeros(2, 0).long(), None, torch.ones(1, 1))
    ones = torch.ones(1, 1)
    assert pair_features(single, torch.zeros(2, 0).long(), None, ones, missing="drop").shape == (
        0,
        3,
    )


EDGES = torch.tensor([[0, 1], [1, 0]])
PLAN = whole_graph_plan(EDGES, num_nodes=3)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((EDGES.int(),), TypeError, "edge_index has dtype torch.int32"),
        ((EDGES[0],), ValueError, r"edge_index has shape \(2,\)"),
        ((EDGES + 2,), ValueError, "edge_index has entries from 2 to 3"),
        ((EDGES.to("meta"),), ValueError, "edge_index is on meta and plan on cpu"),
        ((EDGES, torch.ones(2)), ValueError, r"edge_features has shape \(2,\); expected \(2, chan"),
        ((EDGES, torch.ones(3, 1)), ValueError, r"edge_features has shape \(3, 1\); expected \(2,"),
        ((EDGES, torch.ones(2, 1).long()), TypeError, "edge_features has dtype torch.int64"),
        ((EDGES, None, torch.ones(2, 1)), ValueError, r"node_features has shape \(2, 1\)"),
        ((EDGES, None, torch.ones(3)), ValueError, r"node_features has shape \(3,\)"),
        ((EDGES, None, torch.ones(3, 1).bool()), TypeError, "node_features has dtype torch.bool"),
    ],
    ids=[
        "int32 edges",
        "a row of edges",
        "large node",
        "devices",
        "flat edge features",
        "edge rows",
        "integer edge features",
        "node rows",
        "flat node features",
        "bool node features",
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        pair_features(PLAN, *arguments)


@pytest.mark.unchecked
def test_unknown_choice():
    with pytest.raises(ValueError, match="missing is 'zero'; expected error or drop"):
        pair_features(PLAN, EDGES, missing="zero")
