"""The graph networks: symmetry, what they separate, degenerate and wrong input."""

from itertools import permutations
from math import factorial

import pytest
import torch

from eqlib.frames import node_classes
from eqlib.models.graphs import FAGIN, FAMLP, GAGIN, GIN, MLP, PPGN, SPEN, FrameAveraged
from eqlib.models.graphs.networks import IdentifiedGIN
from eqlib.models.graphs.networks.base import SIGNATURE, RaggedGraphs
from eqlib.symmetry import equivariance_error
from eqlib.usage import UsageError
from tests.tolerances import EQUIVARIANCE

NETWORKS = [GIN, MLP, FAGIN, FAMLP, GAGIN]
EXACT = 40_320


def build(network, dtype=torch.float64, limit=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = network(width=16, layers=3, node_types=1, **options).to(dtype).eval()
    if isinstance(made, FrameAveraged):
        made.limit = limit
    return made


def inputs(graphs, indices=None):
    chosen = torch.arange(len(graphs)) if indices is None else torch.tensor(indices)
    batch = graphs[chosen]
    names = ("x", "edge_index", "batch")
    return {name: batch[name] for name in names} | {"num_graphs": len(chosen)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("network", [GIN, FAGIN, FAMLP], ids=lambda network: network.__name__)
def test_networks_with_all_their_frames_ignore_the_labels(network, dtype, pairs, rng):
    made = build(network, dtype, EXACT)
    given = inputs(pairs, [1, 3])  # two triangles; a triangle and a square
    assert equivariance_error(made, given, SIGNATURE, generator=rng).max < EQUIVARIANCE[dtype]


@pytest.mark.parametrize("network", [MLP, FAGIN, FAMLP, GAGIN], ids=lambda net: net.__name__)
def test_control_networks_without_all_frames_depend_on_the_labels(network, pairs, rng):
    made = build(network)
    found = equivariance_error(made, inputs(pairs), SIGNATURE, generator=rng).max
    assert found > 1e-3


def test_gin_separates_no_pair_and_exact_frames_separate_every_pair(pairs):
    given = inputs(pairs, [0, 1, 2, 3])
    for network, separates in ((GIN, False), (FAGIN, True), (FAMLP, True)):
        out = build(network, limit=EXACT, outputs=10)(**given)
        difference = (out[0::2] - out[1::2]).abs().sum(1) / out.abs().sum(1).mean()
        assert ((difference > 1e-6) == separates).all(), network
        assert separates or difference.max() < 1e-12


def test_full_average_is_the_mean_over_all_sorting_orders(pairs):
    """All six nodes of two triangles look the same, so that the frame is the whole group."""
    made = build(FAMLP, limit=EXACT, nodes=6)
    given = inputs(pairs, [1])
    orders = torch.tensor(list(permutations(range(6))))
    assert len(orders) == factorial(6)
    outputs = [made.backbone(given["x"], order.argsort()[given["edge_index"]]) for order in orders]
    assert torch.allclose(made(**given), torch.stack(outputs).mean(0), atol=1e-12)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_a_batch_equals_its_graphs_and_an_empty_graph_keeps_its_row(network, pairs):
    made = build(network, limit=EXACT)
    if network is GAGIN:
        made = build(network, limit=0, samples=1)
    given = inputs(pairs, [1, 3])
    given["num_graphs"] = 3
    out = made(**given)
    assert out.shape == (3, 2)
    assert out.isfinite().all()
    if network is not GAGIN:  # whose samples depend on the place in the batch
        single = torch.cat([made(**inputs(pairs, [index])) for index in (1, 3)])
        assert torch.allclose(out[:2], single, atol=1e-12)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_no_graph_at_all_gives_no_row(network):
    none = torch.zeros(0, dtype=torch.int64)
    out = build(network)(none, torch.zeros(2, 0, dtype=torch.int64), none, 0)
    assert out.shape == (0, 2)


def test_evaluation_draws_the_same_samples_and_training_new_ones(pairs):
    made, given = build(FAGIN, samples=2), inputs(pairs)
    before = torch.get_rng_state()
    assert torch.equal(made(**given), made(**given))
    assert torch.equal(torch.get_rng_state(), before)
    made.train()
    with torch.random.fork_rng():
        assert not torch.equal(made(**given), made(**given))


def test_orders_of_a_search_are_exact_and_few(pairs, rng):
    made = build(FAGIN, search=True)
    given = inputs(pairs)
    graphs = RaggedGraphs(given["x"], given["edge_index"], given["batch"], 8)
    copies = made.copies(graphs)
    assert copies.exact.all()
    assert made.signature.exact
    assert not build(FAGIN).signature.exact
    assert copies.graph.tolist() == list(range(8))
    assert equivariance_error(made, given, SIGNATURE, generator=rng).max < 1e-12
    # training draws from the whole frame all the same
    with torch.random.fork_rng():
        assert not made.train().copies(graphs).exact.any()


def test_samples_approach_the_full_average(pairs):
    given = inputs(pairs, [1, 3])
    full = build(FAMLP, limit=EXACT)(**given)
    errors = [(build(FAMLP, samples=k)(**given) - full).norm() for k in (4, 4000)]
    assert errors[1] < 0.2 * errors[0]
    # uniform permutations have another average where nodes differ
    path = {"x": torch.zeros(3, dtype=torch.int64), "edge_index": torch.tensor([[0, 1], [1, 0]])}
    framed = build(FAMLP, limit=EXACT, nodes=3)
    uniform = build(FAMLP, limit=EXACT, nodes=3)
    uniform.spectral = False
    assert (framed(**path) - uniform(**path)).norm() > 1e-3


def test_classes_given_once_are_those_found_in_every_pass(pairs):
    made, given = build(FAGIN), inputs(pairs)
    found = node_classes(given["edge_index"], given["x"], batch=given["batch"], num_graphs=8)
    assert torch.equal(made(**given), made(**given, classes=found.classes))


def test_copies_are_the_graphs_in_the_order_of_their_frames(pairs):
    given = inputs(pairs, [3, 2])
    graphs = RaggedGraphs(given["x"], given["edge_index"], given["batch"], 2)
    copies = build(FAGIN, samples=3).copies(graphs)
    assert copies.graph.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.allclose(copies.weights, torch.full((6,), 1 / 3, dtype=torch.float64))
    for copy, graph in enumerate(copies.graph.tolist()):
        edges = copies.graphs.edge_index[
            :, copies.graphs.batch[copies.graphs.edge_index[0]] == copy
        ]
        assert edges.shape[1] == 14
        degrees = torch.bincount(edges[0] - 7 * copy, minlength=7)
        assert degrees.tolist() == [2] * 7
        adjacency = torch.zeros(7, 7, dtype=torch.float64)
        adjacency[tuple(edges - 7 * copy)] = 1
        triangles = (adjacency @ adjacency @ adjacency).trace() / 6
        assert round(triangles.item()) == (graph == 0)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_gradients_reach_every_weight(network, pairs):
    made = build(network).train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made(**inputs(pairs)).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in made.parameters())


@pytest.mark.parametrize("network", [IdentifiedGIN, MLP], ids=lambda network: network.__name__)
def test_a_graph_with_too_many_nodes_is_refused(network, pairs):
    made = build(network, nodes=7)
    with pytest.raises(ValueError, match=r"a graph has 8 nodes.*make it with nodes=8"):
        made(**inputs(pairs))


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("x", torch.zeros(6), TypeError, "x: got torch.float32, expected torch.int64"),
        ("batch", torch.zeros(5, dtype=torch.int64), ValueError, r"batch: got shape \(5,\)"),
        ("edge_index", torch.zeros(3, 2, dtype=torch.int64), ValueError, "edge_index: got shape"),
        ("classes", torch.zeros(5, dtype=torch.int64), ValueError, r"classes: got shape \(5,\)"),
    ],
    ids=["dtype", "batch", "edges", "classes"],
)
@pytest.mark.unchecked
def test_a_wrong_input_is_named(name, value, error, message, pairs):
    given = inputs(pairs, [0])
    given[name] = value
    with pytest.raises(error, match=message):
        build(FAGIN)(**given)


