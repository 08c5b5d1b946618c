"""The linear layer on dense features, beside the stack of all basis maps."""

import pytest
import torch

import eqlib
from eqlib.subgraph import Features, PermutationLinear, basis_count
from tests.subgraph.maps.stack import NAMES, ORDERS, apply, by_stack, linear, normal, permuted
from tests.tolerances import EQUIVARIANCE

orders = pytest.mark.parametrize(("p", "q"), ORDERS, ids=[f"{p}->{q}" for p, q in ORDERS])
roots = pytest.mark.parametrize("rooted", [False, True], ids=["free", "rooted"])
STACK = {torch.float64: 1e-12, torch.float32: 1e-5}
"""Largest difference from the stack of basis maps, over the largest entry."""


def assert_close(found, expected, dtype=torch.float64):
    assert found.shape == expected.shape
    scale = expected.abs().max().clamp(min=1) if expected.numel() else 1
    torch.testing.assert_close(found.double() / scale, expected / scale, rtol=0, atol=STACK[dtype])


def inputs(rng, nodes, p, dtype=torch.float64, batch=()):
    return normal(rng, *batch, *[nodes] * p, 3, dtype=dtype)


@orders
@roots
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_equals_the_stack_of_basis_maps(p, q, rooted, dtype, rng):
    layer = linear(rng, {p: 3}, {q: 4}, rooted=rooted, dtype=dtype)
    exact = linear(rng, {p: 3}, {q: 4}, rooted=rooted)
    exact.load_state_dict(layer.state_dict())
    for nodes in range(1, 13):
        x = inputs(rng, nodes, p, dtype)
        expected = by_stack(exact, x.double(), p, q, 0 if rooted else None, nodes)
        found = apply(layer, x, p, size=nodes)
        assert list(found.by_order()) == [q]
        assert_close(found.by_order()[q].detach(), expected.detach(), dtype)


