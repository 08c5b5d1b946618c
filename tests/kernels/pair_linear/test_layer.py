"""All maps of a layer at once, and their derivatives, against one dense matrix after the other."""

import gc
import weakref
from itertools import pairwise

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from eqlib.kernels import native
from eqlib.kernels.pair_linear import (
    Nodes,
    Settings,
    pair_layer,
    pair_layer_gradient,
    whynot_layer,
)
from tests.kernels.pair_linear.test_compiled import ROWS, TOLERANCE, make_pairs

WIDTHS = {
    "all orders": (5, 3, 2, 4, 6, 7),
    "whole vectors": (16, 16, 16, 16, 16, 16),
    "several panels": (30, 17, 5, 40, 33, 9),
    "pairs to pairs": (5, 0, 0, 4, 0, 0),
    "nodes to nodes": (0, 5, 0, 0, 4, 0),
    "scalars to scalars": (0, 0, 5, 0, 0, 4),
    "pairs to scalars": (5, 0, 0, 0, 0, 4),
    "scalars to pairs": (0, 0, 5, 4, 0, 0),
    "nodes to pairs": (0, 5, 0, 4, 0, 0),
    "pairs to nodes": (5, 0, 0, 0, 4, 0),
}
"""Channels of pairs, nodes and scalars, and of the results."""
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
shared = pytest.mark.parametrize("nodes", [None, 40], ids=["own rows", "shared rows"])
rooted = pytest.mark.parametrize("root", [False, True], ids=["", "rooted"])
means = pytest.mark.parametrize("normalised", [True, False], ids=["means", "sums"])


@pytest.fixture(autouse=True)
def _needs_a_compiler():
    if reason := whynot_layer(torch.device("cpu"), torch.float64):
        pytest.skip(reason)


def make(sizes, widths, nodes, rng, normalised=True, dtype=torch.float64, root=False):
    """Features, weights and settings; some pair and some node are in no subgraph."""
    pairs = make_pairs(sizes, nodes, root, rng)
    settings = Settings(pairs, None if nodes is None else nodes_of(pairs), widths, normalised)

    def normal(*shape):
        return torch.randn(shape, dtype=torch.float64, generator=rng).to(dtype)

    features = tuple(map(normal, settings.rows(), widths[:3]))
    return features, [normal(*shape) for _, shape in settings.shapes()], settings


def nodes_of(pairs):
    """Number the nodes by the slots of their pairs with themselves; node 0 is in no subgraph."""
    diagonal = pairs.slot[pairs.row == pairs.column]
    node = 1 + diagonal.unique(return_inverse=True)[1]
    count = int(node.max()) if len(node) else 0
    order = node.argsort(stable=True)
    return Nodes(node, order, torch.searchsorted(node[order], torch.arange(count + 2)))


def by_dense_maps(features, weights, settings):
    """The formula, one subgraph after the other: maps of dense matrices, then means."""
    (pairs, nodes, *_), table = settings, dict(zip_shapes(settings, weights))
    found = [
        features[0].new_zeros(rows, width)
        for rows, width in zip(settings.rows(), settings.channels[3:], strict=True)
    ]
    counts = [torch.zeros(rows, 1) for rows in settings.rows()]
    for e, (first, last) in enumerate(pairwise(pairs.starts.tolist())):
        m, member = last - first, torch.arange(first, last)
        pair = torch.arange(int(pairs.pair_starts[e]), int(pairs.pair_starts[e + 1]))
        slot = (pair if pairs.slot is None else pairs.slot[pair]).view(m, m)
        node = member if nodes is None else nodes.node[member]
        values = (features[0][slot], features[1][node], features[2][e])
        root = None if pairs.root is None else int(pairs.root[e]) - first
        mapped = dense_layer(values, table, settings, root if m else None)
        rows = (slot.flatten(), node, torch.tensor([e]))
        for q in range(3):
            update = mapped[q].reshape(len(rows[q]), settings.channels[3 + q])
            found[q] = found[q].index_add(0, rows[q], update)
            counts[q].index_add_(0, rows[q], torch.ones(len(update), 1))
    found = [
        total / count.clamp(min=1).to(total) for total, count in zip(found, counts, strict=True)
    ]
    if settings.channels[0] and settings.channels[3]:  # also where no subgraph has the pair
        alone = (counts[0] == 0).to(found[0])
        same, turned = features[0], features[0][pairs.transpose]
        found[0] = found[0] + alone * (same @ table[0][0] + turned @ table[0][1])
    return found


