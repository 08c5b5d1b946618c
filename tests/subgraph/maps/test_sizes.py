"""Weights that depend on the size of a subgraph, and products with one of several matrices."""

import pytest
import torch

from eqlib.subgraph import PermutationLinear
from eqlib.subgraph.maps.grouped import BLOCK, grouped_matmul
from eqlib.subgraph.maps.sizes import nearest_size
from tests.subgraph.batches import error, features, local_rows, ragged_plan
from tests.subgraph.maps.stack import linear, normal


@pytest.mark.parametrize("rows", [0, 1, BLOCK, 3 * BLOCK + 1])
@pytest.mark.parametrize("groups", [1, 2, 7])
def test_grouped_matmul_picks_a_matrix_for_each_row(rows, groups, rng):
    x, matrices = normal(rng, rows, 3), normal(rng, groups, 3, 4)
    group = torch.randint(groups, (rows,), generator=rng)
    expected = torch.einsum("ri,rio->ro", x, matrices[group])
    torch.testing.assert_close(grouped_matmul(x, matrices, group), expected)


def test_grouped_matmul_has_all_derivatives(rng):
    x, matrices = normal(rng, 5, 3).requires_grad_(), normal(rng, 3, 3, 2).requires_grad_()
    group = torch.tensor([2, 0, 2, 2, 0])
    inputs = (x, matrices)
    call = lambda x, matrices: grouped_matmul(x, matrices, group)  # noqa: E731
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize(
    ("known", "nearest"),
    [
        ((3,), [3, 3, 3, 3, 3, 3, 3]),
        ((2, 4), [2, 2, 2, 4, 4, 4, 4]),
        ((1, 2, 7), [1, 2, 2, 2, 7, 7, 7]),
    ],
    ids=str,
)
def test_unseen_sizes_take_the_nearest_and_the_smaller_of_two(known, nearest):
    found = nearest_size(torch.arange(1, 8), torch.tensor(known))
    assert [known[index] for index in found] == nearest


def test_sizes_have_weights_of_their_own(rng):
    layer = linear(rng, {2: 3, 1: 2, 0: 5}, {2: 4, 1: 3}, weights="per_size", sizes=(4, 2))
    assert layer.weight["2_2"].shape == (2, 15, 3, 4)
    plan = ragged_plan((2, 4, 3, 9, 1))
    assert layer.unseen_sizes(plan).tolist() == [1, 3, 9]
    x = features(rng, local_rows(plan))
    before = layer(*x, plan=plan)
    two = {key: torch.zeros_like(value) for key, value in layer.coefficients(2).items()}
    layer.set_coefficients(two, size=2)
    assert all((value == 0).all() for value in layer.coefficients(3).values())
    after = layer(*x, plan=plan)
    takes_four = torch.isin(plan.sizes, torch.tensor([4, 9]))[plan.subgraph]
    assert torch.equal(after.nodes[takes_four], before.nodes[takes_four])
    assert torch.equal(after.nodes[~takes_four], layer.bias["1"].expand(6, -1))


def test_equal_weights_of_all_sizes_are_shared_weights(rng):
    shared = linear(rng, {2: 3, 1: 2, 0: 5}, {2: 4, 1: 3, 0: 2})
    sized = linear(rng, {2: 3, 1: 2, 0: 5}, {2: 4, 1: 3, 0: 2}, weights="per_size", sizes=(1, 3))
    scaled = linear(rng, {2: 3, 1: 2, 0: 5}, {2: 4, 1: 3, 0: 2}, weights="size_embedding")
    scaled.scale.reset_parameters(rng)  # all factors are one again
    for size in (1, 3):
        sized.set_coefficients(shared.coefficients(), size)
    scaled.set_coefficients(shared.coefficients())
    plan = ragged_plan()
    x = features(rng, local_rows(plan))
    for layer in (sized, scaled):
        layer.bias.load_state_dict(shared.bias.state_dict())
        assert error(layer(*x, plan=plan), shared(*x, plan=plan)) < 1e-13


def test_an_embedding_scales_each_map_by_a_smooth_function_of_the_size(rng):
    layer = linear(rng, {2: 2}, {2: 2}, weights="size_embedding")
    factors = torch.stack(
        [(layer.coefficients(m)[2, 2] / layer.coefficients()[2, 2])[:, 0, 0] for m in (4, 5, 1000)]
    )
    direct = layer.scale(torch.tensor([4, 5, 1000]))
    torch.testing.assert_close(factors, direct)
    assert direct.isfinite().all()
    assert ((direct[0] - direct[1]).abs() < (direct[0] - direct[2]).abs()).float().mean() > 0.8


def test_gradients_reach_only_the_sizes_that_occur(rng):
    layer = linear(rng, {2: 2}, {2: 2}, weights="per_size", sizes=(1, 2, 3))
    plan = ragged_plan((2, 2))
    layer(normal(rng, 8, 2), plan=plan).pairs.square().sum().backward()
    reached = layer.weight["2_2"].grad.flatten(1).ne(0).any(1)
    assert reached.tolist() == [False, True, False]


def test_shared_weights_have_no_unseen_sizes():
    layer = PermutationLinear({2: 1}, {2: 1})
    assert layer.unseen_sizes(ragged_plan()).tolist() == []