@pytest.mark.parametrize("normalised", [False, True], ids=["sums", "means"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@roots
def test_orders_add_up(normalised, bias, rooted, rng):
    options = {"rooted": rooted, "normalised": normalised, "bias": bias}
    layer = linear(rng, {1: 2, 2: 3, 0: 1}, {0: 2, 2: 4, 1: 5}, **options)
    x = Features(normal(rng, 6, 6, 3), normal(rng, 6, 2), normal(rng, 1))
    found = layer(*x).by_order()
    root = 0 if rooted else None
    for q, values in found.items():
        expected = sum(by_stack(layer, rows, p, q, root, 6) for p, rows in x.by_order().items())
        if bias:  # which each of the three has added
            zero = torch.zeros(6, 6, 3).double()
            expected = expected - 2 * by_stack(layer, zero, 2, q, root, 6)
        assert_close(values.detach(), expected.detach())


@roots
@pytest.mark.parametrize("batch", [(2,), (2, 3), (0,)], ids=str)
def test_batches_are_mapped_one_by_one(rooted, batch, rng):
    layer = linear(rng, {2: 3, 1: 2, 0: 1}, {2: 4, 1: 2, 0: 3}, rooted=rooted)
    x = [normal(rng, *batch, 5, 5, 3), normal(rng, *batch, 5, 2), normal(rng, *batch, 1)]
    root = torch.randint(5, batch, generator=rng) if rooted else None
    found = layer(*x, root=root)
    assert [tuple(y.shape) for y in found] == [(*batch, 5, 5, 4), (*batch, 5, 2), (*batch, 3)]
    for index in torch.cartesian_prod(*map(torch.arange, batch)).reshape(-1, len(batch)).tolist():
        at = tuple(index)
        alone = layer(*(rows[at] for rows in x), root=int(root[at]) if rooted else None)
        for whole, part in zip(found, alone, strict=True):
            assert_close(whole[at].detach(), part.detach())


def test_the_root_may_be_any_node(rng):
    layer = linear(rng, {2: 3}, {2: 4}, rooted=True)
    x = normal(rng, 5, 5, 3)
    for root in range(5):
        expected = by_stack(layer, x, 2, 2, root, 5)
        assert_close(layer(x, root=root).pairs.detach(), expected.detach())


@orders
@roots
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_commutes_with_permutations(p, q, rooted, dtype, rng):
    layer = linear(rng, {p: 3}, {q: 4}, rooted=rooted, dtype=dtype)
    for nodes in (1, 2, 3, 6):
        x, order = inputs(rng, nodes, p, dtype), torch.randperm(nodes, generator=rng)
        roots = ({"root": 0}, {"root": int(order[0])}) if rooted else ({}, {})
        before = apply(layer, x, p, size=nodes, **roots[0]).by_order()[q]
        after = apply(layer, permuted(x, order, p), p, size=nodes, **roots[1]).by_order()[q]
        error = (after - permuted(before, order, q)).abs().max() / before.abs().max()
        assert error < EQUIVARIANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@roots
def test_the_signature_holds(rooted, dtype, rng):
    layer = linear(rng, {2: 3, 1: 2, 0: 1}, {2: 4, 1: 2, 0: 3}, rooted=rooted, dtype=dtype)
    shapes = {"pairs": (2, 5, 5, 3), "nodes": (2, 5, 2), "scalars": (2, 1)}
    x = {name: normal(rng, *shape, dtype=dtype) for name, shape in shapes.items()}
    if rooted:
        x["root"] = torch.tensor([1, 4])
    assert eqlib.check(layer, x).passed
    # control: with the transpose left out of A^T, and nothing else changed, it does not
    broken = linear(rng, {2: 3}, {2: 4}, dtype=dtype)
    tilted = lambda pairs: broken(pairs.tril() + 2 * pairs.triu(1))  # noqa: E731
    assert not eqlib.check(tilted, {"pairs": x["pairs"]}, broken.signature).passed


def test_control_a_rooted_map_does_not_commute_when_the_root_moves(rng):
    layer = linear(rng, {2: 3}, {2: 4}, rooted=True)
    x, order = normal(rng, 5, 5, 3), torch.tensor([1, 0, 2, 3, 4])
    found, expected = layer(permuted(x, order, 2)).pairs, permuted(layer(x).pairs, order, 2)
    assert (found - expected).abs().max() > 1e-1 * expected.abs().max()
    # the maps without root, in the same layer, do not look at it
    names = eqlib.subgraph.basis_names(2, 2, rooted=True)
    free = torch.tensor([name in eqlib.subgraph.basis_names(2, 2) for name in names])
    layer.set_coefficients({(2, 2): layer.coefficients()[2, 2] * free[:, None, None]})
    torch.nn.init.zeros_(layer.bias["2"])
    found, expected = layer(permuted(x, order, 2)).pairs, permuted(layer(x).pairs, order, 2)
    assert_close(found.detach(), expected.detach())


def test_coefficients_are_read_and_set_by_map(rng):
    layer, other = (linear(rng, {2: 2, 1: 3}, {2: 4, 0: 1}, rooted=True) for _ in range(2))
    found = layer.coefficients()
    assert {key: tuple(values.shape) for key, values in found.items()} == {
        (2, 2): (52, 2, 4),
        (2, 0): (5, 2, 1),
        (1, 2): (15, 3, 4),
        (1, 0): (2, 3, 1),
    }
    other.set_coefficients(found)
    other.bias.load_state_dict(layer.bias.state_dict())
    x = Features(normal(rng, 4, 4, 2), normal(rng, 4, 3))
    assert torch.equal(layer(*x).pairs, other(*x).pairs)
    found[2, 2].sum().backward()
    assert (layer.weight["2_2"].grad == 1).all()


@roots
def test_variance_does_not_grow_with_the_number_of_maps(rooted, rng):
    layer = PermutationLinear({2: 64, 1: 64, 0: 64}, {2: 64, 1: 64, 0: 64}, rooted=rooted)
    layer.reset_parameters(rng)
    for nodes in (1, 2, 8):
        x = [normal(rng, 20, *[nodes] * p, 64, dtype=torch.float32) for p in (2, 1, 0)]
        for y in layer(*x):
            assert 0.1 < float(y.detach().var()) < 1.2
    # all features equal: nothing averages out, and at m = 1 all maps see the same number
    y = layer(*(torch.ones(1, *[1] * p, 64) for p in (2, 1, 0)))
    assert all(0.3 < float(values.detach().square().mean()) < 2 for values in y)
    assert all((bias == 0).all() for bias in layer.bias.values())


def test_weights_are_drawn_from_the_generator_given():
    layer = PermutationLinear({2: 2}, {2: 2}, weights="size_embedding")
    drawn = []
    for seed in (0, 0, 1):
        layer.reset_parameters(torch.Generator().manual_seed(seed))
        drawn.append(torch.cat([value.flatten() for value in layer.state_dict().values()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@roots
def test_parameters_are_one_matrix_per_map(rooted):
    layer = PermutationLinear({2: 2, 1: 3, 0: 4}, {2: 5, 1: 6, 0: 7}, rooted=rooted)
    sizes = {name: tuple(value.shape) for name, value in layer.named_parameters()}
    for p, c in {2: 2, 1: 3, 0: 4}.items():
        for q, s in {2: 5, 1: 6, 0: 7}.items():
            assert sizes[f"weight.{p}_{q}"] == (basis_count(p, q, rooted), c, s)
    biases = {0: 1, 1: 2, 2: 5} if rooted else {0: 1, 1: 1, 2: 2}
    assert {sizes[f"bias.{q}"][0] for q in biases} == set(biases.values())
    assert "bias" not in dict(PermutationLinear({1: 1}, {1: 1}, bias=False).named_parameters())


def test_no_nodes_and_one_node(rng):
    layer = linear(rng, {2: 3, 1: 2}, {2: 4, 1: 2, 0: 3})
    empty = layer(torch.zeros(2, 0, 0, 3).double(), torch.zeros(2, 0, 2).double())
    assert [tuple(y.shape) for y in empty] == [(2, 0, 0, 4), (2, 0, 2), (2, 3)]
    assert torch.equal(empty.scalars, layer.bias["0"].expand(2, -1))
    assert all(y.isfinite().all() for y in layer(normal(rng, 1, 1, 3), normal(rng, 1, 2)))


def test_inputs_need_not_be_contiguous(rng):
    layer = linear(rng, {2: 3, 1: 2}, {2: 4, 1: 2})
    x = Features(normal(rng, 5, 3, 5).transpose(1, 2), normal(rng, 2, 5).mT)
    found, expected = layer(*x), layer(*(rows.contiguous() for rows in x[:2]))
    for left, right in zip(found[:2], expected[:2], strict=True):
        assert_close(left.detach(), right.detach())


def test_names_are_those_of_the_fields():
    assert (*reversed(NAMES),) == Features._fields
