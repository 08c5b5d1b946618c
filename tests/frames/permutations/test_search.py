"""Frames by individualisation and refinement: as small as the automorphism group of the graph."""

from math import factorial

import pytest
import torch
from torch import Tensor

from eqlib.frames import (
    FrameAverage,
    permutation_frames,
    search_frames,
)
from eqlib.symmetry import NodeOrder, Permutations, Scalar, Signature, equivariance_error
from tests.frames.clouds import mlp
from tests.frames.permutations.graphs import (
    SMALL,
    automorphisms,
    cycle,
    forms,
    random_graphs,
    relabelled,
)
from tests.tolerances import EQUIVARIANCE

# A tolerance that ties all nodes of regular graphs: the search has to tell triangles from squares.
BLUNT = 0.999
UNEQUAL = torch.block_diag(cycle(3), cycle(4))


@pytest.mark.parametrize("name", SMALL)
def test_frames_are_the_automorphisms(name, rng):
    matrix, symmetries, _, _ = SMALL[name]
    frames = search_frames(matrix)
    assert frames.size == (symmetries,)
    assert frames.single.tolist() == frames.exact.tolist() == [True]
    orders = frames.order.view(symmetries, len(matrix))
    assert len(set(map(tuple, orders.tolist()))) == symmetries
    assert list(forms(matrix, frames).values()) == pytest.approx([1])
    other = relabelled(matrix, torch.randperm(len(matrix), generator=rng))
    assert forms(other, search_frames(other)).keys() == forms(matrix, frames).keys()


@pytest.mark.parametrize("kind", ["plain", "weighted", "directed", "loops", "features"])
def test_relabelling_leaves_the_canonical_forms(kind, rng):
    weights = random_graphs(rng, 15, 6) * torch.randint(1, 3, (15, 6, 6), generator=rng)
    features = torch.zeros(15, 6, dtype=torch.int64)
    matrices = {
        "weighted": weights + weights.mT,
        "directed": weights,
        "loops": random_graphs(rng, 15, 6) + (torch.rand(15, 6, generator=rng) < 0.5).diag_embed(),
    }.get(kind, random_graphs(rng, 15, 6))
    if kind == "features":
        features = torch.randint(0, 2, (15, 6), generator=rng)
    frames = search_frames(matrices, features)
    moved = torch.stack([torch.randperm(6, generator=rng) for _ in matrices])
    others = torch.stack([relabelled(*pair) for pair in zip(matrices, moved, strict=True)])
    found = search_frames(others, features.gather(1, moved))
    classes = permutation_frames(matrices, features)
    for index, matrix in enumerate(matrices):
        assert forms(others[index], found, index) == pytest.approx(forms(matrix, frames, index))
        assert frames.size[index] == found.size[index] <= classes.size[index]
        if kind != "features":
            assert frames.size[index] == automorphisms(matrix)


def test_frames_that_are_not_single_are_weighted(rng):
    frames = search_frames(UNEQUAL, tolerance=BLUNT)
    assert frames.single.tolist() == [False]
    assert frames.exact.tolist() == [True]
    assert frames.weights.sum() == pytest.approx(1)
    expected = forms(UNEQUAL, frames)
    assert len(expected) > 1
    assert min(expected.values()) < max(expected.values()) - 1e-3
    for _ in range(3):
        other = relabelled(UNEQUAL, torch.randperm(7, generator=rng))
        assert forms(other, search_frames(other, tolerance=BLUNT)) == pytest.approx(expected)


def test_samples_follow_the_weights(rng):
    draws = 4000
    expected = forms(UNEQUAL, search_frames(UNEQUAL, tolerance=BLUNT))
    drawn = search_frames(UNEQUAL, tolerance=BLUNT, limit=0, samples=draws, generator=rng)
    assert drawn.exact.tolist() == [False]
    found = forms(UNEQUAL, drawn)
    assert found.keys() == expected.keys()
    chi_square = sum(
        draws * (found[form] - weight) ** 2 / weight for form, weight in expected.items()
    )
    assert chi_square < 3 * len(expected) + 12
    # control: equal weights would not pass
    equal = 1 / len(expected)
    assert sum(draws * (equal - w) ** 2 / w for w in expected.values()) > 3 * len(expected) + 12


def test_one_order_serves_invariant_outputs(rng):
    matrices = random_graphs(rng, 30, 7, share=0.3)
    frames = search_frames(matrices, invariant=True, generator=rng)
    assert frames.graph.tolist() == list(range(30))
    assert frames.exact.all()
    assert frames.single.all()
    assert max(frames.size) > 1
    everything = search_frames(matrices, limit=factorial(7))
    for index, matrix in enumerate(matrices):
        assert forms(matrix, frames, index).keys() == forms(matrix, everything, index).keys()
    # control: one order of the frames of classes has another form after relabelling
    loose = permutation_frames(cycle(6), limit=0, samples=8, generator=rng)
    assert len(forms(cycle(6), loose)) > 1


