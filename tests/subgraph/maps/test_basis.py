"""The basis: its names and numbers, that it commutes with permutations, and that it is complete."""

from itertools import permutations

import pytest
import torch

from eqlib.subgraph import basis_count, basis_maps, basis_names, bias_maps, bias_names
from tests.subgraph.maps.stack import ORDERS, normal, permuted, stack

orders = pytest.mark.parametrize(("p", "q"), ORDERS, ids=[f"{p}->{q}" for p, q in ORDERS])
roots = pytest.mark.parametrize("rooted", [False, True], ids=["free", "rooted"])
EXACT = {"rtol": 0, "atol": 1e-12}


def fixed_dimension(nodes, axes, rooted):
    """Dimension of the tensors that permutations (of all but node 0) leave as they are.

    Two permutations generate all others: an exchange of two nodes, and a cycle.
    """
    free = list(range(int(rooted), nodes))
    cycle, exchange = list(range(nodes)), list(range(nodes))
    for index, node in enumerate(free):
        cycle[node] = free[(index + 1) % len(free)]
    if len(free) > 1:
        exchange[free[0]], exchange[free[1]] = free[1], free[0]
    tensors = torch.eye(nodes**axes, dtype=torch.float64).reshape(-1, *[nodes] * axes, 1)
    moved = [permuted(tensors, torch.tensor(g), axes) - tensors for g in (cycle, exchange)]
    system = torch.cat([difference.flatten(1) for difference in moved], 1)
    return nodes**axes - int(torch.linalg.matrix_rank(system))


@pytest.mark.parametrize(
    ("p", "q", "free", "rooted"),
    [
        (2, 2, 15, 52),
        (2, 1, 5, 15),
        (1, 2, 5, 15),
        (1, 1, 2, 5),
        (2, 0, 2, 5),
        (0, 2, 2, 5),
        (1, 0, 1, 2),
        (0, 1, 1, 2),
        (0, 0, 1, 1),
    ],
    ids=str,
)
def test_there_are_as_many_maps_as_partitions(p, q, free, rooted):
    assert basis_count(p, q) == len(basis_names(p, q)) == len(basis_maps(3, p, q)) == free
    assert basis_count(p, q, rooted=True) == len(basis_maps(3, p, q, rooted=True)) == rooted
    assert len(set(basis_names(p, q, rooted=True))) == rooted


def test_the_fifteen_have_readable_names():
    assert basis_names(2, 2) == (
        *("A", "A^T", "diag(d)", "diag(r)", "diag(c)"),
        *("d 1^T", "r 1^T", "c 1^T", "1 d^T", "1 r^T", "1 c^T"),
        *("t I", "s I", "t 1 1^T", "s 1 1^T"),
    )
    assert basis_names(2, 1) == ("d", "r", "c", "t 1", "s 1")
    assert basis_names(1, 1, rooted=True) == ("x", "u 1", "x0 1", "u e", "x0 e")
    assert bias_names(2, rooted=True) == ("I", "1 1^T", "e e^T", "e 1^T", "1 e^T")
    assert bias_names(1) == bias_names(0) == ("1",)


@orders
@roots
@pytest.mark.parametrize("mean", [False, True], ids=["sums", "means"])
def test_dense_maps_are_what_their_names_say(p, q, rooted, mean, rng):
    for nodes in range(1, 7):
        x = normal(rng, *[nodes] * p)
        maps = basis_maps(nodes, p, q, rooted, normalised=mean)
        found = torch.tensordot(maps, x, p) if p else maps * x
        expected = stack(x, p, q, 0 if rooted else None, mean, nodes)
        torch.testing.assert_close(found, expected, **EXACT)


@orders
@roots
def test_each_map_commutes_with_permutations(p, q, rooted):
    for nodes in range(1, 7):
        maps = basis_maps(nodes, p, q, rooted)[..., None]
        free = torch.randperm(nodes - rooted, generator=torch.Generator().manual_seed(nodes))
        order = torch.cat([torch.zeros(int(rooted), dtype=torch.int64), free + int(rooted)])
        assert torch.equal(permuted(maps, order, p + q), maps)


