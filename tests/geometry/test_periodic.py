"""Neighbour lists in a lattice, against a loop over images."""

import itertools

import pytest
import torch
from torch.autograd import gradcheck

from eqlib.geometry import edge_vectors, knn_graph, radius_graph

methods = pytest.mark.parametrize("method", ["dense", "cells", "auto"])


def triples(neighbours):
    """List (target, source, offset) in order."""
    source, target = neighbours.edge_index.tolist()
    offsets = [tuple(offset) for offset in neighbours.offsets.tolist()]
    return list(zip(target, source, offsets, strict=True))


def by_loop(points, cell, pbc, loop=False, radius=None, k=None, images=6):
    """List (target, source, offset) of one graph, over images up to a number per direction."""
    ranges = [range(-images, images + 1) if repeats else (0,) for repeats in pbc]
    boxes = list(itertools.product(*ranges))
    shifts = torch.tensor(boxes, dtype=cell.dtype) @ cell
    found = []
    for target, x in enumerate(points):
        distances = [
            (float(distance), source, offset)
            for source, y in enumerate(points)
            for distance, offset in zip((y - x + shifts).norm(dim=1), boxes, strict=True)
            if loop or source != target or any(offset)
        ]
        near = [d for d in distances if d[0] <= radius] if k is None else sorted(distances)[:k]
        found += [(target, source, offset) for _, source, offset in near]
    return found


def crystal(rng, d, nodes, spread=1.0):
    """Random points, some outside of a skew cell of side about 1.5."""
    cell = 1.5 * torch.eye(d) + 0.3 * torch.randn(d, d, generator=rng)
    return spread * torch.randn(nodes, d, generator=rng).double(), cell.double()


@methods
@pytest.mark.parametrize(
    "pbc",
    [[True], [True, True], [True, False], [True] * 3, [False, True, False], [False] * 3],
    ids=str,
)
def test_matches_a_loop_over_images(pbc, method, rng):
    points, cell = crystal(rng, len(pbc), 4)
    for radius in (0.3, 1.2, 3.1):  # the last reaches over two cells
        graph = radius_graph(points, radius, cell=cell, pbc=pbc, method=method)
        expected = by_loop(points, cell, pbc, radius=radius)
        assert triples(graph) == sorted(expected)
        assert (edge_vectors(points, graph, cell).norm(dim=1) <= radius * (1 + 1e-15)).all()
    graph = knn_graph(points, 9, cell=cell, pbc=pbc, method=method)
    assert triples(graph) == by_loop(points, cell, pbc, k=9)


