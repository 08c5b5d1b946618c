"""Graphs of torch_geometric give the same as their tensors, and take features back."""

import subprocess
import sys
from functools import partial

import pytest
import torch

from eqlib.subgraph import (
    Features,
    ego_plan,
    from_data,
    node_deleted_plan,
    pair_features,
    to_data,
    whole_graph_plan,
)
from tests.subgraph.plans.oracle import assert_same

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

EGOS = partial(ego_plan, when_dearer="ignore")


def graphs(rng):
    from torch_geometric.data import Data

    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    return [
        Data(
            x=torch.randn(nodes, 2, dtype=torch.float64, generator=rng),
            tag=torch.arange(nodes),
            edge_index=edges,
            edge_attr=torch.rand(4, generator=rng),
            edge_length=torch.rand(4, 2, generator=rng),
        )
        for nodes in (3, 4)
    ]


@pytest.fixture
def batch(rng):
    from torch_geometric.data import Batch

    return Batch.from_data_list(graphs(rng))


def test_a_batch_gives_what_its_tensors_give(batch):
    features, plan = from_data(batch, ["x", "tag"], ["edge_attr", "edge_length"], plan=EGOS)
    assert_same(plan, EGOS(batch.edge_index, batch.batch, 7, 2))
    nodes = torch.cat([batch.x, batch.tag[:, None].double()], 1)
    edges = torch.cat([batch.edge_attr[:, None], batch.edge_length], 1)
    expected = pair_features(plan, batch.edge_index, edges, nodes)
    torch.testing.assert_close(features.pairs, expected, rtol=0, atol=0)
    assert features.nodes is None
    assert features.scalars is None


def test_where_features_of_nodes_go(batch):
    plan = EGOS(batch.edge_index, batch.batch)
    both, _ = from_data(batch, plan=plan, nodes_in="both")
    apart, _ = from_data(batch, plan=plan, nodes_in="nodes")
    torch.testing.assert_close(both.nodes, batch.x)
    torch.testing.assert_close(apart.nodes, batch.x)
    torch.testing.assert_close(apart.pairs, pair_features(plan, batch.edge_index).double())
    assert both.pairs.shape == (plan.num_slots, 4)
    bare, _ = from_data(batch, None, plan=plan)
    assert (bare.pairs.shape, bare.pairs.dtype) == ((plan.num_slots, 2), torch.float32)


def test_one_graph_is_a_batch_of_one(rng):
    from torch_geometric.data import Batch, Data

    data = graphs(rng)[0]
    features, plan = from_data(data, plan=EGOS)
    expected, same = from_data(Batch.from_data_list([data]), plan=EGOS)
    assert_same(plan, same)
    torch.testing.assert_close(features.pairs, expected.pairs)
    no_edge = torch.zeros(2, 0, dtype=torch.int64)
    nothing = Data(edge_index=no_edge, num_nodes=3)
    features, plan = from_data(nothing, None)
    assert (plan.num_graphs, plan.num_slots, features.pairs.shape) == (1, 3, (3, 2))
    atom = Data(torch.ones(1, 2), no_edge, torch.zeros(0, 3))
    features, _ = from_data(atom, edges="edge_attr", plan=EGOS)
    assert features.pairs.tolist() == [[0, 1, 0, 0, 0, 1, 1]]
    empty = Data(torch.zeros(0, 2), no_edge)
    features, plan = from_data(Batch.from_data_list([empty, empty]), plan=EGOS)
    assert (plan.num_graphs, features.pairs.shape) == (2, (0, 4))


def test_a_vector_named_batch_tells_the_graphs(batch):
    from torch_geometric.data import Data

    bare = Data(batch.x, batch.edge_index, batch=batch.batch)
    features, plan = from_data(bare, plan=EGOS)
    expected, same = from_data(batch, plan=EGOS)
    assert_same(plan, same)
    torch.testing.assert_close(features.pairs, expected.pairs)


