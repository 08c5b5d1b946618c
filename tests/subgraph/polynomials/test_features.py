"""Features of graphs of different sizes: pairs, nodes and graphs."""

from types import SimpleNamespace

import pytest
import torch

from eqlib.subgraph import ego_plan, whole_graph_plan
from eqlib.subgraph.polynomials import Multigraph, evaluate, multigraphs, polynomial_features
from eqlib.symmetry import (
    BatchIndex,
    EdgeIndex,
    NodeOrder,
    Permutations,
    Scalar,
    Signature,
    assert_equivariant,
    equivariance_error,
)
from tests.tolerances import EQUIVARIANCE

ORDERS = ["pair", "node", "graph"]
SIZES = [5, 1, 0, 7, 5, 2]


@pytest.fixture
def ragged(random_graphs):
    """Graphs of several sizes: edges, batch, and the adjacency matrix of each."""
    matrices = [random_graphs(1, nodes)[0] for nodes in SIZES]
    sizes = torch.tensor(SIZES)
    first = sizes.cumsum(0) - sizes
    edges = [matrix.nonzero().T + start for matrix, start in zip(matrices, first, strict=True)]
    batch = torch.arange(len(SIZES)).repeat_interleave(sizes)
    return torch.cat(edges, 1), batch, matrices


def whole(batch):
    none = torch.zeros(2, 0, dtype=torch.int64, device=batch.device)
    return whole_graph_plan(none, batch, num_graphs=len(SIZES))


def expected(order, multigraph, matrices, pair_index):
    """The features of all graphs from their dense matrices."""
    values = [evaluate(multigraph, matrix) for matrix in matrices]
    if order == "graph":
        return torch.stack(values).double()
    if order == "node":
        return torch.cat(values).double()
    blocks = torch.block_diag(*values)
    return blocks[pair_index[0], pair_index[1]].double()


@pytest.mark.parametrize("order", ORDERS)
def test_features_are_the_dense_polynomials(order, ragged):
    edge_index, batch, matrices = ragged
    plan = whole(batch)
    found = polynomial_features(
        edge_index, batch, num_graphs=6, order=order, degree=5, normalise=None, plan=plan
    )
    chosen = multigraphs(5, {"graph": 0, "node": 1, "pair": 2}[order], simple=True)
    for column, multigraph in enumerate(chosen):
        value = expected(order, multigraph, matrices, plan.pair_index)
        assert torch.equal(found[:, column], value), str(multigraph)


@pytest.mark.parametrize("order", ORDERS)
def test_cliques_are_counted_in_neighbourhoods(order, ragged):
    edge_index, batch, matrices = ragged
    plan = whole(batch)
    text = {"graph": "K4", "node": "K4 rooted", "pair": "K4 minus the red edge"}[order]
    shuffled = edge_index[:, torch.randperm(edge_index.shape[1])]
    doubled = torch.cat([shuffled, shuffled[:, :3]], 1)
    found = polynomial_features(
        doubled, batch, num_graphs=6, order=order, normalise=None, plan=plan
    )
    value = expected(order, Multigraph.parse(text), matrices, plan.pair_index)
    assert torch.equal(found[:, 0], value)
    assert value.max() > 0


def test_self_loops_are_entries_of_the_diagonal(random_graphs, rng):
    matrix = random_graphs(1, 6)[0] | torch.diag((torch.rand(6, generator=rng) < 0.5).long())
    plan = whole_graph_plan(torch.zeros(2, 0, dtype=torch.int64), num_nodes=6)
    for order, text in [("pair", "K4 minus the red edge"), ("node", "K4 rooted"), ("graph", "K4")]:
        found = polynomial_features(
            matrix.nonzero().T, num_nodes=6, order=order, normalise=None, plan=plan
        )
        assert torch.equal(found[:, 0], evaluate(text, matrix).reshape(-1).double())


def test_pairs_that_are_not_zero_lie_in_ego_nets_of_one_hop(ragged):
    edge_index, batch, matrices = ragged
    egos = ego_plan(edge_index, batch, num_graphs=6, when_dearer="ignore")
    found = polynomial_features(edge_index, batch, num_graphs=6, normalise=None, plan=egos)
    everywhere = torch.block_diag(*(evaluate("K4 minus the red edge", each) for each in matrices))
    assert found.sum() == everywhere.sum() > 0
    assert torch.equal(found[:, 0].long(), everywhere[egos.pair_index[0], egos.pair_index[1]])


