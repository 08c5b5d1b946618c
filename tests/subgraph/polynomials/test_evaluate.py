"""Values of polynomials on dense matrices."""

import networkx
import numpy as np
import pytest
import torch

from eqlib.subgraph.polynomials import Multigraph, evaluate, multigraphs
from tests.tolerances import EQUIVARIANCE

CHOSEN = [
    "K4",
    "K4 rooted",
    "K4 minus the red edge",
    "K5 with a red edge",
    "C5 rooted",
    "P4 with red ends",
    "0-1, 0-1, 1-1; red 0",
    "1-0, 1-2; red 2, 0",
    "0-1, 2-2; red 0, 3",
    "0-1, 2-3",
    "0-1; red 1, 0",
]


@pytest.mark.parametrize("red", [0, 1, 2], ids=str)
@pytest.mark.parametrize("directed", [False, True], ids=["undirected", "directed"])
def test_values_are_those_of_the_definition(red, directed, oracle, rng):
    matrix = torch.randint(-2, 4, (3, 3), generator=rng)
    for multigraph in multigraphs(3, red, connected=False, directed=directed):
        assert torch.equal(evaluate(multigraph, matrix), oracle(multigraph, matrix))


@pytest.mark.parametrize("text", CHOSEN)
def test_values_of_larger_ones_are_those_of_the_definition(text, oracle, rng):
    multigraph = Multigraph.parse(text)
    whole = torch.randint(-2, 4, (4, 4), generator=rng)
    assert torch.equal(evaluate(text, whole), oracle(multigraph, whole))
    real = torch.randn(4, 4, dtype=torch.float64, generator=rng)
    found, expected = evaluate(text, real), oracle(multigraph, real)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_counts_are_those_of_networkx():
    graph = networkx.karate_club_graph()
    matrix = torch.from_numpy(networkx.to_numpy_array(graph, weight=None).astype(np.int64))
    triangles = torch.tensor(list(networkx.triangles(graph).values()))
    assert torch.equal(evaluate("K3 rooted", matrix), 2 * triangles)
    assert torch.equal(evaluate("P2 rooted", matrix), matrix.sum(1))
    cliques = [c for c in networkx.enumerate_all_cliques(graph) if len(c) == 4]
    assert evaluate("K4", matrix).item() == 24 * len(cliques)
    walks = torch.linalg.matrix_power(matrix.double(), 3).long()
    assert torch.equal(evaluate("P4 with red ends", matrix), walks)


@pytest.mark.parametrize("red", [0, 1, 2], ids=str)
def test_polynomials_commute_with_permutations(red, rng):
    matrix = torch.randn(6, 6, dtype=torch.float64, generator=rng)
    order = torch.randperm(6, generator=rng)
    for multigraph in multigraphs(3, red, directed=True):
        value = evaluate(multigraph, matrix)
        moved = evaluate(multigraph, matrix[order][:, order])
        for axis in range(red):
            value = value.index_select(axis, order)
        scale = value.abs().max().clamp(min=1)
        assert (moved - value).abs().max() < EQUIVARIANCE[torch.float64] * scale


def test_control_a_permutation_of_rows_alone_is_noticed(rng):
    matrix = torch.randn(6, 6, dtype=torch.float64, generator=rng)
    order = torch.randperm(6, generator=rng)
    value, moved = (evaluate("K4 rooted", each) for each in (matrix, matrix[order]))
    assert (moved - value[order]).abs().max() > 1e-2


def test_exchanged_red_nodes_transpose_the_output(rng):
    matrix = torch.randn(5, 5, dtype=torch.float64, generator=rng)
    first, second = (evaluate(f"0-1, 0-2, 1-2, 2-3; red {red}", matrix) for red in ("0, 3", "3, 0"))
    torch.testing.assert_close(first, second.mT)


def test_batches_are_evaluated_one_by_one(rng):
    matrices = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=rng)
    found = evaluate("K4 minus the red edge", matrices.mT)  # not contiguous
    for first in range(2):
        for second in range(3):
            alone = evaluate("K4 minus the red edge", matrices[first, second].mT.contiguous())
            torch.testing.assert_close(found[first, second], alone)