def test_the_plan_of_a_data_set_serves_its_batches(rng):
    from torch_geometric.data import Batch

    several = [data for _ in range(3) for data in graphs(rng)]
    whole = Batch.from_data_list(several)
    plan = EGOS(whole.edge_index, whole.batch)
    chosen = [4, 1, 1, 0]
    part = Batch.from_data_list([several[graph] for graph in chosen])
    features, selected = from_data(part, plan=plan.select(torch.tensor(chosen)))
    expected, made = from_data(part, plan=EGOS)
    assert_same(selected, made)
    torch.testing.assert_close(features.pairs, expected.pairs)


def test_features_go_back(batch):
    _, plan = from_data(batch, plan=EGOS)
    features = Features(
        torch.ones(plan.num_slots, 5), torch.arange(7.0)[:, None], torch.ones(plan.num_owners, 2)
    )
    found = to_data(batch, features, plan)
    assert found is not batch
    assert batch.x.shape == (7, 2)
    assert "pair_attr" not in batch
    assert found.x is features.nodes
    assert found.u is features.scalars
    assert found.pair_attr is features.pairs
    assert found.pair_index is plan.pair_index
    first, second = found.to_data_list()
    assert (first.x.tolist(), second.x.tolist()) == ([[0], [1], [2]], [[3], [4], [5], [6]])
    named = to_data(batch, features, plan, nodes="h", scalars=None, pairs=None)
    assert named.h is features.nodes
    assert named.x is batch.x
    assert "u" not in named
    assert "pair_index" not in named


def test_features_of_graphs_go_back(batch):
    plan = whole_graph_plan(batch.edge_index, batch.batch)
    found = to_data(batch, Features(scalars=torch.ones(2, 3)), plan)
    assert found.u.shape == (2, 3)


def test_edges_that_no_subgraph_holds():
    from torch_geometric.data import Data

    data = Data(edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=2)
    with pytest.raises(ValueError, match="no subgraph of the plan"):
        from_data(data, None, plan=node_deleted_plan)
    features, _ = from_data(data, None, plan=node_deleted_plan, missing="drop")
    assert features.pairs.tolist() == [[0, 1], [0, 1]]


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("mass",), {}, ValueError, "mass: the graph has no such tensor; it has "),
        (("edge_attr",), {}, ValueError, r"edge_attr has shape \(8,\); expected \(7,\) or \(7, s"),
        (("x", "x"), {}, ValueError, r"x has shape \(7, 2\); expected \(8,\) or .* per edge"),
        (("x",), {"nodes_in": "edges"}, ValueError, "nodes_in is 'edges'; expected pairs, nodes"),
        (("x",), {"plan": "ego"}, TypeError, "plan is of type str; expected a SubgraphPlan, or a"),
        (("x",), {"plan": lambda *_: 3}, TypeError, "plan is of type int"),
    ],
    ids=["no tensor", "rows of nodes", "rows of edges", "place", "plan", "maker"],
)
def test_bad_input(arguments, options, error, message, batch):
    with pytest.raises(error, match=message):
        from_data(batch, *arguments, **{"plan": EGOS, **options})


@pytest.mark.unchecked
def test_bad_graphs_and_plans(batch, rng):
    from torch_geometric.data import Data, HeteroData

    plan = EGOS(batch.edge_index, batch.batch)
    for wrong in ({"x": batch.x}, HeteroData(), batch.edge_index):
        with pytest.raises(TypeError, match=r"data.* expected a Data or a Batch"):
            from_data(wrong)
        with pytest.raises(TypeError, match="expected a Data or a Batch"):
            to_data(wrong, Features(), plan)
    with pytest.raises(ValueError, match="edge_index: the graph has no such tensor; it has x"):
        from_data(Data(x=torch.ones(2, 1)))
    part = plan.select(torch.tensor([1]))
    with pytest.raises(ValueError, match=r"plan has 4 nodes and data 7; .* plan.select\(graphs\)"):
        from_data(batch, plan=part)
    with pytest.raises(ValueError, match="plan has 4 nodes and data 7"):
        to_data(batch, Features(), part)
    with pytest.raises(ValueError, match=r"features.pairs has \d+ rows; expected .* aggregate"):
        to_data(batch, Features(torch.ones(plan.num_pairs, 1)), plan)


def test_no_import_of_torch_geometric():
    code = "import sys, eqlib.subgraph; print('torch_geometric' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
