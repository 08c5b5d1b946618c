"""Permutation frames: all orders that sort keys which ignore the numbering of the nodes."""

from collections import Counter
from itertools import permutations, product
from math import factorial, log10, prod

import numpy as np
import pytest
import torch

from eqlib.frames.permutations.classes import node_classes, row_classes
from eqlib.frames.permutations.frames import (
    class_frames,
    permutation_frames,
    sample_orders,
)
from tests.frames.permutations.graphs import (
    SMALL,
    adjacency,
    automorphisms,
    cycle,
    orders_of,
    random_graphs,
    relabelled,
)

OPTIONS = [
    {},
    {"refine": False},
    {"normalised": True},
    {"normalised": True, "refine": False},
]


def canonical_forms(matrix, orders) -> Counter:
    """How often each reordered matrix occurs."""
    return Counter(tuple(relabelled(matrix, order).flatten().tolist()) for order in orders)


def sorted_orders(matrix, digits=6) -> set[tuple[int, ...]]:
    """The frame by its definition, with numpy: every permutation that sorts rounded keys."""
    matrix = matrix.numpy()
    values, vectors = np.linalg.eigh(np.diag(matrix.sum(1)) - matrix)
    spaces = np.split(vectors.T, np.nonzero(np.diff(values) > 1e-6)[0] + 1)
    keys = np.stack([np.sqrt((space**2).sum(0)) for space in spaces], -1).round(digits) + 0.0
    rows = [tuple(row) for row in keys]
    return {
        order
        for order in permutations(range(len(rows)))
        if [rows[i] for i in order] == sorted(rows)
    }


@pytest.mark.parametrize("name", SMALL)
def test_sizes_of_known_graphs(name):
    matrix, symmetries, size, refined = SMALL[name]
    assert automorphisms(matrix) == symmetries
    for refine, expected in [(False, size), (True, refined)]:
        frames = permutation_frames(matrix, refine=refine)
        assert frames.size == (expected,)
        assert frames.graph.tolist() == [0] * expected
        assert len(frames.order) == expected * len(matrix)
        assert frames.weights.sum() == pytest.approx(1)
        assert frames.exact.tolist() == [True]
        torch.testing.assert_close(
            frames.log10_size, torch.tensor([log10(expected)], dtype=torch.float64)
        )


@pytest.mark.parametrize("name", [name for name in SMALL if len(SMALL[name].matrix) in range(1, 7)])
def test_the_frame_is_that_of_the_definition(name):
    matrix = SMALL[name].matrix * (1 - torch.eye(len(SMALL[name].matrix)))
    found = orders_of(permutation_frames(matrix, refine=False))
    assert set(map(tuple, found.tolist())) == sorted_orders(matrix)


def test_frames_of_random_graphs_are_those_of_the_definition(rng):
    for matrix in random_graphs(rng, 20, 6):
        found = orders_of(permutation_frames(matrix, refine=False))
        assert set(map(tuple, found.tolist())) == sorted_orders(matrix)


@pytest.mark.parametrize("options", OPTIONS, ids=["default", "keys", "normalised", "both"])
@pytest.mark.parametrize("name", SMALL)
def test_relabelling_leaves_the_canonical_forms(name, options, rng):
    matrix = SMALL[name].matrix
    forms = canonical_forms(matrix, orders_of(permutation_frames(matrix, **options)))
    for _ in range(3):
        other = relabelled(matrix, torch.randperm(len(matrix), generator=rng))
        assert canonical_forms(other, orders_of(permutation_frames(other, **options))) == forms
    # every form occurs once per automorphism, so the frame is closed under them
    assert all(count % SMALL[name].automorphisms == 0 for count in forms.values())


@pytest.mark.parametrize("kind", ["weighted", "directed", "loops", "negative"])
def test_other_matrices_have_frames_too(kind, rng):
    weights = random_graphs(rng, 12, 6) * torch.randint(1, 3, (12, 6, 6), generator=rng)
    matrices = {
        "weighted": 1e6 * (weights + weights.mT),
        "directed": weights,
        "loops": random_graphs(rng, 12, 6) + (torch.rand(12, 6, generator=rng) < 0.5).diag_embed(),
        "negative": weights + weights.mT - 2,
    }[kind].double()
    frames = permutation_frames(matrices)
    moved = [torch.randperm(6, generator=rng) for _ in matrices]
    others = torch.stack([relabelled(*pair) for pair in zip(matrices, moved, strict=True)])
    found = permutation_frames(others)
    assert found.size == frames.size
    for index, (matrix, other) in enumerate(zip(matrices, others, strict=True)):
        forms = canonical_forms(matrix, orders_of(frames, index))
        assert canonical_forms(other, orders_of(found, index)) == forms
        assert frames.size[index] >= automorphisms(matrix)


