"""Layers commute with new numbers of nodes and graphs, on random and on real graphs."""

import functools

import pytest
import torch
from torch import nn

from eqlib.models.graphs.data.tu import read_tu
from eqlib.subgraph import (
    FeatureBatchNorm,
    FeatureGraphNorm,
    Features,
    Pointwise,
    SubgraphLayer,
    pool,
)
from tests.subgraph.batches import (
    POLICIES,
    ROOTED,
    Graphs,
    Relabelling,
    error,
    features,
    graph_rows,
    random_graphs,
)
from tests.subgraph.maps.stack import randomised
from tests.tolerances import EQUIVARIANCE

dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
policies = pytest.mark.parametrize("policy", list(POLICIES))
CHANNELS = ({2: 3, 1: 2, 0: 5}, {2: 4, 1: 6, 0: 2})
LAYERS = {
    "lean": {},
    "sum": {"aggregation": "sum"},
    "sums of nodes": {"normalised": False},
    "activation": {"activation": nn.ELU()},
    "attention": {"aggregation": "attention", "heads": 2},
    "per size": {"weights": "per_size", "sizes": (1, 3, 5)},
    "size embedding": {"weights": "size_embedding"},
}


class Net(nn.Module):
    """Two layers with norms and activations between them."""

    def __init__(self, rooted, norm):
        super().__init__()
        hidden = {2: 4, 1: 3, 0: 2}
        self.parts = nn.ModuleList(
            [
                SubgraphLayer(CHANNELS[0], hidden, rooted),
                norm(hidden),
                Pointwise(nn.ELU()),
                SubgraphLayer(hidden, hidden, rooted, residual=True),
            ]
        )

    def forward(self, pairs, nodes, scalars, *, plan):
        x = Features(pairs, nodes, scalars)
        for part in self.parts:
            x = part(*x, plan=plan)
        return x


def relabelling_error(layer, graphs, make_plan, rng, dtype, other_plan=None):
    """Largest error of a layer on the same graphs with other numbers."""
    plan, move = make_plan(graphs), Relabelling.draw(graphs, rng)
    relabelled = (other_plan or make_plan)(move.graphs(graphs))
    x = features(rng, graph_rows(plan), dtype=dtype)
    layer = layer.to(dtype)
    found = layer(*move.features(x, plan, relabelled), plan=relabelled)
    expected = move.features(layer(*x, plan=plan), plan, relabelled)
    pooled = pool(found, relabelled)[move.graph], pool(expected, relabelled)[move.graph]
    return max(error(found, expected), error(*([rows] for rows in pooled)))


def layer_of(rng, **options):
    return randomised(SubgraphLayer(*CHANNELS, **options), rng)


@policies
@pytest.mark.parametrize("options", list(LAYERS.values()), ids=list(LAYERS))
@dtypes
def test_layers_commute_with_relabelling(policy, options, dtype, rng):
    layer = layer_of(rng, rooted=policy in ROOTED, **options)
    worst = relabelling_error(layer, random_graphs(rng), POLICIES[policy], rng, dtype)
    assert worst < EQUIVARIANCE[dtype]


@policies
@pytest.mark.parametrize("norm", [FeatureBatchNorm, FeatureGraphNorm])
@dtypes
def test_networks_commute_with_relabelling(policy, norm, dtype, rng):
    net = randomised(Net(policy in ROOTED, norm), rng)
    worst = relabelling_error(net, random_graphs(rng, (6, 5, 7)), POLICIES[policy], rng, dtype)
    assert worst < EQUIVARIANCE[dtype]


@pytest.mark.data
@pytest.mark.parametrize("name", ["MUTAG", "PROTEINS", "NCI1", "IMDBBINARY"])
@pytest.mark.parametrize("policy", ["ego", "ego rooted", "whole"])
@dtypes
def test_layers_commute_with_relabelling_of_real_graphs(name, policy, dtype, rng, data):
    graphs = real_graphs(data, name, 12)
    net = randomised(Net(policy in ROOTED, FeatureBatchNorm), rng)
    worst = relabelling_error(net, graphs, POLICIES[policy], rng, dtype)
    assert worst < EQUIVARIANCE[dtype]


read_once = functools.cache(read_tu)


def real_graphs(data, name, count):
    """The first graphs of a set, in one batch."""
    found = read_once(data / "graphs" / "tu" / name / f"{name}.txt")
    nodes, edges = found.node_ptr[: count + 1], found.edge_ptr[: count + 1]
    shift = nodes[:-1].repeat_interleave(edges.diff())
    batch = torch.arange(count).repeat_interleave(nodes.diff())
    return Graphs(found.edge_index[:, : edges[-1]] + shift, batch, int(nodes[-1]), count)


def test_a_layer_with_a_mark_must_not_move_it(rng):
    """Control: the first node of each ego net is no root that relabelling respects."""

    def first_is_root(graphs):
        plan = POLICIES["ego rooted"](graphs)
        return plan._replace(root=plan.starts[:-1].clone())

    rooted, free = layer_of(rng, rooted=True), layer_of(rng)
    graphs = random_graphs(rng)
    assert relabelling_error(rooted, graphs, first_is_root, rng, torch.float64) > 1e-2
    assert relabelling_error(free, graphs, first_is_root, rng, torch.float64) < 1e-12


def test_control_a_plan_of_other_edges_is_seen(rng):
    layer, graphs = layer_of(rng), random_graphs(rng)
    unmoved = lambda _: POLICIES["whole"](graphs)  # noqa: E731
    worst = relabelling_error(layer, graphs, unmoved, rng, torch.float64)
    assert worst > 1e-2


def test_control_pairs_filed_under_another_pair_are_seen(rng):
    """As where pairs are filed by the number of members seen so far, not that of the subgraph."""

    def filed_wrongly(graphs):
        plan = POLICIES["ego"](graphs)
        return plan._replace(slot=plan.slot.roll(1))

    layer, graphs = layer_of(rng, activation=nn.Identity()), random_graphs(rng)
    assert relabelling_error(layer, graphs, filed_wrongly, rng, torch.float64) > 1e-2


def test_control_a_transpose_with_a_wrong_partner_is_seen(rng):
    def tilted(graphs):
        plan = POLICIES["ego"](graphs)
        even = torch.minimum(plan.row, plan.column) % 2 == 0
        own = torch.arange(plan.num_pairs)
        return plan._replace(transpose=torch.where(even, own, plan.transpose))

    layer, graphs = layer_of(rng, activation=nn.Identity()), random_graphs(rng)
    assert relabelling_error(layer, graphs, tilted, rng, torch.float64) > 1e-2
