"""Bad input is refused by all makers, with a message that names it."""

from functools import partial

import pytest
import torch

from eqlib.subgraph import (
    ego_plan,
    node_deleted_plan,
    node_marked_plan,
    plan_cost,
    whole_graph_plan,
)

pytestmark = pytest.mark.unchecked

EDGES = torch.tensor([[0, 1, 2], [1, 0, 2]])
BATCH = torch.tensor([0, 0, 1])
MAKERS = {
    "ego": partial(ego_plan, when_dearer="ignore"),
    "node deleted": node_deleted_plan,
    "node marked": node_marked_plan,
    "whole graph": whole_graph_plan,
    "cost": plan_cost,
    "cost of 2 hops": partial(plan_cost, hops=2),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((EDGES.float(), BATCH), TypeError, "edge_index has dtype torch.float32; .* with .long"),
        ((EDGES.int(), BATCH), TypeError, "edge_index has dtype torch.int32; expected torch.int64"),
        ((EDGES.T, BATCH), ValueError, r"edge_index has shape \(3, 2\); expected \(2, edges\)"),
        ((EDGES[0], BATCH), ValueError, r"edge_index has shape \(3,\)"),
        ((EDGES.tolist(), BATCH), TypeError, "edge_index is of type list"),
        ((EDGES + 1, BATCH), ValueError, "edge_index has entries from 1 to 3; .* nodes = 3"),
        ((EDGES - 1, BATCH), ValueError, "edge_index has entries from -1 to 1"),
        ((EDGES - 1,), ValueError, "edge_index has entries from -1 to 1"),
        ((EDGES, None, 2), ValueError, "edge_index has entries from 0 to 2; .* nodes = 2"),
        ((EDGES, BATCH.float()), TypeError, "batch has dtype torch.float32"),
        ((EDGES, BATCH.int()), TypeError, "batch has dtype torch.int32"),
        ((EDGES, BATCH[None]), ValueError, r"batch has shape \(1, 3\)"),
        ((EDGES, [0, 0, 1]), TypeError, "batch is of type list"),
        ((EDGES, BATCH.flip(0)), ValueError, "batch is not sorted"),
        ((EDGES, BATCH - 1), ValueError, "batch has entries from -1 to 0"),
        ((EDGES, BATCH, None, 1), ValueError, "batch has entries from 0 to 1; .* num_graphs = 1"),
        ((EDGES, BATCH, 4), ValueError, r"batch has shape \(3,\) and num_nodes is 4"),
        ((EDGES, BATCH, -1), ValueError, "num_nodes is -1; expected at least 0"),
        ((EDGES, BATCH, 3.0), TypeError, "num_nodes is 3.0; expected an integer"),
        ((EDGES, BATCH, None, -1), ValueError, "num_graphs is -1"),
        ((EDGES, BATCH, None, True), TypeError, "num_graphs is True"),
        ((EDGES, None, None, 2), ValueError, "num_graphs is 2 and batch is missing"),
        (
            (torch.tensor([[0, 2], [1, 1]]), BATCH),
            ValueError,
            "edge_index joins nodes 2 and 1, which batch puts into graphs 1 and 0",
        ),
        ((EDGES, BATCH.to("meta")), ValueError, "batch is on meta and edge_index on cpu"),
    ],
    ids=[
        "float edges",
        "int32 edges",
        "transposed edges",
        "a row of edges",
        "a list of edges",
        "large node",
        "negative node",
        "negative node without batch",
        "node beyond num_nodes",
        "float batch",
        "int32 batch",
        "matrix batch",
        "a list as batch",
        "unsorted batch",
        "negative batch",
        "graph beyond num_graphs",
        "nodes beyond batch",
        "negative num_nodes",
        "float num_nodes",
        "negative num_graphs",
        "bool num_graphs",
        "graphs without batch",
        "edge between graphs",
        "devices",
    ],
)
def test_bad_graphs(name, arguments, error, message):
    with pytest.raises(error, match=message):
        MAKERS[name](*arguments)


@pytest.mark.parametrize("name", MAKERS)
def test_control_good_graphs_pass(name):
    MAKERS[name](EDGES, BATCH)