TYPED = [GIN, MLP, FAGIN, FAMLP, GAGIN, PPGN, SPEN]


@pytest.mark.parametrize("types", [[0, 5, 1], [0, -1, 1]], ids=["beyond", "negative"])
@pytest.mark.parametrize("network", TYPED, ids=lambda network: network.__name__)
def test_types_that_a_network_does_not_have_are_refused(network, types):
    x, edge_index = torch.tensor(types), torch.tensor([[0, 1], [1, 0]])
    made = network(width=4, layers=2, node_types=3)
    low, high = min(types), max(types)
    message = rf"x: has types from {low} to {high}, expected 0 to 2: .* node_types={high + 1}"
    with pytest.raises(ValueError, match=message):
        made(x, edge_index)
    with torch.random.fork_rng():
        made.eval()(torch.tensor([0, 2, 1]), edge_index)  # control: these are there


@pytest.mark.parametrize("option", ["width", "layers", "node_types", "outputs"])
@pytest.mark.parametrize("network", TYPED, ids=lambda network: network.__name__)
@pytest.mark.unchecked
def test_sizes_that_are_not_positive_are_named(network, option):
    for value in (0, -3):
        with pytest.raises(UsageError, match=f"{option}: expected 1 or more, got {value}"):
            network(**{option: value})


@pytest.mark.parametrize("option", ["nodes", "samples", "train_samples"])
@pytest.mark.unchecked
def test_frames_need_nodes_and_samples(option):
    for network in (FAGIN, FAMLP, GAGIN):
        with pytest.raises(UsageError, match=f"{option}: expected 1 or more, got 0"):
            network(**{option: 0})
