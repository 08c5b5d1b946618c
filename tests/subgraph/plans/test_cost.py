"""Cost and memory are known before a plan is made."""

import warnings

import pytest
import torch

from eqlib.subgraph import (
    CostWarning,
    custom_plan,
    ego_plan,
    node_deleted_plan,
    node_marked_plan,
    plan_cost,
    whole_graph_plan,
)
from tests.subgraph.plans.oracle import GRAPHS, assert_same, random_graphs, stack

TRIANGLE = stack((3, [(0, 1), (1, 2), (2, 0)]))
PATH = stack((12, [(i, i + 1) for i in range(11)]))
HUNDRED_THOUSAND = 100_000

MAKERS = {
    "ego": lambda *graphs, **options: ego_plan(*graphs, when_dearer="ignore", **options),
    "node_deleted": node_deleted_plan,
    "node_marked": node_marked_plan,
    "whole_graph": whole_graph_plan,
}


def check(cost, plan):
    """Check a cost against the plan it was told for."""
    assert cost.policy == plan.policy
    assert cost.pairs == plan.num_pairs
    assert cost.whole_pairs == plan.num_whole_pairs
    assert cost.members == plan.num_members
    assert (cost.subgraphs, cost.nodes) == (plan.num_subgraphs, plan.num_nodes)
    assert not cost.bounded
    # the plan and a channel take what was told at most, save what an empty plan has
    assert plan.num_bytes + 4 * plan.num_pairs <= cost.num_bytes + 64


@pytest.mark.parametrize("policy", MAKERS)
@pytest.mark.parametrize("name", GRAPHS)
def test_costs_of_small_graphs(policy, name):
    graphs = GRAPHS[name]
    check(plan_cost(*graphs, policy=policy), MAKERS[policy](*graphs))


@pytest.mark.parametrize("hops", [1, 2, 3], ids=["1 hop", "2 hops", "3 hops"])
def test_costs_of_ego_nets(hops, rng):
    graphs = random_graphs((14, 0, 6), rng, 0.08)
    check(plan_cost(*graphs, hops=hops), MAKERS["ego"](*graphs, hops=hops))


def test_a_cost_is_shown_in_one_line():
    cost = plan_cost(*TRIANGLE)
    assert str(cost) == "ego, 1 hop: sum m^2 = 27, sum n^2 = 9, 0.0 MB"
    assert cost.is_dearer
    assert not plan_cost(*PATH).is_dearer
    assert not plan_cost(*GRAPHS["isolated nodes"], policy="whole_graph").is_dearer


def test_dear_ego_nets_warn():
    text = (
        r"ego, 1 hop: ego nets hold sum m\^2 = 27 pairs of nodes and whole graphs sum n\^2 = 9; "
        "the plan is that of the ego nets"
    )
    with pytest.warns(CostWarning, match=text):
        plan = ego_plan(*TRIANGLE)
    assert plan.policy == "ego, 1 hop"
    assert_same(ego_plan(*TRIANGLE, when_dearer="ignore"), plan)


@pytest.mark.parametrize("choice", ["warn", "whole", "ignore"])
def test_control_cheap_ego_nets_do_not(choice):
    with warnings.catch_warnings(action="error"):
        assert ego_plan(*PATH, when_dearer=choice).policy == "ego, 1 hop"


def test_dear_ego_nets_give_way_to_whole_graphs():
    with pytest.warns(CostWarning, match="the plan is that of the whole graphs"):
        plan = ego_plan(*TRIANGLE, when_dearer="whole")
    assert_same(plan, whole_graph_plan(*TRIANGLE))
    # two hops: known to be dearer before the ego nets are found, and far beyond the limit
    ring = stack((40, [(i, (i + k) % 40) for i in range(40) for k in range(1, 11)]))
    with pytest.warns(CostWarning, match="at least"):
        plan = ego_plan(*ring, hops=2, when_dearer="whole", limit=200_000)
    assert plan.policy == "whole graph"


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"when_dearer": "raise"}, ValueError, "when_dearer is 'raise'; expected one of warn"),
        ({"when_dearer": "whole", "rooted": True}, ValueError, "a whole graph has no root"),
        ({"hops": 0}, ValueError, "hops is 0; expected at least 1"),
        ({"hops": 1.5}, TypeError, "hops is 1.5; expected an integer"),
        ({"hops": None}, TypeError, "hops is None; expected an integer"),
        ({"limit": 0}, ValueError, "limit is 0; expected a positive number of bytes"),
        ({"limit": "8 GB"}, TypeError, "limit is '8 GB'; expected a number of bytes"),
        ({"limit": float("nan")}, ValueError, "limit is nan"),
    ],
    ids=["choice", "root", "no hop", "float hops", "None hops", "zero", "text", "nan"],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        ego_plan(*PATH, **options)