def test_normalisations(ragged):
    edge_index, batch, _ = ragged
    counts, logs, shares = (
        polynomial_features(
            edge_index, batch, num_graphs=6, order="node", degree=3, normalise=normalise
        )
        for normalise in (None, "log1p", "nodes")
    )
    assert torch.equal(logs, counts.log1p())
    black = torch.tensor([len(each.black) for each in multigraphs(3, 1, simple=True)])
    nodes = torch.tensor(SIZES)[batch].double()
    torch.testing.assert_close(shares, counts / nodes[:, None] ** black)
    assert shares.max() <= 1


def signature(order):
    """Nodes of the output are reordered with those of the input; pairs are of one dense graph."""
    outputs = {
        "graph": Scalar(),
        "node": Scalar() * NodeOrder(0),
        "pair": Scalar() * NodeOrder(0, 1),
    }[order]
    inputs = {"edge_index": EdgeIndex(), "batch": BatchIndex()}
    return Signature(Permutations(), inputs=inputs, outputs=outputs)


@pytest.mark.parametrize("order", ["node", "graph"])
@pytest.mark.parametrize("degree", [None, 4], ids=["cliques", "degree 4"])
def test_features_commute_with_permutations(order, degree, ragged):
    edge_index, batch, _ = ragged

    def features(edge_index, batch):
        return polynomial_features(edge_index, batch, num_graphs=6, order=order, degree=degree)

    inputs = {"edge_index": edge_index, "batch": batch}
    assert_equivariant(features, inputs, signature(order), EQUIVARIANCE[torch.float64])
    # control: features that see the numbers of the nodes
    if order == "node":

        def numbered(edge_index, batch):
            return features(edge_index, batch) + torch.arange(len(batch))[:, None]

        assert equivariance_error(numbered, inputs, signature(order)).max > 1e-2


@pytest.mark.parametrize("plan_of", ["ego", "whole"])
def test_pair_features_move_with_their_nodes(plan_of, ragged, rng):
    edge_index, batch, _ = ragged
    order = torch.cat(
        [torch.randperm(n, generator=rng) + sum(SIZES[:i]) for i, n in enumerate(SIZES)]
    )

    def table(edges):
        if plan_of == "ego":
            plan = ego_plan(edges, batch, num_graphs=6, when_dearer="ignore")
        else:
            plan = whole(batch)
        values = polynomial_features(edges, batch, num_graphs=6, degree=4, plan=plan)
        dense = values.new_zeros(len(batch), len(batch), values.shape[1])
        dense[plan.pair_index[0], plan.pair_index[1]] = values
        return dense

    found, moved = table(edge_index), table(order[edge_index])
    assert (moved[order][:, order] - found).abs().max() < EQUIVARIANCE[torch.float64]
    assert (moved - found).abs().max() > 1e-2  # control: not moved back


def test_empty_batches_and_isolated_nodes():
    none = torch.zeros(2, 0, dtype=torch.int64)
    plan = whole_graph_plan(none, num_nodes=0)
    assert polynomial_features(none, plan=plan, degree=2).shape == (0, 4)
    assert polynomial_features(none, order="node").shape == (0, 1)
    assert polynomial_features(none, order="graph").tolist() == [[0.0]]
    batch = torch.tensor([0, 2])
    found = polynomial_features(none, batch, num_graphs=4, order="graph", degree=3)
    assert torch.equal(found, torch.zeros(4, 5, dtype=torch.float64))
    alone = polynomial_features(none, num_nodes=1, order="node", polynomials=["K2 rooted"])
    assert alone.tolist() == [[0.0]]
    assert polynomial_features(none, num_nodes=2, order="graph", polynomials=[]).shape == (1, 0)


def test_large_sparse_graphs_take_little_memory():
    """A ring of 20,000 nodes with chords: a dense matrix would take three gigabytes."""
    nodes = 20_000
    ring = torch.arange(nodes)
    steps = [torch.stack([ring, (ring + step) % nodes]) for step in (1, 2, 3)]
    one_way = torch.cat(steps, 1)
    edge_index = torch.cat([one_way, one_way.flip(0)], 1)
    found = polynomial_features(edge_index, order="node", normalise=None)
    # {i, i+1, i+2, i+3} are the only cliques: each node is in four, as root of six orders
    assert torch.equal(found, torch.full((nodes, 1), 24.0, dtype=torch.float64))
    pairs = torch.stack([ring, ring])
    plan = SimpleNamespace(pair_index=pairs, batch=torch.zeros(nodes, dtype=torch.int64))
    diagonal = polynomial_features(edge_index, normalise=None, plan=plan)
    # on the diagonal the red nodes are one: two neighbours that are joined
    assert torch.equal(diagonal, torch.full((nodes, 1), 18.0, dtype=torch.float64))


