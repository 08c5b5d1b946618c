"""PPGN: symmetry, values against dense matrices, no leak between graphs, degenerate input."""

import networkx
import pytest
import torch
from torch import nn

from eqlib.models.graphs.data.ragged import Graphs
from eqlib.models.graphs.data.tu import read_tu
from eqlib.models.graphs.networks import GIN, PPGN
from eqlib.models.graphs.networks.base import SIGNATURE
from eqlib.symmetry import equivariance_error
from eqlib.usage import UsageError
from tests.models.graphs.networks.samples import SIZES, odd_graphs, seeded
from tests.tolerances import EQUIVARIANCE

POOLS = ["sum", "mean", "max"]


def build(dtype=torch.float64, **options):
    given = {"width": 8, "layers": 2, "node_types": 3} | options
    return seeded(PPGN, dtype, **given)


@pytest.mark.parametrize("normalised", [False, True], ids=["plain", "normalised"])
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_order_of_the_nodes_does_not_count(dtype, pool, normalised, rng):
    made = build(dtype, pool=pool, normalised=normalised)
    found = equivariance_error(made, odd_graphs(), SIGNATURE, generator=rng)
    assert found.max < EQUIVARIANCE[dtype]


def test_control_a_mark_on_one_node_counts(rng):
    class Marked(PPGN):
        def features(self, graphs, pairs):
            found = super().features(graphs, pairs)
            return found.index_add(0, pairs.diagonal[6:7], found.new_ones(1, found.shape[1]))

    made = seeded(Marked, width=8, layers=2, node_types=3)
    assert equivariance_error(made, odd_graphs(), SIGNATURE, generator=rng).max > 1e-3


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("graph", [3, 4, 6], ids=["pair", "triangle", "complete"])
def test_values_are_those_of_dense_matrices(graph, pool):
    made, given = build(pool=pool, norm=False), odd_graphs(chosen=[graph])
    size = SIZES[graph]
    adjacency = torch.zeros(size, size, dtype=torch.float64)
    adjacency[tuple(given["edge_index"])] = 1
    off = ~torch.eye(size, dtype=torch.bool)
    matrix = adjacency[..., None] * made.edge
    matrix = matrix + torch.eye(size, dtype=torch.float64)[..., None] * made.embed(given["x"])
    expected = torch.zeros(2, dtype=torch.float64)
    pooling = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}[pool]
    for block, decode in zip(made.blocks, made.decode, strict=True):
        left, right = block.left(matrix), block.right(matrix)
        product = (left.movedim(2, 0) @ right.movedim(2, 0)).movedim(0, 2)
        both = torch.cat([matrix, product], 2)
        matrix = both @ torch.cat([block.keep.weight, block.mix.weight], 1).T + block.keep.bias
        pooled = torch.cat([pooling(matrix[off], 0), pooling(matrix[~off], 0)])
        expected = expected + decode(pooled)
    assert torch.allclose(made(**given)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("pool", POOLS)
def test_a_graph_beside_larger_ones_is_as_it_is_alone(pool):
    made = build(pool=pool)
    together = made(**odd_graphs())
    alone = torch.cat([made(**odd_graphs(chosen=[index])) for index in range(len(SIZES))])
    assert torch.allclose(together, alone, rtol=1e-12, atol=1e-12)


def test_batch_normalisation_sees_pairs_and_no_padding():
    """In training its statistics are those of the pairs that there are."""
    made = build(layers=1).train()
    seen = []
    made.blocks[0].norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    made(**odd_graphs())
    assert seen[0].shape == (sum(size * size for size in SIZES), 8)
    mean = made.blocks[0].norm.running_mean
    assert torch.allclose(mean, 0.1 * seen[0].mean(0), atol=1e-12)


def test_it_separates_what_message_passing_does_not():
    """The four by four rook graph and the Shrikhande graph stay equal: 3-WL does not see them."""
    rook = networkx.line_graph(networkx.complete_bipartite_graph(4, 4))
    steps = [(0, 1), (0, 3), (1, 0), (3, 0), (1, 1), (3, 3)]
    shrikhande = networkx.Graph(
        ((i, j), ((i + a) % 4, (j + b) % 4)) for i in range(4) for j in range(4) for a, b in steps
    )
    circles = [networkx.cycle_graph(6), networkx.disjoint_union(*[networkx.cycle_graph(3)] * 2)]
    graphs = [networkx.convert_node_labels_to_integers(g) for g in (*circles, rook, shrikhande)]
    stacked = Graphs.stack(
        (len(graph), torch.tensor(list(graph.to_directed().edges)).T.numpy()) for graph in graphs
    )
    batch = stacked[torch.arange(4)]
    given = {name: batch[name] for name in ("x", "edge_index", "batch")} | {"num_graphs": 4}
    for network, separates in ((PPGN, True), (GIN, False)):
        out = seeded(network, width=16, layers=3, node_types=1, outputs=10)(**given)
        change = (out[0::2] - out[1::2]).abs().sum(1) / out.abs().sum(1).mean()
        assert (change[0] > 1e-6) == separates
        assert change[1] < 1e-12


@pytest.mark.parametrize("chosen", [[], [0], [0, 0], [1], [2], [3, 0]], ids=str)
@pytest.mark.parametrize("pool", POOLS)
def test_degenerate_graphs_have_finite_rows(pool, chosen):
    out = build(pool=pool, normalised=True)(**odd_graphs(chosen=chosen))
    assert out.shape == (len(chosen), 2)
    assert out.isfinite().all()


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "norm"])
def test_computing_anew_changes_neither_gradients_nor_statistics(norm):
    found = []
    for recompute in (False, True):
        made = build(norm=norm, recompute=recompute).train()
        made(**odd_graphs()).square().sum().backward()
        gradients = [parameter.grad for parameter in made.parameters()]
        assert all(gradient.isfinite().all() for gradient in gradients)
        found.append([*gradients, *made.buffers()])
        assert all(part.momentum == 0.1 for part in made.modules() if _is_norm(part))
    assert all(torch.equal(*both) for both in zip(*found, strict=True))