@pytest.mark.unchecked
def test_bad_policy():
    with pytest.raises(ValueError, match="policy is 'edge_deleted'; expected one of ego, node_del"):
        plan_cost(*PATH, policy="edge_deleted")


@pytest.mark.parametrize("policy", MAKERS)
def test_what_is_too_large_is_not_made(policy):
    graphs = stack((9, [(i, i + 1) for i in range(8)]))
    cost = plan_cost(*graphs, policy=policy)
    with pytest.raises(ValueError, match=r"too large: .*: sum m\^2 = \d+, sum n\^2 = 81, 0.\d MB"):
        MAKERS[policy](*graphs, limit=cost.num_bytes - 1)
    plan = MAKERS[policy](*graphs, limit=cost.num_bytes)
    assert_same(plan, MAKERS[policy](*graphs, limit=None))


@pytest.mark.parametrize("policy", ["node_deleted", "node_marked", "whole_graph"])
def test_a_large_graph_is_refused(policy):
    edges = torch.tensor([[0], [1]])
    with pytest.raises(ValueError, match=r"sum m\^2 = .*sum n\^2 = 10,000,000,000, .* MB; limit"):
        MAKERS[policy](edges, None, HUNDRED_THOUSAND)
    cost = plan_cost(edges, None, HUNDRED_THOUSAND, policy=policy)
    assert cost.num_bytes >= 76 * 10**10


@pytest.mark.parametrize("nodes", [3_000_000, 2**31], ids=str)
def test_sums_do_not_overflow(nodes):
    """The sum of n^3 passes 2^63, and that of n^2 comes close to it."""
    from eqlib.subgraph.plans.arguments import GraphBatch
    from eqlib.subgraph.plans.copies import copies_cost

    batch = torch.empty(nodes, dtype=torch.int64, device="meta")
    graphs = GraphBatch(batch.new_empty(2, 0), batch, torch.tensor([nodes]))
    assert copies_cost(graphs, "node_marked").pairs == nodes**3
    assert copies_cost(graphs, "node_deleted").pairs == nodes * (nodes - 1) ** 2
    assert copies_cost(graphs, "whole_graph").whole_pairs == nodes**2


@pytest.mark.parametrize("hops", [1, 2, 3], ids=["1 hop", "2 hops", "3 hops"])
def test_a_large_hub_is_refused(hops):
    leaves = torch.arange(1, HUNDRED_THOUSAND)
    star = torch.stack([torch.zeros_like(leaves), leaves])
    with pytest.raises(
        ValueError, match=r"too large: ego, \d hops?: sum m\^2 = (at least )?10,000"
    ):
        ego_plan(star, hops=hops, when_dearer="ignore")
    cost = plan_cost(star, hops=hops)
    assert cost.pairs >= HUNDRED_THOUSAND**2
    assert cost.bounded == (hops > 1)


def test_large_sparse_graphs_are_fine(rng):
    edges = torch.randint(HUNDRED_THOUSAND, (2, 2 * HUNDRED_THOUSAND), generator=rng)
    plan = ego_plan(edges, None, HUNDRED_THOUSAND)
    cost = plan_cost(edges, None, HUNDRED_THOUSAND)
    check(cost, plan)
    assert cost.pairs < 4_000_000
    around = torch.stack([edges, edges.flip(0)], 1).flatten(1).T.tolist()
    pairs = {(i, j) for i, j in around if i != j}
    assert plan.num_members == len(pairs) + HUNDRED_THOUSAND


@pytest.mark.unchecked
@pytest.mark.parametrize("policy", MAKERS)
def test_a_wrong_number_of_a_node_takes_no_memory(policy):
    edges = torch.tensor([[0], [10**13]])
    message = "too large: 10,000,000,000,001 nodes: .* at least"
    for make in (MAKERS[policy], lambda edges: plan_cost(edges, policy=policy)):
        with pytest.raises(ValueError, match=message):
            make(edges)
    with pytest.raises(ValueError, match="subgraph skips a number"):
        custom_plan(torch.tensor([0]), torch.tensor([10**13]), torch.tensor([0]))


def test_a_custom_plan_has_the_limit_too():
    with pytest.raises(ValueError, match=r"too large: rings: sum m\^2 = 9, sum n\^2 = 9"):
        custom_plan(
            torch.arange(3), torch.zeros(3).long(), torch.zeros(3).long(), policy="rings", limit=700
        )