@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 0, 0), (0, 0), (3, 1, 1)], ids=str)
@pytest.mark.parametrize("text", ["K4", "K4 rooted", "K4 minus the red edge"])
def test_empty_and_single_nodes(shape, text):
    matrices = torch.ones(shape, dtype=torch.int64)
    found = evaluate(text, matrices)
    red = len(Multigraph.parse(text).red)
    assert found.shape == (*shape[:-2], *shape[-1:] * red)
    assert (found == min(shape[-1], 1)).all()


@pytest.mark.parametrize("text", ["C4", "K4 rooted", "0-1, 1-1, 0-2; red 0, 2"])
def test_gradients_of_both_orders(text, rng):
    matrix = torch.randn(3, 3, dtype=torch.float64, generator=rng, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: evaluate(text, x), matrix)
    assert torch.autograd.gradgradcheck(lambda x: evaluate(text, x), matrix)


@pytest.mark.unchecked
def test_compiled_and_exported_values_are_the_same(rng):
    matrix = torch.randn(2, 5, 5, dtype=torch.float64, generator=rng)

    def both(x):
        return evaluate("K4 minus the red edge", x), evaluate("C5 rooted", x)

    compiled = torch.compile(both, fullgraph=True, backend="aot_eager", dynamic=True)
    for found, expected in zip(compiled(matrix), both(matrix), strict=True):
        torch.testing.assert_close(found, expected)


def test_whole_numbers_are_exact_where_float32_is_not():
    """K4 in the complete graph of 90 nodes: 90 * 89 * 88 * 87 is odd times 2^5, above 2^24."""
    complete = 1 - torch.eye(90, dtype=torch.int64)
    assert evaluate("K4", complete).item() == 90 * 89 * 88 * 87
    larger = torch.full((3, 3), 2**8 + 1)
    expected = 9 * (2**8 + 1) ** 4 * 3
    assert evaluate("P3", larger[:1, :1]).item() == (2**8 + 1) ** 2
    assert evaluate("C3", larger).item() == 27 * (2**8 + 1) ** 3
    assert evaluate("0-1, 0-1, 1-2, 1-2", larger).item() == expected


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: evaluate("K4", torch.zeros(3, 3)), TypeError, "dtype torch.float32; expected"),
        (lambda: evaluate("K4", torch.zeros(3, 4).long()), ValueError, r"shape \(3, 4\)"),
        (lambda: evaluate("K4", torch.zeros(3).long()), ValueError, "square matrices"),
        (
            lambda: evaluate("K4", torch.zeros(620, 620).long(), limit=2**20),
            ValueError,
            r"K4 of 1 matrices with n = 620 needs 1,906,624,000 bytes",
        ),
        (
            lambda: evaluate("P3", torch.full((2, 2), 2**26)),
            ValueError,
            r"P3 reaches .*; from 2\^53",
        ),
        (
            lambda: evaluate("P3", torch.tensor([[2**27, -(2**27)], [0, 0]])),
            ValueError,
            r"from 2\^53",
        ),
        # 2^53 + 1 is rounded to 2^53
        (
            lambda: evaluate("0-1; red 0", torch.tensor([[2**53 - 1, 2], [0, 0]])),
            ValueError,
            r"from 2\^53",
        ),
        (
            lambda: evaluate("0-1; red 0, 1", torch.tensor([[-(2**53) - 1, 0], [0, 0]])),
            ValueError,
            "X has entries from -9007199254740993 to 0; expected",
        ),
    ],
    ids=["dtype", "shape", "vector", "memory", "overflow", "cancellation", "rounded", "entry"],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_sparse_powers_of_large_graphs_fit(rng):
    """Two-dimensional intermediates: 620 nodes need three megabytes."""
    upper = (torch.rand(620, 620, generator=rng) < 0.01).triu(1)
    matrix = (upper | upper.mT).long()
    degrees = matrix.sum(1)
    assert torch.equal(evaluate("P3 rooted", matrix), matrix @ degrees)