def test_ragged_batches_are_single_graphs():
    names = list(SMALL)
    matrices = [SMALL[name].matrix for name in names]
    whole = torch.block_diag(*matrices)
    edges = whole.nonzero().mT
    batch = torch.arange(len(names)).repeat_interleave(torch.tensor(list(map(len, matrices))))
    frames = search_frames(
        edges, batch=batch, num_graphs=len(names) + 1, edge_weight=whole[edges[0], edges[1]]
    )
    assert frames.size == (*(SMALL[name].automorphisms for name in names), 1)
    for index, matrix in enumerate(matrices):
        assert forms(matrix, frames, index) == pytest.approx(forms(matrix, search_frames(matrix)))


def test_masked_nodes_come_last(rng):
    matrices = random_graphs(rng, 5, 6)
    mask = torch.rand(5, 6, generator=rng) < 0.7
    mask[4] = False
    frames = search_frames(matrices, mask=mask)
    for index, exists in enumerate(mask):
        kept = exists.nonzero()[:, 0]
        alone = search_frames(relabelled(matrices[index], kept))
        assert frames.size[index] == alone.size[0]
        rows = frames.order.view(-1, 6)[frames.graph == index] - 6 * index
        assert (rows[:, len(kept) :] == (~exists).nonzero()[:, 0]).all()


def test_large_frames_are_refused_or_drawn(rng):
    empty = torch.zeros(12, 12)
    with pytest.raises(ValueError, match=r"graph 0 has 479001600 orders"):
        search_frames(empty)
    frames = search_frames(empty, samples=4, generator=rng)
    assert frames.size == (factorial(12),)
    assert frames.exact.tolist() == [False]
    assert frames.single.tolist() == [True]
    assert len(frames.graph) == 4
    one = search_frames(empty, invariant=True)
    assert (len(one.graph), one.exact.tolist()) == (1, [True])


def test_automorphisms_of_large_symmetric_graphs():
    complete = 1 - torch.eye(30)
    halves = torch.zeros(30, 30)
    halves[:10, 10:20] = halves[10:20, :10] = 1  # 10 and 10 joined, 10 alone
    arrows = halves.triu()
    frames = search_frames(torch.stack([complete, halves, arrows]), invariant=True)
    assert frames.single.all()
    ten = factorial(10)
    assert frames.size == (factorial(30), 2 * ten**3, ten**3)
    loops = complete.clone()
    loops[range(5), range(5)] = 1
    assert search_frames(loops, invariant=True).size == (factorial(25) * factorial(5),)


@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 0, 0), (0, 0)], ids=str)
def test_empty_batches(shape):
    frames = search_frames(torch.zeros(shape))
    assert frames.order.numel() == 0
    assert frames.size == ((1,) * len(frames.exact))


@pytest.mark.parametrize("output", ["graph", "node"])
def test_averages_over_searched_frames(output, rng):
    order = NodeOrder(-2)
    signature = Signature(
        Permutations(),
        {"adjacency": NodeOrder(-2, -1)},
        Scalar() if output == "graph" else Scalar() * order,
    )
    network = mlp(36, 12)

    def backbone(adjacency: Tensor) -> Tensor:
        found = network(adjacency.flatten(-2))
        return found if output == "graph" else found.unflatten(-1, (6, 2))

    matrices = torch.stack([SMALL["two triangles"].matrix, *random_graphs(rng, 6, 6)])
    options = {"search": True, "invariant": output == "graph"}
    layer = FrameAverage(backbone, signature=signature, frame_options=options, generator=rng)
    error = equivariance_error(layer, {"adjacency": matrices}, generator=rng).max
    assert error < EQUIVARIANCE[torch.float64]
    bare = equivariance_error(backbone, {"adjacency": matrices}, signature, generator=rng).max
    assert bare > 1e-2
    if output == "node":
        # control: one order does not average nodes that an automorphism exchanges
        once = {"search": True, "invariant": True}
        with pytest.raises(ValueError, match="invariant=True promised outputs of graphs"):
            FrameAverage(backbone, signature=signature, frame_options=once)(matrices)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "match"),
    [({"limit": -1}, "limit, samples"), ({"samples": 0}, "limit, samples")],
    ids=["limit", "samples"],
)
def test_bad_arguments(options, match):
    with pytest.raises(ValueError, match=match):
        search_frames(cycle(4), **options)


@pytest.mark.unchecked
def test_invariance_needs_a_search(rng):
    signature = Signature(Permutations(), {"adjacency": NodeOrder(-2, -1)}, Scalar())
    layer = FrameAverage(lambda x: x, signature=signature, frame_options={"invariant": True})
    with pytest.raises(ValueError, match="search=True"):
        layer(random_graphs(rng, 4))


@pytest.mark.gpu
def test_search_on_a_gpu(rng):
    matrices = random_graphs(rng, 10, 7, share=0.3)
    there = search_frames(matrices.cuda(), generator=rng)
    here = search_frames(matrices)
    assert there.order.is_cuda
    assert there.size == here.size
    for index, matrix in enumerate(matrices):
        moved = there._replace(
            **{
                name: value.cpu()
                for name, value in there._asdict().items()
                if isinstance(value, Tensor)
            }
        )
        assert forms(matrix, moved, index) == pytest.approx(forms(matrix, here, index))
