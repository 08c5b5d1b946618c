"""Relabelling the nodes of a graph relabels its plan."""

from functools import partial

import pytest
import torch

from eqlib.subgraph import (
    ego_plan,
    node_deleted_plan,
    node_marked_plan,
    whole_graph_plan,
)
from tests.subgraph.plans.oracle import random_graphs
from tests.subgraph.plans.relabelled import described, relabelled, relabelling

EGOS = partial(ego_plan, when_dearer="ignore")
MAKERS = {
    "1 hop": EGOS,
    "2 hops, rooted": partial(EGOS, hops=2, rooted=True),
    "node deleted": node_deleted_plan,
    "node marked": node_marked_plan,
    "whole graph": whole_graph_plan,
}


@pytest.mark.parametrize("name", MAKERS)
def test_relabelled_graphs_have_relabelled_plans(name, rng):
    graphs = random_graphs((6, 1, 0, 9), rng, 0.15)
    target = relabelling(graphs, rng)
    plan, moved = MAKERS[name](*graphs), MAKERS[name](*relabelled(graphs, target))
    every = torch.arange(graphs.num_nodes)
    assert described(moved, every) == described(plan, target)


@pytest.mark.parametrize("name", ["1 hop", "2 hops, rooted"])
def test_control_without_relabelled_edges_ego_nets_differ(name, rng):
    graphs = random_graphs((6, 1, 0, 9), rng, 0.15)
    target = relabelling(graphs, rng)
    plan = MAKERS[name](*graphs)
    every = torch.arange(graphs.num_nodes)
    found, wanted = described(plan, every), described(plan, target)
    assert found["members"] != wanted["members"]
    assert found["pairs"] != wanted["pairs"]
