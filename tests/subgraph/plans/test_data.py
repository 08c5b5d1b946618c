"""Plans of real data sets: their cost, as published tables have it, and selections of batches."""

import pytest
import torch

from eqlib.subgraph import ego_plan, plan_cost, whole_graph_plan
from tests.subgraph.plans.oracle import Graphs, assert_same, ego_plan_of
from tests.subgraph.plans.relabelled import described, relabelled, relabelling

pytestmark = pytest.mark.data


def read(data, name) -> Graphs:
    """Read a set by the definition of its format, and without the reader of eqlib."""
    lines = iter((data / "graphs" / "tu" / name / f"{name}.txt").read_text().splitlines())
    edges, batch = [], []
    count = int(next(lines))
    for graph in range(count):
        nodes, first = int(next(lines).split()[0]), len(batch)
        for node in range(nodes):
            _, degree, *around = map(int, next(lines).split())
            edges += [(first + node, first + other) for other in around[:degree]]
        batch += [graph] * nodes
    return Graphs(torch.tensor(edges).T, torch.tensor(batch), len(batch), count)


@pytest.mark.parametrize(
    ("name", "whole", "near", "far", "stored"),
    [
        ("MUTAG", 64_381, 36_553, 149_711, 21_669),
        ("PTC", 315_512, 92_650, 420_096, None),
        ("PROTEINS", 4_028_305, 1_029_467, 4_907_443, 435_963),
        ("NCI1", 4_422_013, 1_302_381, 5_239_423, 769_673),
        ("NCI109", 4_395_204, 1_301_932, 5_252_850, None),
        ("IMDBBINARY", 492_081, 3_381_067, 17_252_475, 492_081),
        ("IMDBMULTI", 362_562, 3_669_394, 10_219_556, 362_562),
    ],
    ids=["MUTAG", "PTC", "PROTEINS", "NCI1", "NCI109", "IMDB-BINARY", "IMDB-MULTI"],
)
def test_costs(data, name, whole, near, far, stored):
    graphs = read(data, name)
    cost = plan_cost(*graphs)
    assert (cost.whole_pairs, cost.pairs) == (whole, near)
    assert plan_cost(*graphs, hops=2).pairs == far
    if stored is not None:
        assert ego_plan(*graphs, when_dearer="ignore").num_slots == stored


@pytest.mark.parametrize("name", ["MUTAG", "PROTEINS"])
def test_selections_are_plans_of_batches(data, name, rng):
    graphs = read(data, name)
    chosen = torch.randperm(graphs.num_graphs, generator=rng)[:32]
    edges, batch = [graphs.edge_index[:, :0]], [graphs.batch[:0]]
    nodes = 0
    for position, graph in enumerate(chosen.tolist()):
        inside = (graphs.batch == graph).nonzero().flatten()
        held = graphs.batch[graphs.edge_index[0]] == graph
        edges.append(graphs.edge_index[:, held] - inside[0] + nodes)
        batch.append(torch.full_like(inside, position))
        nodes += len(inside)
    alone = Graphs(torch.cat(edges, 1), torch.cat(batch), nodes, len(chosen))
    for make in (ego_plan, whole_graph_plan):
        assert_same(make(*graphs).select(chosen), make(*alone))
    far = ego_plan(*alone, hops=2, rooted=True, when_dearer="ignore")
    plan = ego_plan(*graphs, hops=2, rooted=True, when_dearer="ignore")
    assert_same(plan.select(chosen), far)


def first_of(graphs, count) -> Graphs:
    """Return the first graphs of a set."""
    nodes = int((graphs.batch < count).sum())
    edges = graphs.edge_index[:, graphs.edge_index[0] < nodes]
    return Graphs(edges, graphs.batch[:nodes], nodes, count)


@pytest.mark.parametrize(
    ("name", "hops"),
    [("MUTAG", 1), ("MUTAG", 2), ("NCI1", 2), ("IMDBBINARY", 1)],
    ids=["MUTAG, 1 hop", "MUTAG, 2 hops", "NCI1, 2 hops", "IMDB-BINARY, 1 hop"],
)
def test_plans_of_real_graphs(data, name, hops, rng):
    graphs = first_of(read(data, name), 12)
    plan = ego_plan(*graphs, hops=hops, rooted=True, when_dearer="ignore")
    assert_same(plan, ego_plan_of(graphs, hops, rooted=True))
    target = relabelling(graphs, rng)
    moved = ego_plan(*relabelled(graphs, target), hops=hops, rooted=True, when_dearer="ignore")
    every = torch.arange(graphs.num_nodes)
    assert described(moved, every) == described(plan, target)
    # control: the plan itself is another one
    assert described(plan, every)["pairs"] != described(plan, target)["pairs"]
