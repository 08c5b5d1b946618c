"""Plans of some graphs of a batch are those made of these graphs."""

from itertools import pairwise

import pytest
import torch

from eqlib.subgraph import (
    custom_plan,
    ego_plan,
    join_plans,
    node_deleted_plan,
    node_marked_plan,
    whole_graph_plan,
)
from tests.subgraph.plans.oracle import (
    assert_same,
    random_graphs,
    stack,
)


def egos(*graphs):
    return ego_plan(*graphs, when_dearer="ignore")


def far_rooted_egos(*graphs):
    return ego_plan(*graphs, hops=2, rooted=True, when_dearer="ignore")


def edges_as_subgraphs(edge_index, batch, num_nodes, num_graphs):
    """Each edge is a subgraph; then each graph has one without members."""
    edges = edge_index[:, edge_index[0] < edge_index[1]].unique(dim=1)
    graph, order = torch.cat([batch[edges[0]], torch.arange(num_graphs)]).sort(stable=True)
    position = order.argsort()[: edges.shape[1]]
    return custom_plan(edges.flatten(), position.repeat(2), batch, num_graphs, graph=graph)


MAKERS = [
    egos,
    far_rooted_egos,
    whole_graph_plan,
    node_deleted_plan,
    node_marked_plan,
    edges_as_subgraphs,
]
SIZES = (6, 0, 3, 1, 8, 0, 2)


def parts(rng):
    """Return graphs one by one, as numbers of nodes and lists of edges."""
    several = random_graphs(SIZES, rng)
    found, first = [], 0
    for graph, nodes in enumerate(SIZES):
        inside = several.batch[several.edge_index[0]] == graph
        edges = several.edge_index[:, inside] - first
        found.append((nodes, [tuple(edge) for edge in edges.T.tolist()]))
        first += nodes
    return found


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    "chosen",
    [[], [0], [1], [1, 5], [0, 1, 2, 3, 4, 5, 6], [6, 4, 2, 0], [4, 4, 1, 0, 4]],
    ids=["none", "one", "an empty one", "empty ones", "all", "reversed", "repeated"],
)
def test_a_selection_is_the_plan_of_the_selected_graphs(make, chosen, rng):
    graphs = parts(rng)
    plan = make(*stack(*graphs))
    alone = make(*stack(*(graphs[graph] for graph in chosen)))
    assert_same(plan.select(torch.tensor(chosen, dtype=torch.int64)), alone)


def test_selections_of_selections(rng):
    plan = egos(*random_graphs(SIZES, rng))
    once = plan.select(torch.tensor([4, 3, 0])).select(torch.tensor([2, 0]))
    assert_same(once, plan.select(torch.tensor([0, 4])))


def test_control_the_order_of_a_selection_counts(rng):
    plan = egos(*random_graphs(SIZES, rng))
    with pytest.raises(AssertionError):
        assert_same(plan.select(torch.tensor([4, 0])), plan.select(torch.tensor([0, 4])))


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("bounds", [(0, 7), (0, 3, 7), (0, 2, 2, 5, 6, 7)], ids=str)
def test_plans_are_joined(make, bounds, rng):
    graphs = parts(rng)
    plans = [make(*stack(*graphs[start:stop])) for start, stop in pairwise(bounds)]
    assert_same(join_plans(plans), make(*stack(*graphs)))


def test_selections_are_joined(rng):
    plan = far_rooted_egos(*random_graphs(SIZES, rng))
    joined = join_plans([plan.select(torch.tensor([4])), plan.select(torch.tensor([0, 2]))])
    assert_same(joined, plan.select(torch.tensor([4, 0, 2])))