def test_refinement_sees_loops_directions_and_weights():
    ring = cycle(4)
    loop = ring + torch.tensor([1.0, 0, 0, 0]).diag()
    arrow = adjacency(4, (0, 1), (2, 3)).triu()
    heavy = ring + adjacency(4, (0, 1))
    assert permutation_frames(ring).size == (24,)
    assert permutation_frames(loop).size == (2,)
    assert permutation_frames(loop, refine=False).size == (6,)
    assert permutation_frames(arrow).size == (4,)
    assert permutation_frames(arrow, refine=False).size == (24,)  # Laplacians see no direction
    assert permutation_frames(heavy).size == (4,)


def test_features_are_the_first_keys():
    ring = cycle(4)
    colours = torch.tensor([2, 1, 2, 1])
    for features in (colours, colours[:, None], colours.bool() | (colours > 1), colours > 1):
        assert permutation_frames(ring, features, refine=False).size in ((4,), (24,))
    frames = permutation_frames(ring, colours, refine=False)
    assert frames.size == (4,)
    assert (colours[orders_of(frames)] == torch.tensor([1, 1, 2, 2])).all()
    large = torch.tensor([10**9, 10**9 + 1, 10**9, 10**9 + 1])
    assert permutation_frames(ring, large).size == (4,)  # integers are compared exactly
    assert permutation_frames(ring, large.double()).size == (24,)  # the rest by the tolerance


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64,
        torch.float32,
        torch.bfloat16,
        torch.float16,
        torch.int64,
        torch.int8,
        torch.bool,
    ],
    ids=str,
)
def test_matrices_of_any_dtype(dtype, rng):
    matrices = random_graphs(rng, 3, 4, 7)
    expected, found = node_classes(matrices), node_classes(matrices.to(dtype))
    for part, other in zip(expected, found, strict=True):
        torch.testing.assert_close(part, other, rtol=0, atol=0)
    assert permutation_frames(matrices.to(dtype), limit=5040).weights.dtype == torch.float64


