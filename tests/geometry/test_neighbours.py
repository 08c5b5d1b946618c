"""Neighbour lists without a lattice, against double loops and scipy's k-d tree."""

import pytest
import torch
from scipy.spatial import cKDTree

from eqlib.geometry import _search, edge_vectors, knn_graph, radius_graph
from eqlib.symmetry import E, Point

methods = pytest.mark.parametrize("method", ["dense", "cells", "auto"])
RAGGED = [0, 7, 1, 0, 12, 0]  # nodes of each graph


def ragged(rng, d, scale=1.0, sizes=RAGGED):
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return scale * torch.randn(len(batch), d, dtype=torch.float64, generator=rng), batch


def pairs(neighbours):
    """List (target, source) in order."""
    assert neighbours.offsets is None
    return list(zip(*neighbours.edge_index.flip(0).tolist(), strict=True))


def by_loop(points, batch, loop, radius=None, k=None):
    """List (target, source) within a radius, or the k nearest, by distance and then index."""
    found = []
    for target, x in enumerate(points):
        distances = [
            (float((y - x).square().sum().sqrt()), source)
            for source, y in enumerate(points)
            if batch[source] == batch[target] and (loop or source != target)
        ]
        if k is None:
            found += [(target, source) for distance, source in distances if distance <= radius]
        else:
            found += [(target, source) for _, source in sorted(distances)[:k]]
    return found


@methods
@pytest.mark.parametrize("loop", [False, True], ids=["plain", "loop"])
@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_matches_a_double_loop(d, loop, method, rng):
    points, batch = ragged(rng, d)
    for radius in (0.0, 0.4, 1.1, 20.0):
        graph = radius_graph(points, radius, batch, len(RAGGED), loop=loop, method=method)
        assert pairs(graph) == by_loop(points, batch, loop, radius=radius)
    for k in (0, 1, 4, 30):
        graph = knn_graph(points, k, batch, len(RAGGED), loop=loop, method=method)
        assert pairs(graph) == by_loop(points, batch, loop, k=k)


@methods
@pytest.mark.parametrize("chunk", [1, 10, 57, 10**6])
def test_chunks_change_nothing(chunk, method, rng):
    points, batch = ragged(rng, 3)
    for build, size in ((radius_graph, 1.1), (knn_graph, 4)):
        whole = build(points, size, batch, method=method)
        assert pairs(build(points, size, batch, method=method, chunk=chunk)) == pairs(whole)
    few = radius_graph(points, 2.0, batch, method=method, chunk=chunk, max_neighbours=3)
    assert pairs(few) == pairs(radius_graph(points, 2.0, batch, method=method, max_neighbours=3))


@methods
@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_matches_scipy_on_a_large_cloud(dtype, d, method, rng):
    points = torch.rand(2000, d, dtype=dtype, generator=rng) - 7
    tree = cKDTree(points.double().numpy())
    radius = 0.08 if d == 3 else 0.03
    found = set(pairs(radius_graph(points, radius, method=method)))
    expected = {tuple(pair) for pair in tree.query_pairs(radius)}
    # rounding in float32 decides about pairs at the radius itself
    distance = {
        (t, s): float((points[s] - points[t]).double().norm())
        for t, s in found ^ (expected | {(s, t) for t, s in expected})
    }
    assert all(abs(gap - radius) < 1e-6 for gap in distance.values())
    assert len(expected) > 1000
    nearest = knn_graph(points, 5, method=method)
    distances = edge_vectors(points, nearest).double().norm(dim=1).view(-1, 5)
    expected = torch.from_numpy(tree.query(tree.data, 6)[0][:, 1:])
    torch.testing.assert_close(distances, expected, rtol=0, atol=1e-6)


@methods
def test_most_neighbours_are_the_nearest(method, rng):
    points, batch = ragged(rng, 3)
    graph = radius_graph(points, 1.5, batch, max_neighbours=3, method=method)
    within = set(by_loop(points, batch, False, radius=1.5))
    nearest = by_loop(points, batch, False, k=3)
    assert pairs(graph) == [pair for pair in nearest if pair in within]
    assert len(pairs(graph)) < len(nearest)
    assert pairs(radius_graph(points, 1.5, batch, max_neighbours=0, method=method)) == []


@methods
def test_the_radius_is_included(method):
    # 0.1 has no exact square in float32
    for length in (0.1, 1.0, 3.3, 1e-30, 1e30):
        line = torch.tensor([[0.0, 0.0], [0.0, length]])
        assert pairs(radius_graph(line, length, method=method)) == [(0, 1), (1, 0)]
        shorter = float(torch.tensor(length).nextafter(torch.tensor(0.0)))
        assert pairs(radius_graph(line, shorter, method=method)) == []


@methods
def test_ties_go_to_the_lower_index(method):
    square = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]])
    assert pairs(knn_graph(square, 3, method=method))[:3] == [(0, 1), (0, 2), (0, 3)]
    few = radius_graph(square, 1.0, max_neighbours=2, method=method)
    assert pairs(few)[:2] == [(0, 1), (0, 2)]