def zip_shapes(settings, weights):
    return [(place, weight) for (place, _), weight in zip(settings.shapes(), weights, strict=True)]


def dense_layer(values, table, settings, root):
    """The basis maps of one subgraph, in the order of their weights."""
    A, x, z = values
    size, (s2, s1, s0) = len(x), settings.channels[3:]
    e = torch.zeros(size, 1, dtype=A.dtype)
    if root is not None:
        e[root] = 1
    vectors, scalars = sources(A, x, z, e if settings.rooted else None, settings.normalised)
    found = [A.new_zeros(shape) for shape in ((size, size, s2), (size, s1), (1, s0))]
    vector_places, scalar_places = places(size, e if settings.rooted else None)
    for place, weight in table.items():
        p, q = divmod(place, 3)
        maps = iter(weight if p < 3 else weight[:, None])
        if p == q == 0:
            found[0] = found[0] + A @ next(maps) + A.transpose(0, 1) @ next(maps)
        for spread in vector_places[q]:
            for vector in vectors[p]:
                found[q] = found[q] + spread(vector @ next(maps))
        for spread in scalar_places[q]:
            for scalar in scalars[p]:
                found[q] = found[q] + spread(scalar @ next(maps))
        assert next(maps, None) is None
    return found[0], found[1], found[2]


def sources(A, x, z, e, normalised):  # noqa: N803 - a matrix
    """Vectors and scalars of pairs, nodes, scalars and the constant; e marks the root."""
    m = max(len(x), 1) if normalised else 1
    d, r, c = A.diagonal().mT, A.sum(1) / m, A.sum(0) / m
    of_pairs, of_nodes = [d.sum(0) / m, A.sum((0, 1)) / m**2], [x.sum(0) / m]
    vectors = [d, r, c]
    if e is not None:
        vectors += [torch.einsum("ijc,jk->ic", A, e), torch.einsum("ijc,ik->jc", A, e)]
        of_pairs += [(e * vector).sum(0) for vector in (d, r, c)]
        of_nodes.append((e * x).sum(0))
    one = torch.ones(1, dtype=x.dtype)
    return (vectors, [x], [], []), (of_pairs, of_nodes, [z], [one])


def places(size, e):
    """What vectors and scalars become in pairs, nodes and scalars."""
    eye, ones = torch.eye(size, dtype=torch.float64)[:, :, None], torch.ones(size, 1).double()
    spread = [lambda v: eye * v[:, None], lambda v: v[:, None] * ones, lambda v: ones[:, None] * v]
    level = [lambda s: eye * s, lambda s: ones[:, None] * ones * s]
    at_nodes = [lambda s: ones * s]
    if e is not None:
        spread += [lambda v: v[:, None] * e, lambda v: e[:, None] * v]
        level += [
            lambda s: e[:, None] * e * s,
            lambda s: e[:, None] * ones * s,
            lambda s: ones[:, None] * e * s,
        ]
        at_nodes.append(lambda s: e * s)
    return (spread, [lambda v: v], []), (level, at_nodes, [lambda s: s[None]])


def close(found, reference, tolerance):
    scale = max(1.0, float(reference.detach().abs().max()) if reference.numel() else 0.0)
    return found.shape == reference.shape and torch.all(
        (found - reference).abs() <= tolerance * scale
    )


def leaves(tensors):
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def results_and_gradients(function, features, weights, settings, rng):
    """Results, and gradients of a random sum of them by features and weights."""
    features, weights = leaves(features), leaves(weights)
    found = function(features, weights, settings)
    seeds = [torch.randn(y.shape, dtype=torch.float64, generator=rng).to(y) for y in found]
    total = sum((y * seed).sum() for y, seed in zip(found, seeds, strict=True))
    gradients = torch.autograd.grad(total, [*features, *weights], allow_unused=True)
    zeros = [torch.zeros_like(leaf) for leaf in (*features, *weights)]
    return [*found, *(z if g is None else g for g, z in zip(gradients, zeros, strict=True))]


