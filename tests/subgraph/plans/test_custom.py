"""Plans of subgraphs that the user chooses."""

import pytest
import torch

from eqlib.subgraph import custom_plan, ego_plan
from eqlib.subgraph.plans.members import bounds
from tests.subgraph.plans.oracle import assert_same, plan_of, random_graphs, stack

BATCH = torch.tensor([0, 0, 0, 2, 2])
NODE = torch.tensor([2, 0, 1, 4, 3])
SUBGRAPH = torch.tensor([0, 0, 1, 2, 2])
BARE = stack((3, []), (0, []), (2, []))


def test_members_in_any_order():
    expected = plan_of(BARE, [[0, 2], [1], [3, 4]], [0, 0, 2], "custom")
    assert_same(custom_plan(NODE, SUBGRAPH, BATCH), expected)
    order = torch.tensor([4, 2, 0, 3, 1])
    assert_same(custom_plan(NODE[order], SUBGRAPH[order], BATCH), expected)


def test_roots_centers_and_empty_subgraphs():
    plan = custom_plan(
        NODE,
        torch.tensor([0, 0, 1, 3, 3]),
        BATCH,
        num_graphs=4,
        graph=torch.tensor([0, 0, 1, 2, 3]),
        center=None,
        policy="rings",
    )
    graphs = BARE._replace(num_graphs=4)
    expected = plan_of(graphs, [[0, 2], [1], [], [3, 4], []], [0, 0, 1, 2, 3], "rings")
    assert_same(plan, expected)
    root, center = torch.tensor([2, 1, 3]), torch.tensor([1, 1, 3])
    marked = custom_plan(NODE, SUBGRAPH, BATCH, root=root, center=center)
    assert_same(
        marked,
        plan_of(BARE, [[0, 2], [1], [3, 4]], [0, 0, 2], "custom", [2, 1, 3], [1, 1, 3]),
    )


def test_ego_nets_are_a_choice_like_others(rng):
    graphs = random_graphs((5, 0, 8), rng)
    plan = ego_plan(*graphs, rooted=True, when_dearer="ignore")
    same = custom_plan(
        plan.node,
        plan.subgraph,
        graphs.batch,
        graphs.num_graphs,
        root=plan.center,
        center=plan.center,
        policy=plan.policy,
    )
    assert_same(same, plan)


def test_no_subgraphs():
    none = torch.zeros(0, dtype=torch.int64)
    plan = custom_plan(none, none, BATCH)
    assert (plan.num_subgraphs, plan.num_pairs, plan.num_slots, plan.num_graphs) == (0, 0, 0, 3)
    assert plan.member_starts.tolist() == [0] * 6
    assert custom_plan(none, none, none).num_graphs == 0


def test_large_indices():
    """Pairs of nodes are told apart where first * nodes + second passes 2^31."""
    nodes = 60_000
    last = nodes - 1
    node, subgraph = torch.tensor([0, last, 1, last, 0, last]), torch.tensor([0, 0, 1, 1, 2, 2])
    plan = custom_plan(node, subgraph, torch.zeros(nodes, dtype=torch.int64))
    stored = [(0, 0), (0, last), (1, 1), (1, last), (last, 0), (last, 1), (last, last)]
    assert plan.pair_index.T.tolist() == [list(pair) for pair in stored]
    assert plan.slot_counts.tolist() == [2, 2, 1, 1, 2, 1, 3]
    assert plan.select(torch.tensor([0])).slot.tolist() == plan.slot.tolist()


def test_pairs_are_counted_in_64_bits():
    sizes = torch.full((3,), 50_000)
    assert bounds(sizes * sizes).tolist() == [0, 2_500_000_000, 5_000_000_000, 7_500_000_000]


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"node": NODE.int()}, TypeError, "node has dtype torch.int32"),
        ({"node": NODE.tolist()}, TypeError, "node is of type list"),
        ({"node": NODE + 1}, ValueError, "node has entries from 1 to 5; .* number of nodes = 5"),
        ({"node": NODE[:4]}, ValueError, r"subgraph has shape \(5,\) and node \(4,\)"),
        ({"node": NODE[[0, 0, 2, 3, 4]]}, ValueError, "subgraph 0 has node 2 twice"),
        (
            {"node": NODE[[0, 1, 2, 4, 2]]},
            ValueError,
            "subgraph 2 belongs to graph 0 and has a node",
        ),
        ({"subgraph": SUBGRAPH - 1}, ValueError, "subgraph has the entry -1"),
        ({"subgraph": SUBGRAPH[None]}, ValueError, r"subgraph has shape \(1, 5\)"),
        ({"subgraph": SUBGRAPH * 2}, ValueError, "subgraph skips a number; give graph"),
        ({"subgraph": 2 - SUBGRAPH}, ValueError, "expected subgraphs numbered graph by graph"),
        ({"subgraph": SUBGRAPH.to("meta")}, ValueError, "subgraph is on meta and node on cpu"),
        ({"batch": BATCH.flip(0)}, ValueError, "batch is not sorted"),
        ({"num_graphs": 2}, ValueError, "batch has entries from 0 to 2"),
        ({"num_graphs": 2.0}, TypeError, "num_graphs is 2.0"),
        ({"graph": torch.tensor([0, 0])}, ValueError, "graph has 2 entries and subgraph goes up"),
        ({"graph": torch.tensor([0, 0, 3])}, ValueError, "graph has entries from 0 to 3"),
        ({"graph": torch.tensor([0, 1, 2])}, ValueError, "subgraph 1 belongs to graph 1 and has"),
        ({"root": torch.tensor([0, 0, 3])}, ValueError, "node 0 is no member of subgraph 1"),
        ({"root": torch.tensor([0, 1])}, ValueError, r"root has shape \(2,\); .* of 3 subgraphs"),
        ({"root": torch.tensor([0, 1, 9])}, ValueError, "root has entries from 0 to 9"),
        ({"center": torch.tensor([0, 1, 2])}, ValueError, "center has a node of another graph"),
        ({"limit": -1}, ValueError, "limit is -1"),
    ],
    ids=[
        "int32 node",
        "a list of nodes",
        "large node",
        "rows",
        "twice",
        "two graphs",
        "negative subgraph",
        "matrix",
        "skipped subgraph",
        "order of subgraphs",
        "devices",
        "unsorted batch",
        "graph beyond num_graphs",
        "float num_graphs",
        "short graph",
        "large graph",
        "wrong graph",
        "root outside",
        "short root",
        "large root",
        "center outside",
        "limit",
    ],
)
def test_bad_input(changes, error, message):
    arguments = {"node": NODE, "subgraph": SUBGRAPH, "batch": BATCH}
    with pytest.raises(error, match=message):
        custom_plan(**{**arguments, **changes})