@methods
def test_many_ties_go_to_the_lower_index(method):
    graph = knn_graph(torch.ones(300, 3), 20, method=method)
    expected = [[s for s in range(21) if s != t][:20] for t in range(300)]
    assert graph.edge_index[0].view(300, 20).tolist() == expected


@methods
@pytest.mark.parametrize("d", [2, 3, 4])
def test_coincident_points(d, method):
    points = torch.ones(4, d)
    everyone = [(t, s) for t in range(4) for s in range(4) if s != t]
    assert pairs(radius_graph(points, 0.0, method=method)) == everyone
    assert pairs(knn_graph(points, 3, method=method)) == everyone
    first = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (3, 0), (3, 1)]
    assert pairs(knn_graph(points, 2, method=method)) == first


@methods
@pytest.mark.parametrize("loop", [False, True], ids=["plain", "loop"])
def test_no_points_and_one_point(loop, method):
    nobody = torch.zeros(0, dtype=torch.int64)
    for build, size in ((radius_graph, 1.0), (knn_graph, 2)):
        for batch, num_graphs in ((None, None), (nobody, None), (nobody, 0), (nobody, 3)):
            empty = build(torch.zeros(0, 3), size, batch, num_graphs, loop=loop, method=method)
            assert empty.edge_index.shape == (2, 0)
            assert empty.edge_index.dtype == torch.int64
        alone = build(torch.ones(1, 3), size, loop=loop, method=method)
        assert pairs(alone) == ([(0, 0)] if loop else [])


@methods
@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
def test_points_that_are_not_finite_have_no_neighbours(poison, method, rng):
    points, batch = ragged(rng, 3)
    bad = points.clone()
    bad[9, 1] = poison
    for build, size in ((radius_graph, 1.5), (knn_graph, 4)):
        clean = pairs(build(points, size, batch, method=method, loop=True))
        dirty = pairs(build(bad, size, batch, method=method, loop=True))
        assert all(9 not in pair for pair in dirty)
        others = [pair for pair in dirty if batch[pair[0]] != batch[9]]
        assert others == [pair for pair in clean if batch[pair[0]] != batch[9]]
        assert len(dirty) > len(others)


@methods
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_compared_in_float32(dtype, method, rng):
    points = torch.randn(40, 3, generator=rng).to(dtype)
    for build, size in ((radius_graph, 0.9), (knn_graph, 4)):
        expected = build(points.float(), size, method=method)
        assert pairs(build(points, size, method=method)) == pairs(expected)


@methods
@pytest.mark.parametrize(
    ("scale", "dtype"),
    [(2.0**-100, torch.float32), (2.0**96, torch.float32), (2.0**900, torch.float64)],
    ids=["tiny", "large", "huge"],
)
def test_squares_neither_over_nor_underflow(scale, dtype, method, rng):
    points, batch = ragged(rng, 3)
    points = points.to(dtype)
    for build, size, scaled in ((radius_graph, 1.1, 1.1 * scale), (knn_graph, 4, 4)):
        expected = build(points, size, batch, method=method)
        assert pairs(build(points * scale, scaled, batch, method=method)) == pairs(expected)


@methods
def test_a_radius_far_below_the_coordinates(method):
    points = torch.tensor([[1e37, 0.0], [1e37, 0.0], [-1e37, 0.0], [0.0, 0.0], [0.0, 1e-3]])
    graph = radius_graph(points, 1e-3, method=method)
    assert {(0, 1), (1, 0)} <= set(pairs(graph))
    assert (2, 0) not in pairs(graph)
    alone = radius_graph(points[3:], 1e-3, method=method)
    assert pairs(alone) == [(0, 1), (1, 0)]


@methods
def test_graphs_of_different_scale(method, rng):
    points, batch = ragged(rng, 3, sizes=[300, 300])
    points[300:] *= 1e-20
    graph = knn_graph(points.float(), 5, batch, method=method)
    whole = [knn_graph(points[batch == g].float(), 5, method=method) for g in (0, 1)]
    assert pairs(graph)[:1500] == pairs(whole[0])
    assert pairs(graph)[1500:] == [(t + 300, s + 300) for t, s in pairs(whole[1])]


@methods
def test_an_outlier_does_no_harm(method, rng):
    points = torch.randn(300, 3, dtype=torch.float64, generator=rng)
    points[17] = 1e12
    batch = torch.zeros(300, dtype=torch.int64)
    for build, size in ((radius_graph, 0.5), (knn_graph, 3)):
        expected = build(points, size, method="dense")
        assert pairs(build(points, size, batch, method=method)) == pairs(expected)
    assert sum(t == 17 for t, _ in pairs(knn_graph(points, 3, method=method))) == 3


@methods
def test_an_outlier_beyond_the_precision_of_the_others(method):
    # the distance of the two near points from the lowest rounds to multiples of 256
    points = torch.tensor([[-(2.0**60)], [127.9], [128.1]], dtype=torch.float64)
    assert pairs(radius_graph(points, 0.5, method=method)) == [(1, 2), (2, 1)]