def _is_norm(part):
    return isinstance(part, nn.BatchNorm1d)


def test_an_edge_that_is_given_twice_counts_once():
    given = odd_graphs(chosen=[4])
    twice = given | {"edge_index": given["edge_index"].repeat(1, 2)}
    for normalised in (False, True):
        made = build(normalised=normalised)
        assert torch.allclose(made(**given), made(**twice), rtol=1e-12)


def test_the_direction_of_edges_and_loops_are_seen():
    made, given = build(), odd_graphs(chosen=[4])
    half = given | {"edge_index": given["edge_index"][:, :5]}
    loop = torch.tensor([[0], [0]])
    looped = given | {"edge_index": torch.cat([given["edge_index"], loop], 1)}
    for other in (half, looped):
        assert (made(**given) - made(**other)).norm() > 1e-3


@pytest.mark.unchecked
def test_an_unknown_pool_is_named():
    with pytest.raises(UsageError, match="unknown pool 'median'"):
        PPGN(pool="median")
    with pytest.raises(UsageError, match="layers: expected 1 or more, got 0"):
        PPGN(layers=0)


@pytest.mark.data
def test_real_graphs_may_be_relabelled(data, rng):
    graphs = read_tu(data / "graphs" / "tu" / "MUTAG" / "MUTAG.txt")
    batch = graphs[torch.arange(20)]
    given = {name: batch[name] for name in ("x", "edge_index", "batch")} | {"num_graphs": 20}
    for dtype in (torch.float32, torch.float64):
        made = build(dtype, node_types=7)
        found = equivariance_error(made, given, SIGNATURE, generator=rng)
        assert found.max < EQUIVARIANCE[dtype]
