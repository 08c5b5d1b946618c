"""Plans of whole graphs, and of all their nodes but one."""

import pytest

from eqlib.subgraph import node_deleted_plan, node_marked_plan, whole_graph_plan
from tests.subgraph.plans.oracle import (
    GRAPHS,
    assert_same,
    nodes_of,
    plan_of,
    random_graphs,
)


def expected(graphs, policy):
    """Return the plan by its definition."""
    every, batch = list(range(graphs.num_nodes)), graphs.batch.tolist()
    whole = nodes_of(graphs)
    if policy == "whole graph":
        return plan_of(graphs, whole, list(range(graphs.num_graphs)), policy)
    copies = [whole[graph] for graph in batch]
    if policy == "node marked":
        return plan_of(graphs, copies, batch, policy, every, every)
    rest = [[v for v in copy if v != node] for node, copy in enumerate(copies)]
    return plan_of(graphs, rest, batch, policy, center=every)


MAKERS = {
    "whole graph": whole_graph_plan,
    "node deleted": node_deleted_plan,
    "node marked": node_marked_plan,
}


@pytest.mark.parametrize("policy", MAKERS)
@pytest.mark.parametrize("name", GRAPHS)
def test_plans_of_small_graphs(name, policy):
    assert_same(MAKERS[policy](*GRAPHS[name]), expected(GRAPHS[name], policy))


@pytest.mark.parametrize("policy", MAKERS)
def test_plans_of_random_graphs(policy, rng):
    graphs = random_graphs((5, 0, 1, 7), rng)
    assert_same(MAKERS[policy](*graphs), expected(graphs, policy))


@pytest.mark.parametrize("policy", MAKERS)
def test_edges_choose_nothing(policy, rng):
    graphs = random_graphs((5, 0, 1, 7), rng)
    bare = graphs._replace(edge_index=graphs.edge_index[:, :0])
    assert_same(MAKERS[policy](*bare), MAKERS[policy](*graphs))


def test_what_subgraphs_belong_to():
    graphs = GRAPHS["isolated nodes"]
    whole, deleted, marked = (make(*graphs) for make in MAKERS.values())
    assert (whole.is_rooted, deleted.is_rooted, marked.is_rooted) == (False, False, True)
    assert (whole.has_centers, deleted.has_centers, marked.has_centers) == (False, True, True)
    assert (whole.num_owners, deleted.num_owners, marked.num_owners) == (3, 5, 5)
    assert whole.owner.tolist() == [0, 1, 2]
    assert marked.owner.tolist() == [0, 1, 2, 3, 4]


def test_pairs_that_no_subgraph_holds_are_not_stored():
    deleted = node_deleted_plan(*GRAPHS["an edge"])
    assert deleted.pair_index.tolist() == [[0, 1], [0, 1]]
    assert node_deleted_plan(*GRAPHS["one node"]).num_slots == 0
