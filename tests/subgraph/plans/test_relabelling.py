"""Relabelling the nodes of a graph relabels its plan."""

from functools import partial

import pytest
import torch

from eqlib.subgraph import (
    custom_plan,
    ego_plan,
    node_deleted_plan,
    node_marked_plan,
    whole_graph_plan,
)
from eqlib.subgraph.plans.relabelling import relabel, source_rows
from tests.subgraph.plans.oracle import GRAPHS, assert_same, random_graphs
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


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("graphs", [*GRAPHS.values(), None], ids=[*GRAPHS, "random"])
def test_a_relabelled_plan_is_that_of_the_relabelled_graph(name, graphs, rng):
    graphs = graphs or random_graphs((6, 1, 0, 9), rng, 0.15)
    target = relabelling(graphs, rng)
    found = relabel(MAKERS[name](*graphs), target)
    assert_same(found, MAKERS[name](*relabelled(graphs, target)))


def chosen(rng, centers):
    """Return a plan of samples of nodes; their centers, if any, are in no order and come twice."""
    batch = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1])
    subgraph = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 4, 4, 4, 4])
    node = torch.tensor([3, 0, 1, 2, 3, 0, 8, 5, 4, 5, 6, 7])
    center = torch.tensor([3, 0, 3, 8, 5]) if centers else None
    root = torch.tensor([3, 2, 0, 8, 4])
    return custom_plan(node, subgraph, batch, root=root, center=center)


@pytest.mark.parametrize("centers", [True, False], ids=["centers", "free"])
def test_plans_that_users_choose_are_relabelled(centers, rng):
    plan = chosen(rng, centers)
    first, second = (relabelling(plan, rng) for _ in range(2))
    moved, every = relabel(plan, first), torch.arange(plan.num_nodes)
    wanted = described(plan, first)
    assert described(moved, every) == wanted
    # one relabelling after the other is that by their product
    assert_same(relabel(moved, second), relabel(plan, second[first]))
    assert_same(relabel(plan, every), plan)
    assert described(plan, every) != wanted  # control


@pytest.mark.parametrize("centers", [True, False], ids=["centers", "free"])
@pytest.mark.parametrize("local", [True, False], ids=["subgraphs", "graph"])
def test_rows_come_from_the_same_nodes(centers, local, rng):
    plan = chosen(rng, centers)
    target = relabelling(plan, rng)
    moved = relabel(plan, target)

    def names(plan, target):
        owner = target[plan.owner] if plan.has_centers else plan.owner
        members = torch.stack([owner[plan.subgraph], target[plan.node]])
        if local:
            return owner, members, torch.cat([members[:, plan.row], members[1:, plan.column]])
        owners = target if plan.has_centers else torch.arange(plan.num_graphs)
        return owners, target, target[plan.pair_index]

    before, after = names(plan, target), names(moved, torch.arange(plan.num_nodes))
    for order in (0, 1, 2):
        source = source_rows(plan, target, order, local)
        assert torch.equal(before[order][..., source], after[order])
        assert torch.equal(source.sort().values, torch.arange(before[order].shape[-1]))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("permutation", "kind", "message"),
    [
        (torch.arange(9.0), TypeError, "permutation has dtype torch.float32; expected torch.int64"),
        (torch.arange(9)[None], ValueError, r"permutation has shape \(1, 9\); expected one"),
        (torch.arange(8), ValueError, r"shape \(8,\); expected each number of the 9 nodes"),
        (torch.zeros(9).long(), ValueError, "expected each number of the 9 nodes of the plan once"),
        (torch.arange(9).flip(0), ValueError, "moves nodes to other graphs; expected each in its"),
    ],
    ids=["dtype", "shape", "length", "twice", "graphs"],
)
def test_other_permutations_are_refused(permutation, kind, message, rng):
    with pytest.raises(kind, match=message):
        relabel(chosen(rng, centers=False), permutation)