def test_control_a_map_without_its_partner_does_not_commute():
    maps = basis_maps(4, 2, 2)
    maps = torch.cat([maps[:1] + maps[1:2].tril(), maps[2:]])
    order = torch.tensor([1, 2, 3, 0])
    moves = (permuted(maps[..., None], order, 4)[..., 0] != maps).flatten(1).any(1)
    assert moves.tolist() == [True] + [False] * 13


def test_control_rooted_maps_do_not_commute_when_the_root_moves():
    maps = basis_maps(4, 2, 2, rooted=True)[..., None]
    moves = (permuted(maps, torch.tensor([1, 0, 2, 3]), 4) != maps).flatten(1).any(1)
    names = basis_names(2, 2, rooted=True)
    assert {name for name, moved in zip(names, moves, strict=True) if not moved} == {
        *basis_names(2, 2)
    }


@pytest.mark.parametrize(
    ("p", "q", "rooted", "ranks"),
    [
        (2, 2, False, {1: 1, 2: 8, 3: 14, 4: 15, 5: 15}),
        (2, 1, False, {1: 1, 2: 4, 3: 5, 4: 5}),
        (1, 2, False, {1: 1, 2: 4, 3: 5, 4: 5}),
        (1, 1, False, {1: 1, 2: 2, 3: 2}),
        (2, 0, False, {1: 1, 2: 2, 3: 2}),
        (0, 2, False, {1: 1, 2: 2, 3: 2}),
        (1, 0, False, {1: 1, 2: 1}),
        (0, 1, False, {1: 1, 2: 1}),
        (0, 0, False, {1: 1, 2: 1}),
        (2, 2, True, {1: 1, 2: 16, 3: 41, 4: 51, 5: 52}),
        (2, 1, True, {1: 1, 2: 8, 3: 14, 4: 15}),
        (1, 2, True, {1: 1, 2: 8, 3: 14, 4: 15}),
        (1, 1, True, {1: 1, 2: 4, 3: 5}),
        (2, 0, True, {1: 1, 2: 4, 3: 5}),
        (0, 2, True, {1: 1, 2: 4, 3: 5}),
        (1, 0, True, {1: 1, 2: 2}),
        (0, 1, True, {1: 1, 2: 2}),
        (0, 0, True, {1: 1, 2: 1}),
    ],
    ids=str,
)
def test_the_basis_is_complete(p, q, rooted, ranks):
    # All maps commute, so they span all that do once their rank is the dimension of these.
    for nodes, rank in ranks.items():
        maps = basis_maps(nodes, p, q, rooted).reshape(basis_count(p, q, rooted), -1)
        assert int(torch.linalg.matrix_rank(maps)) == rank
        assert fixed_dimension(nodes, p + q, rooted) == rank


@pytest.mark.parametrize("order", [0, 1, 2])
@roots
def test_biases_are_all_constant_features(order, rooted):
    for nodes in range(1, 5):
        maps = bias_maps(nodes, order, rooted)
        assert len(maps) == len(bias_names(order, rooted))
        rank = int(torch.linalg.matrix_rank(maps.reshape(len(maps), -1)))
        assert rank == fixed_dimension(nodes, order, rooted)
        assert torch.equal(maps, basis_maps(nodes, 0, order, rooted))


def test_average_over_the_group_is_the_projection_on_the_span(rng):
    """Over all 24 permutations of 4 nodes, independently of generators and names."""
    tensor = normal(rng, 4, 4, 4, 4, 1)
    moved = [permuted(tensor, torch.tensor(g), 4) for g in permutations(range(4))]
    mean = torch.stack(moved).mean(0).flatten()
    span = torch.linalg.qr(basis_maps(4, 2, 2).flatten(1).T).Q
    torch.testing.assert_close(span @ (span.T @ tensor.flatten()), mean, **EXACT)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: basis_names(3, 1), "order_in is 3; expected 0"),
        (lambda: basis_count(1, -1), "order_out is -1"),
        (lambda: bias_names(5), "order is 5"),
        (lambda: bias_maps(2, 5), "order is 5"),
        (lambda: basis_maps(0, 2, 2), "nodes is 0; expected at least 1"),
        (lambda: bias_maps(-1, 2), "nodes is -1; expected at least 1"),
    ],
    ids=["order_in", "order_out", "bias", "bias maps", "nodes", "bias nodes"],
)
def test_bad_orders_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
