"""Ragged features beside dense ones, subgraph by subgraph."""

import pytest
import torch

from eqlib.kernels.pair_linear import whynot
from eqlib.subgraph import Features
from eqlib.subgraph.features import features_of
from tests.subgraph.batches import error, features, local_rows, ragged_plan
from tests.subgraph.maps.stack import linear, randomised

roots = pytest.mark.parametrize("rooted", [False, True], ids=["free", "rooted"])
CHANNELS = ({2: 3, 1: 2, 0: 5}, {2: 4, 1: 3, 0: 2})
WEIGHTS = {
    "shared": {},
    "per_size": {"weights": "per_size", "sizes": (2, 1, 5)},
    "size_embedding": {"weights": "size_embedding"},
}
SAME = {torch.float64: 1e-12, torch.float32: 1e-5}


def one_by_one(layer, x, plan):
    """The layer on each subgraph alone, in dense form."""
    parts = []
    for e in range(plan.num_subgraphs):
        members = slice(*plan.starts[e : e + 2].tolist())
        pairs = slice(*plan.pair_starts[e : e + 2].tolist())
        m = members.stop - members.start
        parts_of = {2: pairs, 1: members, 0: e}
        alone = {
            order: rows[parts_of[order]].reshape(*[m] * order, rows.shape[1])
            for order, rows in x.by_order().items()
        }
        root = int(plan.root[e]) - members.start if layer.rooted else None
        found = layer(**features_of(alone)._asdict(), root=root, size=m).by_order()
        parts.append({order: y.reshape(-1, y.shape[-1]) for order, y in found.items()})
    return features_of({order: torch.cat([part[order] for part in parts]) for order in parts[0]})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("options", list(WEIGHTS.values()), ids=list(WEIGHTS))
@pytest.mark.parametrize("normalised", [False, True], ids=["sums", "means"])
@roots
def test_equals_the_dense_layer_in_each_subgraph(rooted, normalised, options, dtype, rng):
    layer = linear(rng, *CHANNELS, rooted=rooted, normalised=normalised, **options)
    plan = ragged_plan(rooted=rooted)
    x = features(rng, local_rows(plan))
    expected = one_by_one(layer, x, plan)
    found = layer.to(dtype)(*(rows.to(dtype) for rows in x), plan=plan)
    assert error(found, expected) < SAME[dtype]


@pytest.mark.parametrize("implementation", ["naive", "blocked", "compiled"])
@roots
def test_implementations_agree(rooted, implementation, rng):
    if reason := whynot(implementation, torch.device("cpu"), torch.float64):
        pytest.skip(f"cannot run here: {reason}")
    layer = linear(rng, *CHANNELS, rooted=rooted, implementation=implementation)
    plan = ragged_plan(rooted=rooted)
    x = features(rng, local_rows(plan))
    assert error(layer(*x, plan=plan), one_by_one(layer, x, plan)) < 1e-12


@pytest.mark.parametrize("p", [0, 1, 2])
@pytest.mark.parametrize("q", [0, 1, 2])
@roots
def test_one_order_alone(p, q, rooted, rng):
    layer = linear(rng, {p: 3}, {q: 4}, rooted=rooted)
    plan = ragged_plan((3, 1, 2), rooted)
    x = features(rng, local_rows(plan), (3, 3, 3))
    given = Features(
        *(rows if order == p else None for order, rows in zip((2, 1, 0), x, strict=True))
    )
    found = layer(*given, plan=plan)
    whole = linear(rng, {2: 3, 1: 3, 0: 3}, {2: 4, 1: 4, 0: 4}, rooted=rooted)
    zero = {key: torch.zeros_like(value) for key, value in whole.coefficients().items()}
    whole.set_coefficients(zero | layer.coefficients())
    with torch.no_grad():
        for order, bias in whole.bias.items():
            bias.copy_(layer.bias[order] if int(order) == q else 0)
    assert list(found.by_order()) == [q]
    expected = one_by_one(whole, x, plan).by_order()[q]
    assert error([found.by_order()[q]], [expected]) < 1e-12


def test_control_a_wrong_transpose_is_seen(rng):
    layer, plan = linear(rng, *CHANNELS), ragged_plan()
    x = features(rng, local_rows(plan))
    wrong = plan._replace(transpose=torch.arange(plan.num_pairs))
    assert error(layer(*x, plan=wrong), one_by_one(layer, x, plan)) > 1e-2


def test_control_pairs_under_a_wrong_size_are_seen(rng):
    """The pairs of subgraphs of 3 and 5 nodes, read as those of 5 and 3."""
    layer, plan = linear(rng, {2: 3}, {2: 4}), ragged_plan((3, 5))
    x, _, _ = features(rng, local_rows(plan))
    other = ragged_plan((5, 3))
    found = layer(x, plan=other)
    assert error(found, one_by_one(layer, Features(x), plan)) > 1e-1


@pytest.mark.parametrize("sizes", [(), (1,), (1, 1, 1), (2,), (0, 3, 0)], ids=str)
@pytest.mark.parametrize("options", list(WEIGHTS.values()), ids=list(WEIGHTS))
def test_few_and_small_subgraphs(sizes, options, rng):
    layer = linear(rng, *CHANNELS, **options)
    plan = ragged_plan(sizes)
    x = features(rng, local_rows(plan))
    found = layer(*x, plan=plan)
    assert [rows.shape for rows in found] == [
        (rows, c) for rows, c in zip(local_rows(plan), (4, 3, 2), strict=True)
    ]
    assert all(rows.isfinite().all() for rows in found)
    if sizes and 0 not in sizes:
        assert error(found, one_by_one(layer, x, plan)) < 1e-12


def test_rooted_subgraphs_may_be_none(rng):
    layer, plan = linear(rng, *CHANNELS, rooted=True), ragged_plan((), rooted=True)
    assert all(len(rows) == 0 for rows in layer(*features(rng, (0, 0, 0)), plan=plan))


def test_rows_need_not_be_contiguous(rng):
    layer, plan = linear(rng, *CHANNELS), ragged_plan()
    x = features(rng, local_rows(plan))
    apart = Features(*(rows.mT.contiguous().mT for rows in x))
    assert not apart.pairs.is_contiguous()
    assert error(layer(*apart, plan=plan), layer(*x, plan=plan)) < 1e-14


def test_a_bias_alone_is_the_same_everywhere(rng):
    layer, plan = linear(rng, {1: 2}, {2: 3}), ragged_plan((2, 3))
    y = layer(nodes=torch.zeros(5, 2).double(), plan=plan).pairs
    diagonal = plan.row == plan.column
    torch.testing.assert_close(y[diagonal], layer.bias["2"].sum(0).expand(5, -1))
    torch.testing.assert_close(y[~diagonal], layer.bias["2"][1].expand(8, -1))


def test_randomised_moves_all_parameters(rng):
    layer = linear(rng, *CHANNELS, weights="size_embedding")
    before = {name: value.clone() for name, value in layer.named_parameters()}
    randomised(layer, rng)
    assert all(not torch.equal(value, before[name]) for name, value in layer.named_parameters())