def check_all(arguments, dtype, seed=0):
    features, weights, settings = arguments
    wide = [t.double() for t in features], [t.double() for t in weights], settings
    draws = [torch.Generator().manual_seed(seed) for _ in range(2)]
    expected = results_and_gradients(by_dense_maps, *wide, draws[0])
    found = results_and_gradients(pair_layer, features, weights, settings, draws[1])
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        assert close(a, b, TOLERANCE[dtype])


@dtypes
@means
@shared
@rooted
@pytest.mark.parametrize("sizes", ROWS.values(), ids=ROWS.keys())
def test_matches_dense_maps(sizes, root, nodes, normalised, dtype, rng):
    check_all(make(sizes, WIDTHS["all orders"], nodes, rng, normalised, dtype, root), dtype)


@dtypes
@shared
@rooted
@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS.keys())
def test_any_orders_and_channels(widths, root, nodes, dtype, rng):
    sizes = ROWS["sizes of molecules"]
    check_all(make(sizes, widths, nodes, rng, dtype=dtype, root=root), dtype)


def test_the_root_matters(rng):
    features, weights, settings = make([3, 4], WIDTHS["all orders"], 9, rng, root=True)
    reference = by_dense_maps(features, weights, settings)[0]
    moved = settings.pairs._replace(root=settings.pairs.starts[1:] - settings.pairs.root % 2 - 1)
    found = pair_layer(features, weights, settings._replace(pairs=moved))[0]
    assert not close(found, reference, 1e-2)


def test_sizes_and_order_matter(rng):
    features, weights, settings = make(ROWS["sizes of molecules"], (5, 3, 2, 4, 6, 7), None, rng)
    reference = by_dense_maps(features, weights, settings)[0]
    sums = pair_layer(features, weights, settings._replace(normalised=False))[0]
    assert not close(sums, reference, 1e-2)
    turned = (features[0][settings.pairs.transpose], *features[1:])
    assert not close(pair_layer(turned, weights, settings)[0], reference, 1e-2)


@shared
@means
@rooted
def test_transposed_is_the_transpose(root, nodes, normalised, rng):
    arguments = [3, 1, 4, 2], (5, 3, 2, 8, 6, 7), nodes, rng, normalised
    features, weights, settings = make(*arguments, root=root)
    settings = settings._replace(constant=False)
    shapes = zip(settings.rows(), settings.channels[3:], strict=True)
    seeds = tuple(torch.randn(s, dtype=torch.float64, generator=rng) for s in shapes)
    found = pair_layer(features, weights, settings)
    back = pair_layer(seeds, weights, settings, transposed=True)
    one = sum(float((a * b).sum()) for a, b in zip(found, seeds, strict=True))
    other = sum(float((a * b).sum()) for a, b in zip(features, back, strict=True))
    assert abs(one - other) <= 1e-12 * max(abs(one), 1)
    wrong = pair_layer(seeds, weights, settings._replace(normalised=not normalised), True)
    other = sum(float((a * b).sum()) for a, b in zip(features, wrong, strict=True))
    assert abs(one - other) > 1e-2


@shared
@rooted
@pytest.mark.parametrize(
    "widths", [(2, 1, 1, 1, 2, 1), (2, 0, 0, 2, 0, 0), (0, 1, 1, 8, 0, 0)], ids=str
)
def test_derivatives_of_all_orders(widths, root, nodes, rng):
    features, weights, settings = make([1, 3, 2], widths, nodes and 4, rng, root=root)

    def function(*tensors):
        found = pair_layer(tensors[:3], tensors[3:], settings)
        return tuple(rows for rows in found if rows.numel())

    operands = leaves([*features, *weights])
    assert gradcheck(function, operands, fast_mode=True)
    assert gradgradcheck(function, operands, fast_mode=True)

    def gradient(*tensors):
        found = pair_layer_gradient(tensors[:3], tensors[3:], settings)
        return tuple(weight for weight in found if weight.numel())

    shapes = zip(settings.rows(), settings.channels[3:], strict=True)
    seeds = [torch.randn(s, dtype=torch.float64, generator=rng) for s in shapes]
    assert gradgradcheck(gradient, leaves([*features, *seeds]), fast_mode=True)


@pytest.mark.parametrize("threads", [2, 3, 16], ids=lambda count: f"{count} threads")
@shared
def test_threads_change_nothing(nodes, threads, rng, monkeypatch):
    sizes = [*ROWS["several blocks"], 100, 3, 2]
    features, weights, settings = make(
        sizes, WIDTHS["all orders"], None if nodes is None else 120, rng
    )
    one = pair_layer(features, weights, settings)
    monkeypatch.setattr(native, "count_threads", lambda work: threads)
    several = pair_layer(features, weights, settings)
    assert all(torch.equal(a, b) for a, b in zip(one, several, strict=True))