def test_autocast_changes_nothing(rng):
    matrices = random_graphs(rng, 3, 7)
    expected = node_classes(matrices.float(), normalised=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = node_classes(matrices.float(), normalised=True)
    assert torch.equal(found.classes, expected.classes)
    assert torch.equal(found.margin, expected.margin)


def test_strided_matrices_with_gradient(rng):
    matrices = random_graphs(rng, 3, 7)
    wide = torch.stack([matrices, matrices], -1)[..., 0].requires_grad_()
    assert torch.equal(node_classes(wide).classes, node_classes(matrices).classes)
    shared = matrices[0].expand(3, 7, 7)
    assert node_classes(shared).size == 3 * node_classes(matrices[0]).size


def ragged(*matrices):
    """Edge index, weights and batch of graphs."""
    sizes = torch.tensor([len(matrix) for matrix in matrices])
    edges = torch.block_diag(*matrices).nonzero().mT if len(matrices) else torch.zeros(2, 0)
    weights = torch.block_diag(*matrices)[edges[0], edges[1]]
    return edges, weights, torch.arange(len(matrices)).repeat_interleave(sizes)


@pytest.mark.parametrize("limit", [0, 24, 720])
def test_ragged_batches_are_single_graphs(limit, rng):
    names = list(SMALL)
    matrices = [SMALL[name].matrix for name in names]
    edges, weights, batch = ragged(*matrices)
    frames = permutation_frames(
        edges,
        batch=batch,
        num_graphs=len(names) + 2,
        edge_weight=weights,
        limit=limit,
        samples=5,
        generator=rng,
    )
    assert frames.size == (*(SMALL[name].refined for name in names), 1, 1)
    assert len(frames.exact) == len(frames.margin) == len(names) + 2
    assert frames.graph.diff().min() >= 0
    assert frames.frame.diff().min() >= 0
    for index, name in enumerate(names):
        count = SMALL[name].refined
        orders = orders_of(frames, index)
        assert len(orders) == (count if count <= limit else 5)
        assert bool(frames.exact[index]) == (count <= limit or count == 1)
        assert frames.weights[frames.graph == index].sum() == pytest.approx(1)
        expected = set(map(tuple, orders_of(permutation_frames(matrices[index])).tolist()))
        found = set(map(tuple, orders.tolist()))
        assert found == expected if count <= limit else found <= expected


def test_dense_batches_are_single_graphs(rng):
    matrices = random_graphs(rng, 2, 3, 5)
    frames = permutation_frames(matrices)
    for index, matrix in enumerate(matrices.flatten(0, 1)):
        alone = permutation_frames(matrix)
        assert torch.equal(orders_of(frames, index), orders_of(alone))
        assert frames.size[index] == alone.size[0]


def test_masks_leave_the_nodes_that_exist(rng):
    matrices = random_graphs(rng, 4, 6)
    mask = torch.rand(4, 6, generator=rng) < 0.7
    mask[3] = False
    hidden = torch.where(mask[..., None] & mask[:, None], matrices, torch.nan)
    frames = permutation_frames(hidden, mask=mask)
    for index, (matrix, exists) in enumerate(zip(matrices, mask, strict=True)):
        kept = exists.nonzero()[:, 0]
        expected = orders_of(permutation_frames(relabelled(matrix, kept)))
        rows = frames.order.view(-1, 6)[frames.graph == index] - 6 * index
        assert torch.equal(rows[:, : len(kept)], kept[expected])
        assert (rows[:, len(kept) :] == (~exists).nonzero()[:, 0]).all()  # the others come last


@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 0, 0), (0, 0), (3, 0, 2, 2)], ids=str)
def test_empty_batches(shape):
    frames = permutation_frames(torch.zeros(shape))
    graphs = prod(shape[:-2])
    assert frames.size == ((1,) * graphs if shape[-1] == 0 else ())
    assert frames.order.numel() == 0


def test_ragged_batches_without_nodes():
    none = torch.zeros(0, dtype=torch.int64)
    assert permutation_frames(none.view(2, 0), batch=none).size == ()
    frames = permutation_frames(none.view(2, 0), batch=none, num_graphs=3, samples=2, limit=0)
    assert frames.size == (1, 1, 1)
    assert frames.graph.tolist() == [0, 0, 1, 1, 2, 2]


def test_edges_given_twice_add_up():
    edges = torch.tensor([[0, 1, 0, 1, 1, 2], [1, 0, 1, 0, 2, 1]])
    batch = torch.zeros(3, dtype=torch.int64)
    assert permutation_frames(edges, batch=batch).size == (1,)  # weights 2 and 1
    assert permutation_frames(edges[:, 2:], batch=batch).size == (2,)
    none = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    assert permutation_frames(edges, batch=batch, edge_weight=none).size == (2,)


def test_samples_are_uniform_over_the_frame(rng):
    # the path has the frame {ends} x {middle}: 4 orders; chi-square with 3 degrees of freedom
    matrix, draws = SMALL["path"].matrix, 4000
    frames = permutation_frames(matrix, limit=0, samples=draws, generator=rng)
    assert frames.exact.tolist() == [False]
    counts = Counter(map(tuple, orders_of(frames).tolist()))
    assert set(counts) == set(map(tuple, orders_of(permutation_frames(matrix)).tolist()))
    chi_square = sum((count - draws / 4) ** 2 / (draws / 4) for count in counts.values())
    assert chi_square < 16.3  # exceeded with probability 1e-3
    # control: draws of one order would not pass
    assert draws * 3 > 16.3


def test_samples_have_the_mean_of_the_frame(rng):
    matrix = SMALL["two triangles"].matrix
    value = torch.rand(6, 6, generator=rng, dtype=torch.float64)
    everything = (orders_of(permutation_frames(matrix)) * value[0]).square().sum(-1)
    drawn = orders_of(permutation_frames(matrix, limit=0, samples=20000, generator=rng))
    drawn = (drawn * value[0]).square().sum(-1)
    error = drawn.mean() - everything.mean()
    assert error.abs() < 4 * everything.std() / len(drawn) ** 0.5
    # control: the mean over one arbitrary order each is far away
    assert (everything[0] - everything.mean()).abs() > 4 * everything.std() / len(drawn) ** 0.5