def test_large_counts_are_normalised_or_refused():
    complete = (1 - torch.eye(1000, dtype=torch.int64)).nonzero().T
    found = polynomial_features(complete, order="graph", polynomials=["S5"], normalise="nodes")
    assert found.item() == pytest.approx(0.999**5)
    with pytest.raises(ValueError, match=r"a count of .* is 2\^53 or more"):
        polynomial_features(complete, order="graph", polynomials=["S5"], normalise=None)


@pytest.mark.gpu
@pytest.mark.parametrize("order", ORDERS)
def test_features_on_cuda_are_those_on_the_cpu(order, ragged):
    edge_index, batch, _ = ragged
    for degree in (None, 4):
        found = [
            polynomial_features(
                edge_index.to(device),
                batch.to(device),
                num_graphs=6,
                order=order,
                degree=degree,
                normalise=None,
                plan=whole(batch.to(device)),
            )
            for device in ("cpu", "cuda")
        ]
        assert found[1].is_cuda
        assert torch.equal(found[1].cpu(), found[0])


PATH = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"edge_index": PATH.float()}, TypeError, "dtype torch.float32; expected torch.int64"),
        ({"edge_index": PATH.int()}, TypeError, "dtype torch.int32"),
        ({"edge_index": PATH[:1]}, ValueError, r"shape \(1, 4\); expected \(2, edges\)"),
        ({"edge_index": PATH[:, :3]}, ValueError, r"edge \(1, 2\), one of 1, has no reverse"),
        ({"edge_index": PATH - 1}, ValueError, "entries from -1 to 1"),
        ({"num_nodes": 2}, ValueError, "entries from 0 to 2; .* < number of nodes = 2"),
        (
            {"batch": torch.tensor([0, 0, 1])},
            ValueError,
            "edge_index joins nodes 1 and 2, which batch",
        ),
        ({"num_graphs": 3}, ValueError, "num_graphs is 3 and batch is missing"),
        ({"num_nodes": -1}, ValueError, "num_nodes is -1; expected at least 0"),
        ({"num_nodes": 3.0}, TypeError, "num_nodes is 3.0; expected an integer"),
        ({"edge_index": PATH.tolist()}, TypeError, "edge_index is of type list"),
        ({"batch": torch.tensor([1, 0, 0])}, ValueError, "batch is not sorted"),
        ({"batch": torch.tensor([0, 0, 0]), "num_nodes": 4}, ValueError, "num_nodes is 4"),
        ({"order": "pair"}, ValueError, "plan: expected one for order 'pair'"),
        (
            {"order": "pair", "plan": whole_graph_plan(PATH, num_nodes=4)},
            ValueError,
            "plan: has 4 nodes and the graphs 3",
        ),
        ({"order": "edge"}, ValueError, "order: got 'edge'"),
        ({"normalise": "sum"}, ValueError, "normalise: got 'sum'"),
        ({"polynomials": "K4"}, TypeError, "put it into a list"),
        ({"polynomials": ["K4"]}, ValueError, "K4 has 0 red nodes; expected 1"),
        ({"polynomials": ["K4 rooted"], "degree": 3}, ValueError, "got both"),
        ({"limit": 64}, ValueError, "node 1 has 2 neighbours, whose counts need 128 bytes"),
        ({"degree": 2, "limit": 64}, ValueError, "needs 72 bytes at once"),
    ],
    ids=[
        *(
            "float",
            "int32",
            "shape",
            "directed",
            "negative",
            "range",
            "across",
            "graphs",
            "negative nodes",
            "float nodes",
            "list",
            "unsorted",
            "nodes",
        ),
        *("no plan", "other plan", "order", "normalise", "text", "red", "both", "hub", "dense"),
    ],
)
def test_bad_input_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        polynomial_features(**{"edge_index": PATH, "order": "node", **options})


def test_a_hub_of_100_000_neighbours_is_refused_before_memory_is_taken():
    leaves = torch.arange(1, 100_001)
    star = torch.stack([torch.zeros_like(leaves), leaves])
    with pytest.raises(ValueError, match="320,000,000,000 bytes at once"):
        polynomial_features(torch.cat([star, star.flip(0)], 1), order="node")
