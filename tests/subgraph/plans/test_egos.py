"""Ego nets hold the nodes within some hops, whatever the edges look like."""

import pytest
import torch

from eqlib.subgraph import ego_plan
from tests.subgraph.plans.oracle import (
    GRAPHS,
    assert_same,
    ego_plan_of,
    random_graphs,
    stack,
)


@pytest.mark.parametrize("rooted", [False, True], ids=["plain", "rooted"])
@pytest.mark.parametrize("hops", [1, 2, 3], ids=["1 hop", "2 hops", "3 hops"])
@pytest.mark.parametrize("name", GRAPHS)
def test_plans_of_small_graphs(name, hops, rooted):
    graphs = GRAPHS[name]
    plan = ego_plan(*graphs, hops=hops, rooted=rooted, when_dearer="ignore")
    assert_same(plan, ego_plan_of(graphs, hops, rooted))


@pytest.mark.parametrize("density", [0.05, 0.3], ids=["sparse", "dense"])
@pytest.mark.parametrize("hops", [1, 2, 4], ids=["1 hop", "2 hops", "4 hops"])
def test_plans_of_random_graphs(hops, density, rng):
    graphs = random_graphs((9, 1, 0, 12, 6), rng, density)
    plan = ego_plan(*graphs, hops=hops, rooted=True, when_dearer="ignore")
    assert_same(plan, ego_plan_of(graphs, hops, rooted=True))


def test_control_a_plan_of_other_hops_differs(rng):
    graphs = random_graphs((9, 5), rng, 0.1)
    with pytest.raises(AssertionError, match="node"):
        assert_same(ego_plan(*graphs, when_dearer="ignore"), ego_plan_of(graphs, hops=2))


def test_directions_repetitions_and_loops_of_edges_change_nothing(rng):
    edge_index, *graphs = random_graphs((7, 4), rng)
    both = torch.cat([edge_index, edge_index.flip(0)], 1).unique(dim=1)
    simple = both[:, both[0] != both[1]]
    expected = ego_plan(simple, *graphs, hops=2, when_dearer="ignore")
    for same in (edge_index, edge_index.flip(0), edge_index.flip(1), both, both.repeat(1, 3)):
        assert_same(ego_plan(same, *graphs, hops=2, when_dearer="ignore"), expected)


def test_the_root_is_the_center_in_its_own_ego_net(rng):
    plan = ego_plan(*random_graphs((8, 3, 1), rng), rooted=True, when_dearer="ignore")
    assert plan.node[plan.root].tolist() == plan.center.tolist() == list(range(12))
    assert plan.subgraph[plan.root].tolist() == list(range(12))


def test_sizes_are_filled_in():
    edge_index = torch.tensor([[0, 3], [1, 4]])
    plan = ego_plan(edge_index)
    assert_same(plan, ego_plan_of(stack((5, [(0, 1), (3, 4)]))))
    assert ego_plan(edge_index, num_nodes=7).num_nodes == 7
    several = ego_plan(edge_index, torch.tensor([0, 0, 0, 2, 2]), when_dearer="ignore")
    assert (several.num_graphs, several.num_nodes) == (3, 5)
    nothing = ego_plan(edge_index[:, :0])
    assert (nothing.num_graphs, nothing.num_nodes, nothing.num_pairs) == (1, 0, 0)


def test_strided_edges_are_fine(rng):
    edge_index, *graphs = random_graphs((6, 6), rng)
    strided = edge_index.T.contiguous().T
    assert not strided.is_contiguous()
    plan = ego_plan(strided, *graphs, when_dearer="ignore")
    assert_same(plan, ego_plan(edge_index, *graphs, when_dearer="ignore"))


def test_numbers_and_kinds_of_a_plan(rng):
    graphs = random_graphs((6, 0, 3), rng)
    plan = ego_plan(*graphs, when_dearer="ignore")
    sizes = [len(net) for net in plan.node.split(plan.sizes.tolist())]
    assert plan.sizes.tolist() == sizes
    assert (plan.num_members, plan.num_pairs) == (sum(sizes), sum(size**2 for size in sizes))
    assert (plan.num_nodes, plan.num_subgraphs, plan.num_graphs) == (9, 9, 3)
    assert plan.num_slots == len({*map(tuple, plan.pair_index.T.tolist())})
    assert plan.num_whole_pairs == 36 + 9
    assert plan.slot_counts.tolist() == torch.bincount(plan.slot).tolist()
    assert (plan.is_rooted, plan.has_centers) == (False, True)
    assert plan.owner.tolist() == list(range(9))
    assert plan.num_owners == 9
    assert plan.device == graphs.edge_index.device
    bare = ego_plan(graphs.edge_index[:, :0], num_nodes=9)
    assert (bare.num_pairs, bare.num_slots) == (9, 9)
    assert plan.num_bytes == sum(field.nbytes for field in plan if isinstance(field, torch.Tensor))
    assert repr(plan) == (
        f"SubgraphPlan(ego, 1 hop: 3 graphs, 9 nodes, 9 subgraphs, sum m^2 = {plan.num_pairs}, "
        f"sum n^2 = 45, {plan.num_slots} stored pairs, 0.0 MB)"
    )


@pytest.mark.gpu
def test_a_plan_is_made_on_the_device_of_the_edges(rng):
    graphs = random_graphs((9, 1, 0, 12), rng)
    there = (graphs.edge_index.cuda(), graphs.batch.cuda(), *graphs[2:])
    plan = ego_plan(*there, hops=2, rooted=True, when_dearer="ignore")
    assert plan.device.type == "cuda"
    expected = ego_plan_of(graphs, 2, rooted=True)
    assert_same(plan.to("cpu"), expected)
    chosen = torch.tensor([3, 0])
    assert_same(expected.to("cuda").select(chosen.cuda()).to("cpu"), expected.select(chosen))