def test_strided_operands(rng):
    features, weights, settings = make([3, 4, 1], WIDTHS["all orders"], 40, rng)
    one = pair_layer(features, weights, settings)
    strided = [rows.mT.contiguous().mT for rows in features]
    pairs = settings.pairs._replace(slot=settings.pairs.slot.repeat_interleave(2)[::2])
    turned = [weight.mT.contiguous().mT for weight in weights]
    several = pair_layer(strided, turned, settings._replace(pairs=pairs))
    assert all(torch.equal(a, b) for a, b in zip(one, several, strict=True))


def test_indices_are_not_kept(rng):
    features, weights, settings = make([3, 4, 1], WIDTHS["all orders"], 40, rng)
    pair_layer(features, weights, settings)
    seen = weakref.ref(settings.pairs.slot)
    del settings
    gc.collect()
    assert seen() is None


@pytest.mark.unchecked
def test_indices_that_are_written_to_are_looked_at_again(rng):
    features, weights, settings = make([3, 4, 1], WIDTHS["all orders"], 40, rng)
    pair_layer(features, weights, settings)
    settings.nodes.node[0] += 1
    with pytest.raises(ValueError, match="member_order, member_starts: expected the members"):
        pair_layer(features, weights, settings)


@pytest.mark.unchecked
def test_an_order_that_names_a_member_twice_is_refused(rng):
    features, weights, settings = make([3, 4, 4], WIDTHS["all orders"], 4, rng)
    nodes = settings.nodes
    first = int((nodes.member_starts.diff() > 1).nonzero()[0, 0])
    begin = int(nodes.member_starts[first])
    order = nodes.member_order.clone()
    order[begin + 1] = order[begin]
    wrong = settings._replace(nodes=nodes._replace(member_order=order))
    with pytest.raises(
        ValueError, match="member_order: expected the members sorted stably by node"
    ):
        pair_layer(features, weights, wrong)


@pytest.mark.unchecked
def test_bad_input_is_refused(rng):
    features, weights, settings = make([2, 3], WIDTHS["all orders"], None, rng)
    half = [rows.half() for rows in features]
    with pytest.raises(ValueError, match="pair_layer cannot run: it is for float32 and float64"):
        pair_layer(half, weights, settings)
    with pytest.raises(TypeError, match=r"weights\[11\]: expected torch.float64, as x, got"):
        pair_layer(features, [*weights[:-1], weights[-1].float()], settings)
    with pytest.raises(ValueError, match=r"weights\[0\]: expected shape \(15, 5, 4\), got"):
        pair_layer(features, [weights[0][:-1], *weights[1:]], settings)
    with pytest.raises(ValueError, match="weights: expected 12 tensors, got 11"):
        pair_layer(features, weights[1:], settings)
    wrong = settings.pairs._replace(root=settings.pairs.starts[1:])
    with pytest.raises(ValueError, match="root: expected a member of each subgraph"):
        pair_layer(features, weights, settings._replace(pairs=wrong))
    with pytest.raises(ValueError, match="nodes: expected shape"):
        pair_layer((features[0], features[1][1:], features[2]), weights, settings)


@pytest.mark.unchecked
def test_nodes_that_do_not_fit_are_refused(rng):
    features, weights, settings = make([2, 3], WIDTHS["all orders"], 4, rng)
    nodes = settings.nodes
    with pytest.raises(ValueError, match="node, member_order, member_starts: expected tensors"):
        pair_layer(
            (features[0], features[1][:5], features[2]), weights, settings._replace(nodes=None)
        )
    one = Nodes(torch.zeros_like(nodes.node), torch.arange(5), torch.tensor([0, 5]))
    rows = (features[0], features[1][:1], features[2])
    with pytest.raises(ValueError, match=r"node: expected the pairs \(i, i\) of all members"):
        pair_layer(rows, weights, settings._replace(nodes=one))
    wrong = settings._replace(nodes=nodes._replace(node=nodes.node.int()))
    with pytest.raises(TypeError, match=r"node: expected int64, got torch\.int32"):
        pair_layer(features, weights, wrong)