@methods
def test_one_node_neighbours_its_own_images(method):
    cell = 2 * torch.eye(3)
    point = torch.tensor([[5.0, -7.0, 0.5]])
    graph = radius_graph(point, 2.0, cell=cell, method=method)
    faces = [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    assert triples(graph) == [(0, 0, face) for face in faces]
    looped = radius_graph(point, 2.0, cell=cell, loop=True, method=method)
    assert triples(looped) == sorted([*triples(graph), (0, 0, (0, 0, 0))])
    two = knn_graph(point, 2, cell=cell, method=method)
    assert triples(two) == [(0, 0, face) for face in faces[:2]]


@methods
@pytest.mark.parametrize("loop", [False, True], ids=["plain", "loop"])
def test_each_graph_has_its_own_lattice(loop, method, rng):
    sizes, repeats = [3, 0, 5, 2], [[True, True], [True, True], [False, True], [False, False]]
    pbc = torch.tensor(repeats)
    batch = torch.repeat_interleave(torch.arange(4), torch.tensor(sizes))
    crystals = [crystal(rng, 2, size) for size in sizes]
    points = torch.cat([points for points, _ in crystals])
    cell = torch.stack([cell for _, cell in crystals])
    graph = radius_graph(points, 1.3, batch, cell=cell, pbc=pbc, loop=loop, method=method)
    nearest = knn_graph(points, 4, batch, cell=cell, pbc=pbc, loop=loop, method=method)
    within, closest, first = [], [], 0
    for (own, lattice), periodic in zip(crystals, repeats, strict=True):
        for found, bound in ((within, {"radius": 1.3}), (closest, {"k": 4})):
            expected = by_loop(own, lattice, periodic, loop, **bound)
            found += [(t + first, s + first, offset) for t, s, offset in expected]
        first += len(own)
    assert triples(graph) == sorted(within)
    assert triples(nearest) == closest
    vectors = edge_vectors(points, graph, cell, batch)
    assert (vectors.norm(dim=1) <= 1.3 * (1 + 1e-15)).all()


@methods
def test_a_large_crystal(method, rng):
    grid = torch.cartesian_prod(*(torch.arange(8.0),) * 3)
    order = torch.randperm(512, generator=rng)
    cell = 8 * torch.eye(3)
    graph = radius_graph(grid[order], 1.0, cell=cell, method=method)
    assert torch.equal(graph.edge_index[1], torch.arange(512).repeat_interleave(6))
    lengths = edge_vectors(grid[order], graph, cell).norm(dim=1)
    assert torch.equal(lengths, torch.ones(6 * 512))
    assert radius_graph(grid[order], 1.0, method=method).edge_index.shape[1] < 6 * 512
    nearest = knn_graph(grid[order], 18, cell=cell, method=method)
    lengths = edge_vectors(grid[order], nearest, cell).norm(dim=1).view(512, 18)
    assert torch.allclose(lengths, torch.tensor([1.0] * 6 + [2**0.5] * 12))


@methods
def test_both_directions_of_an_edge_are_found(method, rng):
    points, cell = (x.float() for x in crystal(rng, 3, 30, spread=20.0))
    graph = set(triples(radius_graph(points, 1.4, cell=cell, method=method)))
    assert graph == {(s, t, tuple(-o for o in offset)) for t, s, offset in graph}


@methods
def test_nodes_far_outside_of_the_cell(method, rng):
    # so far that float32 rounds displacements by some 1e-3: what is an edge is decided there
    points, cell = crystal(rng, 2, 40, spread=1e4)
    points, cell = points.float(), cell.float()
    graph = radius_graph(points, 1.4, cell=cell, method=method)
    difference = points[None] - points[:, None]  # from target to source
    nearest = -(difference.double() @ torch.linalg.inv(cell.double())).round()
    box = torch.cartesian_prod(*(torch.arange(-4.0, 5.0),) * 2)
    offsets = (nearest[:, :, None] + box).float()
    displacements = difference[:, :, None] + (offsets[..., None] * cell).sum(-2)
    near = displacements.square().sum(-1).sqrt() <= 1.4
    near &= (torch.arange(40)[:, None, None] != torch.arange(40)[:, None]) | (offsets != 0).any(-1)
    target, source, _ = near.nonzero().unbind(1)
    expected = zip(target.tolist(), source.tolist(), offsets[near].long().tolist(), strict=True)
    assert triples(graph) == sorted((t, s, tuple(offset)) for t, s, offset in expected)
    exact = edge_vectors(points.double(), graph, cell.double()).norm(dim=1)
    assert exact.max() > 1.4 + 1e-4  # control: rounding did decide


@methods
def test_lattice_translations_change_only_offsets(method, rng):
    points, cell = crystal(rng, 3, 6)
    steps = torch.randint(-3, 4, (6, 3), generator=rng)
    moved = points + steps.double() @ cell
    for build, size in ((radius_graph, 1.4), (knn_graph, 7)):
        graph = build(points, size, cell=cell, method=method)
        other = build(moved, size, cell=cell, method=method)
        back = [
            (t, s, tuple((torch.tensor(o) + steps[s] - steps[t]).tolist()))
            for t, s, o in triples(other)
        ]
        assert sorted(back) == sorted(triples(graph))
        # control: the offsets themselves do change
        assert sorted(triples(other)) != sorted(triples(graph))


@methods
def test_rotated_crystals_have_the_same_graph(method, rng):
    points, cell = crystal(rng, 3, 6)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=rng).double()).Q
    graph = radius_graph(points, 1.4, cell=cell, method=method)
    rotated = radius_graph(points @ rotation.mT, 1.4, cell=cell @ rotation.mT, method=method)
    assert triples(rotated) == triples(graph)
    # control: rotating the points alone gives another crystal
    other = radius_graph(points @ rotation.mT, 1.4, cell=cell, method=method)
    assert triples(other) != triples(graph)