def test_a_generator_state_gives_the_same_orders(rng):
    classes = node_classes(random_graphs(rng, 5, 9, share=0.2))
    state = rng.get_state()
    first = sample_orders(classes, 3, rng)
    again = sample_orders(classes, 3, rng.set_state(state))
    assert torch.equal(first, again)
    assert not torch.equal(first, sample_orders(classes, 3, rng))


def test_drawn_orders_sort_the_classes(rng):
    matrices = random_graphs(rng, 5, 9, share=0.2)
    mask = torch.rand(5, 9, generator=rng) < 0.8
    classes = node_classes(matrices, mask=mask)
    orders = sample_orders(classes, 7, rng)
    assert torch.equal(orders.sort(-1).values, torch.arange(45).expand(7, 45))
    assert torch.equal(classes.batch[orders], classes.batch.expand(7, 45))
    sorted_classes = classes.classes[orders].view(7, 5, 9)
    excluded = torch.where(sorted_classes < 0, 99, sorted_classes)
    assert (excluded.diff(dim=-1) >= 0).all()


def test_classes_serve_for_later_frames(rng):
    matrices = random_graphs(rng, 3, 6)
    expected = permutation_frames(matrices)
    found = class_frames(node_classes(matrices))
    assert torch.equal(found.order, expected.order)
    assert found.size == expected.size


def test_large_frames_are_refused_and_sized(rng):
    empty = torch.zeros(2, 40, 40)
    empty[0] = torch.ones(40, 40).triu()  # a total order: every node has a class of its own
    with pytest.raises(ValueError, match=r"graph 1 has about 1e47 orders.*1 of 2.*samples="):
        permutation_frames(empty)
    frames = permutation_frames(empty, samples=3, generator=rng)
    assert frames.size == (1, factorial(40))
    assert frames.exact.tolist() == [True, False]
    assert torch.bincount(frames.graph).tolist() == [1, 3]
    # the number is too long for Python to print
    with pytest.raises(ValueError, match="about 1e5735 orders"):
        class_frames(row_classes(torch.zeros(2000, 3)))


@pytest.mark.parametrize("scale", [1e-300, 1e-8, 1e8, 1e307], ids=str)
def test_weights_have_no_unit(scale, rng):
    matrices = random_graphs(rng, 6, 7)
    assert torch.equal(node_classes(scale * matrices).classes, node_classes(matrices).classes)


def test_the_margin_warns_of_near_ties():
    far = adjacency(4, (0, 1), (1, 2), (2, 3))
    near = far + 1.0e-4 * adjacency(4, (0, 1))
    assert node_classes(far).margin > 0.9
    assert node_classes(near).margin < 1e-2


def test_exact_equality_in_float32_groups_wrongly():
    # control for the tolerance: an n-cycle has n // 2 + 1 eigenspaces
    wrong = 0
    for nodes in range(5, 25):
        ring = cycle(nodes)
        laplacian = ring.sum(-1).diag() - ring
        values = torch.linalg.eigvalsh(laplacian.float())
        wrong += len(values.unique()) != nodes // 2 + 1
        assert node_classes(ring).size == (factorial(nodes),)
    assert wrong > 10


@pytest.mark.gpu
def test_frames_on_a_gpu(rng):
    matrices = random_graphs(rng, 4, 7)
    here = permutation_frames(matrices, limit=5040)
    there = permutation_frames(matrices.cuda(), limit=5040)
    assert there.order.is_cuda
    assert torch.equal(there.order.cpu(), here.order)
    drawn = permutation_frames(matrices.cuda(), limit=0, samples=2, generator=rng)
    assert drawn.order.is_cuda


def test_all_products_of_class_orders_are_listed():
    frames = permutation_frames(torch.zeros(5, 5), torch.tensor([1, 0, 1, 0, 0]))
    expected = {
        (*first, *last) for first, last in product(permutations([1, 3, 4]), permutations([0, 2]))
    }
    assert set(map(tuple, orders_of(frames).tolist())) == expected
    assert frames.size == (12,)