@pytest.mark.parametrize(
    ("graphs", "numbers"),
    [
        ([3, 0, 3], [3, 0, 3]),
        ([], []),
        (range(2, 5), [2, 3, 4]),
        (slice(None), [0, 1, 2, 3, 4, 5, 6]),
        (slice(-2, None), [5, 6]),
        (slice(None, None, 3), [0, 3, 6]),
        (torch.tensor([0, 1, 0, 0, 1, 0, 1]).bool(), [1, 4, 6]),
        ([False, True, False, False, True, False, True], [1, 4, 6]),
    ],
    ids=str,
)
def test_graphs_are_selected_as_rows_of_a_tensor(graphs, numbers, rng):
    plan = egos(*random_graphs(SIZES, rng))
    assert_same(plan.select(graphs), plan.select(torch.tensor(numbers, dtype=torch.int64)))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("graphs", "error", "message"),
    [
        (torch.tensor([0, 7]), ValueError, "graphs has entries from 0 to 7; .* num_graphs = 7"),
        (torch.tensor([-1]), ValueError, "graphs has entries from -1 to -1"),
        (torch.tensor([0.0]), TypeError, "graphs has dtype torch.float32"),
        (torch.tensor([0]).int(), TypeError, "graphs has dtype torch.int32"),
        (torch.tensor([True]), ValueError, r"graphs has shape \(1,\); expected a mask of the 7"),
        (torch.tensor([[0]]), ValueError, r"graphs has shape \(1, 1\)"),
        (torch.tensor(0), ValueError, r"graphs has shape \(\)"),
        ([0.5], TypeError, "graphs has dtype torch.float32"),
        (range(8), ValueError, "graphs has entries from 0 to 7"),
    ],
    ids=["large", "negative", "float", "int32", "mask", "matrix", "scalar", "list", "range"],
)
def test_bad_selections(graphs, error, message, rng):
    with pytest.raises(error, match=message):
        egos(*random_graphs(SIZES, rng)).select(graphs)


@pytest.mark.unchecked
def test_bad_joins(rng):
    graphs = random_graphs((3, 2), rng)
    with pytest.raises(ValueError, match="plans is empty"):
        join_plans([])
    with pytest.raises(TypeError, match="plans has an entry of type Tensor"):
        join_plans(egos(*graphs))
    with pytest.raises(ValueError, match="different policies: ego, 1 hop, whole graph"):
        join_plans([egos(*graphs), whole_graph_plan(*graphs)])
    plan = egos(*graphs)
    with pytest.raises(ValueError, match="different roots: False, True"):
        join_plans([plan, plan._replace(root=plan.diagonal[:5])])


@pytest.mark.unchecked
def test_indices_stay_integers(rng):
    with pytest.raises(TypeError, match=r"device is torch\.float32; expected a device"):
        egos(*random_graphs(SIZES, rng)).to(torch.float32)


@pytest.mark.parametrize("belongs", [None, torch.tensor([2])], ids=["graph", "center"])
@pytest.mark.parametrize("root", [None, torch.tensor([0])], ids=["plain", "rooted"])
def test_a_selection_without_subgraphs_is_of_the_same_kind(root, belongs):
    triangle, batch = torch.arange(3), torch.tensor([0, 0, 0, 1, 1])
    plan = custom_plan(triangle, torch.zeros_like(triangle), batch, root=root, center=belongs)
    nothing = plan.select([1])
    assert nothing.num_subgraphs == 0
    assert (nothing.is_rooted, nothing.has_centers) == (root is not None, belongs is not None)
    assert nothing.num_owners == (1 if belongs is None else 2)
    assert_same(join_plans([plan.select([0]), nothing]), plan)


def test_a_plan_is_saved_and_loaded_without_running_programs(rng, tmp_path):
    plan = egos(*random_graphs(SIZES, rng))
    torch.save(plan, tmp_path / "plan.pt")
    assert_same(torch.load(tmp_path / "plan.pt", weights_only=True), plan)


def test_what_a_plan_is_made_of_may_change_later(rng):
    batch, node = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2])
    center = torch.tensor([1, 2])
    subgraph = torch.tensor([0, 0, 1])
    plan = custom_plan(node, subgraph, batch, center=center)
    for given in (batch, node, center, subgraph):
        given += 7
    expected = custom_plan(node - 7, subgraph - 7, batch - 7, center=center - 7)
    assert_same(plan, expected)


def test_a_plan_moves(rng):
    plan = egos(*random_graphs(SIZES, rng))
    moved = plan.to("meta")
    assert moved.device.type == "meta"
    for field, found in zip(plan, moved, strict=True):
        assert found.shape == field.shape if isinstance(field, torch.Tensor) else found == field
    assert_same(plan.to("cpu"), plan)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_no_two_fields_are_one_tensor(make, rng):
    plan = make(*random_graphs(SIZES, rng))
    for made in (plan, plan.select(torch.tensor([0, 2])), join_plans([plan]), plan.to("cpu")):
        fields = [field for field in made if isinstance(field, torch.Tensor)]
        places = {field.data_ptr() for field in fields if field.numel()}
        assert len(places) == sum(field.numel() > 0 for field in fields)