@methods
@pytest.mark.parametrize("spoil", ["points", "cell"])
def test_one_bad_graph_leaves_the_others_exact(spoil, method, rng):
    points, cell = crystal(rng, 3, 12)
    batch = torch.arange(3).repeat_interleave(4)
    cell = cell.repeat(3, 1, 1)
    bad = {"points": points.clone(), "cell": cell.clone()}
    (bad["points"][4:8] if spoil == "points" else bad["cell"][1])[1] = torch.nan
    for build, size in ((radius_graph, 1.4), (knn_graph, 5)):
        clean = triples(build(points, size, batch, cell=cell, method=method))
        dirty = triples(build(bad["points"], size, batch, cell=bad["cell"], method=method))
        assert [e for e in dirty if batch[e[0]] != 1] == [e for e in clean if batch[e[0]] != 1]
        assert all(5 not in edge[:2] for edge in dirty)
        assert any(batch[e[0]] == 1 for e in dirty) == (spoil == "points")


@methods
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_low_precision(dtype, method, rng):
    points, cell = (x.to(dtype) for x in crystal(rng, 3, 5))
    graph = radius_graph(points, 1.4, cell=cell, method=method)
    double = radius_graph(points.double(), 1.4, cell=cell.double(), method=method)
    assert triples(graph) == triples(double)


@methods
@pytest.mark.parametrize(
    ("scale", "dtype"), [(2.0**-100, torch.float32), (2.0**90, torch.float32)], ids=["tiny", "huge"]
)
def test_squares_neither_over_nor_underflow(scale, dtype, method, rng):
    points, cell = (x.to(dtype) for x in crystal(rng, 3, 5))
    for build, size, scaled in ((radius_graph, 1.1, 1.1 * scale), (knn_graph, 4, 4)):
        expected = build(points, size, cell=cell, method=method)
        found = build(points * scale, scaled, cell=cell * scale, method=method)
        assert triples(found) == triples(expected)


@methods
def test_no_points(method):
    nobody = torch.zeros(0, dtype=torch.int64)
    for build, size in ((radius_graph, 1.0), (knn_graph, 2)):
        for batch, cell in ((None, torch.eye(3)), (nobody, torch.eye(3).expand(2, 3, 3))):
            empty = build(torch.zeros(0, 3), size, batch, cell=cell, method=method)
            assert empty.edge_index.shape == (2, 0)
            assert empty.offsets.shape == (0, 3)


def test_edge_vectors_have_derivatives(rng):
    points, cell = crystal(rng, 3, 3)
    graph = radius_graph(points, 1.4, cell=cell)
    assert graph.offsets.any()

    def vectors(points, cell):
        return edge_vectors(points, graph, cell)

    assert gradcheck(vectors, (points.requires_grad_(), cell.requires_grad_()))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"cell": torch.eye(2)}, ValueError, r"cell has shape \(2, 2\); expected .*\(3, 3\)"),
        ({"cell": torch.eye(3).expand(2, 3, 3)}, ValueError, r"cell has shape \(2, 3, 3\)"),
        ({"cell": torch.eye(3).double()}, TypeError, "cell is torch.float64 .* torch.float32"),
        ({"cell": torch.ones(3, 3)}, ValueError, "cell of graph 0 is singular"),
        ({"cell": torch.eye(3).diag().diag_embed() * 0}, ValueError, "complete the basis"),
        ({"cell": torch.eye(3), "pbc": [True]}, ValueError, r"pbc has shape \(1,\)"),
        ({"cell": torch.eye(3), "pbc": torch.ones(3)}, ValueError, "dtype torch.float32"),
    ],
    ids=["shape", "graphs", "dtype", "dependent", "zero", "pbc", "pbc dtype"],
)
def test_bad_lattice(arguments, error, message):
    batch = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(error, match=message):
        radius_graph(torch.zeros(3, 3), 1.0, batch, 1, **arguments)


def test_edge_vectors_need_the_cell_of_the_graph(rng):
    points, cell = crystal(rng, 3, 3)
    with pytest.raises(ValueError, match="expected a cell exactly where neighbours has offsets"):
        edge_vectors(points, radius_graph(points, 1.4, cell=cell))
    with pytest.raises(ValueError, match=r"got cell=\(3, 3\) and offsets=None"):
        edge_vectors(points, radius_graph(points, 1.4), cell)