@methods
def test_relabelled_nodes_give_the_relabelled_graph(method, rng):
    points, _ = ragged(rng, 3, sizes=[40])
    order = torch.randperm(40, generator=rng)
    for build, size in ((radius_graph, 0.9), (knn_graph, 4)):
        edges = build(points, size, method=method).edge_index
        moved = build(points[order], size, method=method).edge_index
        assert set(zip(*order[moved].tolist(), strict=True)) == set(
            zip(*edges.tolist(), strict=True)
        )
        # control: without the relabelling the graphs differ
        assert set(zip(*moved.tolist(), strict=True)) != set(zip(*edges.tolist(), strict=True))


@methods
@pytest.mark.parametrize("d", [2, 3])
def test_rigid_motions_change_nothing(d, method, rng):
    points, batch = ragged(rng, d)
    motions = E(d).sample(rng, 4, reach=10.0)
    for moved in Point().act(motions, points.expand(4, -1, -1)):
        for build, size in ((radius_graph, 0.9), (knn_graph, 4)):
            graph = build(points, size, batch, method=method)
            assert pairs(build(moved, size, batch, method=method)) == pairs(graph)
    # control: a shear does change the graph
    sheared = points @ (torch.eye(d) + torch.ones(d, d).triu(1)).to(points)
    assert pairs(radius_graph(sheared, 0.9, batch)) != pairs(radius_graph(points, 0.9, batch))


@methods
def test_radius_graphs_are_symmetric(method, rng):
    points = torch.randn(400, 3, generator=rng)
    graph = set(pairs(radius_graph(points, 0.7, method=method)))
    assert graph == {(s, t) for t, s in graph}


def test_accepts_points_that_are_not_contiguous_or_need_gradients(rng):
    points = torch.randn(3, 50, generator=rng).T.requires_grad_()
    expected = radius_graph(points.detach().contiguous(), 0.7)
    graph = radius_graph(points, 0.7)
    assert pairs(graph) == pairs(expected)
    assert edge_vectors(points, graph).requires_grad


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"points": torch.ones(3, 3, dtype=torch.int64)}, TypeError, r"points .*\.float\(\)"),
        ({"points": torch.ones(3)}, ValueError, r"points has shape \(3,\); expected \(nodes, d\)"),
        ({"points": torch.ones(3, 0)}, ValueError, r"points has shape \(3, 0\)"),
        ({"batch": torch.tensor([0, 1, 0])}, ValueError, "batch is not sorted"),
        ({"batch": torch.tensor([0, 1])}, ValueError, r"batch has shape \(2,\)"),
        ({"batch": torch.tensor([0, 1, 1]).int()}, TypeError, "batch has dtype torch.int32"),
        ({"batch": torch.tensor([0, 1, 5]), "num_graphs": 3}, ValueError, "num_graphs = 3"),
        ({"batch": torch.zeros(3).long().to("meta")}, ValueError, "batch .* on meta"),
        ({"method": "fast"}, ValueError, "method is 'fast'; expected 'auto', 'dense' or 'cells'"),
        ({"chunk": 0}, ValueError, "chunk is 0; expected at least 1 pair"),
        ({"pbc": [True] * 3}, ValueError, "pbc is given without cell"),
    ],
    ids=lambda case: next(iter(case)) if isinstance(case, dict) else None,
)
@pytest.mark.parametrize(("build", "size"), [(radius_graph, 1.0), (knn_graph, 2)])
def test_bad_input(build, size, arguments, error, message):
    arguments = {"points": torch.zeros(3, 3), **arguments}
    with pytest.raises(error, match=message):
        build(arguments.pop("points"), size, **arguments)


@pytest.mark.parametrize("radius", [-1.0, torch.nan, torch.inf])
def test_bad_radius(radius):
    with pytest.raises(ValueError, match=r"radius is .*; expected a finite distance"):
        radius_graph(torch.zeros(3, 3), radius)


def test_negative_numbers_of_neighbours():
    with pytest.raises(ValueError, match="k is -1; expected at least 0"):
        knn_graph(torch.zeros(3, 3), -1)
    with pytest.raises(ValueError, match="max_neighbours is -1"):
        radius_graph(torch.zeros(3, 3), 1.0, max_neighbours=-1)


@methods
def test_memory_stays_bounded(method, rng, monkeypatch):
    points = torch.rand(3000, 3, generator=rng)
    largest = 0

    def watch(*arguments):
        nonlocal largest
        row, place = candidates(*arguments)
        largest = max(largest, len(row))
        return row, place

    candidates = _search._candidates
    monkeypatch.setattr(_search, "_candidates", watch)
    for build, size in ((radius_graph, 0.1), (knn_graph, 8)):
        build(points, size, method=method, chunk=5000)
    assert 0 < largest <= 5000


@pytest.mark.gpu
@methods
def test_cuda_agrees(method, rng):
    points, batch = ragged(rng, 3, sizes=[500, 0, 700])
    for build, size in ((radius_graph, 0.4), (knn_graph, 8)):
        graph = build(points.cuda(), size, batch.cuda(), method=method)
        expected = build(points, size, batch, method=method)
        assert torch.equal(graph.edge_index.cpu(), expected.edge_index)
