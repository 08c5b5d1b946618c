"""Edges and offsets: what is joined, in which order, and when one edge stands for two."""

from math import inf

import pytest
import torch

from eqlib.geometry import knn_graph, radius_graph
from eqlib.position_orientation.convolution.spatial import SpatialConv
from eqlib.position_orientation.edges.geometry import make_geometry
from tests.position_orientation.layers import (
    CASES,
    all_pairs,
    grid_of,
    kernels_of,
    normal,
    rotation,
    turned,
)

names = pytest.mark.parametrize("name", list(CASES))


def messages(geometry):
    """Return source and target of all messages, those of the other direction included."""
    pairs = list(zip(geometry.source.tolist(), geometry.target.tolist(), strict=True))
    if geometry.opposite.numel():
        pairs += [(t, s) for s, t in pairs if s != t]
    return sorted(pairs)


def with_loops(edge_index, nodes):
    pairs = list(zip(*edge_index.tolist(), strict=True))
    return sorted(pairs + [(i, i) for i in range(nodes)])


def convolved(name, geometry, features):
    torch.manual_seed(0)
    kernels = kernels_of(name, edge_scalars=geometry.scalars.shape[1])
    return SpatialConv(3, kernels).double()(features, geometry, kernels)


def rows_of(source, target, scalars):
    columns = source.tolist(), target.tolist(), scalars.detach().flatten().tolist()
    return list(zip(*columns, strict=True))


def shuffled(edge_index, rng):
    order = torch.randperm(edge_index.shape[1], generator=rng)
    return edge_index[:, order], order


def test_edges_are_sorted_by_target_and_indexed_both_ways(rng):
    edge_index = torch.randint(0, 9, (2, 40), generator=rng)
    geometry = make_geometry(normal(rng, 9, 3), grid_of("R3xS2"), edge_index=edge_index)
    assert messages(geometry) == with_loops(edge_index, 9)
    assert (geometry.target.diff() >= 0).all()
    for node in range(9):
        first, last = geometry.starts[node : node + 2].tolist()
        assert (geometry.target[first:last] == node).all()
        assert last - first == (geometry.target == node).sum()
        first, last = geometry.source_starts[node : node + 2].tolist()
        edges = geometry.by_source[first:last]
        assert (geometry.source[edges] == node).all()
        assert (edges.diff() > 0).all()
    assert geometry.starts[-1] == geometry.source_starts[-1] == 49


@names
@pytest.mark.parametrize("loops", [True, False], ids=["loops", "no-loops"])
def test_all_ways_to_join_all_nodes_agree(name, loops, rng):
    grid, n = grid_of(name), grid_of(name).space.dimension
    edge_index, batch = all_pairs([4, 4])
    points, features = normal(rng, 2, 4, n), normal(rng, 8, grid.size, 3)
    flat = {"batch": batch, "num_graphs": 2, "self_loops": loops}
    geometries = [
        make_geometry(points, grid, CASES[name][1], self_loops=loops),
        make_geometry(points.flatten(0, 1), grid, CASES[name][1], **flat),
        make_geometry(
            points.flatten(0, 1), grid, CASES[name][1], edge_index=edge_index, paired=False, **flat
        ),
        make_geometry(
            points.flatten(0, 1),
            grid,
            CASES[name][1],
            edge_index=shuffled(edge_index, rng)[0],
            **flat,
        ),
    ]
    expected = messages(geometries[2])
    results = [convolved(name, geometry, features) for geometry in geometries]
    for geometry, result in zip(geometries, results, strict=True):
        assert messages(geometry) == expected
        torch.testing.assert_close(result, results[2], atol=1e-13, rtol=1e-12)
    antipodal = "odd" not in name and name != "SE3"
    assert [geometry.opposite.numel() > 0 for geometry in geometries] == [
        antipodal,
        antipodal,
        False,
        antipodal,
    ]
    half = len(expected) - (8 if loops else 0)
    assert len(geometries[0].source) == (len(expected) - half // 2 if antipodal else len(expected))


def test_searches_join_what_the_searches_of_geometry_do(rng):
    points, grid = normal(rng, 12, 3), grid_of("R3xS2")
    batch = torch.tensor([0] * 5 + [2] * 7)
    common = {"batch": batch, "num_graphs": 4}
    near = make_geometry(points, grid, search="knn", k=3, **common)
    assert messages(near) == with_loops(knn_graph(points, 3, batch, 4).edge_index, 12)
    close = make_geometry(points, grid, search="radius", radius=1.5, **common)
    assert messages(close) == with_loops(radius_graph(points, 1.5, batch, 4).edge_index, 12)
    assert close.opposite.numel()
    assert close.radius == 1.5
    assert near.radius == inf


UNPAIRED = {
    "one missing": lambda e, s: (e[:, 1:], s[1:], None),
    "one twice": lambda e, s: (torch.cat([e, e[:, :1]], 1), torch.cat([s, s[:1]]), None),
    "other scalars": lambda e, s: (e, s + torch.arange(len(s))[:, None], None),
    "scalars with gradients": lambda e, s: (e, s.clone().requires_grad_(), None),
    "not wanted": lambda e, s: (e, s, False),
    "with loops": lambda e, s: (
        torch.cat([e, torch.tensor([[2, 6], [2, 6]])], 1),
        torch.cat([s, s[:2]]),
        None,
    ),
}


@pytest.mark.parametrize("case", list(UNPAIRED))
def test_edges_that_do_not_come_in_pairs_stand_for_themselves(case, rng):
    edge_index, batch = all_pairs([3, 4])
    charges = normal(rng, 7, 1)
    scalars = charges[edge_index[0]] * charges[edge_index[1]]
    edge_index, scalars, paired = UNPAIRED[case](edge_index, scalars)
    options = {"edge_index": edge_index, "edge_scalars": scalars, "batch": batch, "num_graphs": 2}
    geometry = make_geometry(normal(rng, 7, 3), grid_of("R3xS2"), paired=paired, **options)
    assert not geometry.opposite.numel()
    assert messages(geometry) == with_loops(edge_index, 7)
    loops = [(i, i, 0.0) for i in range(7)]
    expected = sorted(rows_of(edge_index[0], edge_index[1], scalars) + loops)
    assert sorted(rows_of(geometry.source, geometry.target, geometry.scalars)) == expected


@pytest.mark.parametrize("paired", [None, False], ids=["found out", "unpaired"])
def test_loops_and_repeated_edges_count_once_more(paired, rng):
    edge_index, _ = all_pairs([4])
    points, features = normal(rng, 4, 3), normal(rng, 4, grid_of("R3xS2").size, 3)

    def result(edges, **options):
        geometry = make_geometry(points, grid_of("R3xS2"), edge_index=edges, **options)
        return convolved("R3xS2", geometry, features)

    loops = torch.tensor([[1, 3], [1, 3]])
    plain, own = result(edge_index, paired=paired), result(loops, self_loops=False, paired=False)
    both = result(torch.cat([edge_index, loops], 1), paired=paired)
    torch.testing.assert_close(both, plain + own, atol=1e-13, rtol=1e-12)
    assert own[3].abs().max() > 1e-2
    again = result(edge_index[:, 2:5], self_loops=False, paired=False)
    both = result(torch.cat([edge_index, edge_index[:, 2:5]], 1), paired=paired)
    torch.testing.assert_close(both, plain + again, atol=1e-13, rtol=1e-12)


@pytest.mark.parametrize("name", ["R3", "R2xS1", "R2xS1-E", "R3xS2"])
@pytest.mark.parametrize("radius", [None, 2.0], ids=["no-window", "window"])
def test_pairs_change_nothing_but_rounding(name, radius, rng):
    n = grid_of(name).space.dimension
    edge_index, batch = all_pairs([3, 5])
    edge_index, _ = shuffled(edge_index, rng)
    charges = normal(rng, 8, 1)
    scalars = charges[edge_index[0]] * charges[edge_index[1]]
    points = normal(rng, 8, n).requires_grad_()
    features = normal(rng, 8, grid_of(name).size, 3).requires_grad_()
    results = []
    for paired in (None, True, False):
        geometry = make_geometry(
            points,
            grid_of(name),
            CASES[name][1],
            edge_index=edge_index,
            edge_scalars=scalars,
            batch=batch,
            num_graphs=2,
            radius=radius,
            reach=5.0,
            paired=paired,
        )
        assert (geometry.opposite.numel() > 0) == (paired is not False)
        y = convolved(name, geometry, features)
        results.append((y, *torch.autograd.grad(y.square().sum(), (points, features))))
    for result in results[:2]:
        for part, expected in zip(result, results[2], strict=True):
            torch.testing.assert_close(part, expected, atol=1e-11, rtol=1e-11)


def test_control_a_grid_that_is_not_antipodal_has_no_pairs(rng):
    points, edge_index = normal(rng, 4, 3), all_pairs([4])[0]
    for name, expected in {"R3xS2": True, "R3xS2-odd": False, "SE3": False}.items():
        geometry = make_geometry(points, grid_of(name), edge_index=edge_index)
        assert bool(geometry.opposite.numel()) == expected


def test_matrices_of_scalars_belong_to_targets_then_sources(rng):
    grid, points = grid_of("R3xS2"), normal(rng, 2, 3, 3)
    matrix = normal(rng, 2, 3, 3, 2)
    geometry = make_geometry(points, grid, edge_scalars=matrix)
    assert not geometry.opposite.numel()
    for s, t, found in zip(geometry.source, geometry.target, geometry.scalars, strict=True):
        assert torch.equal(found, matrix[t // 3, t % 3, s % 3])
    symmetric = make_geometry(points, grid, edge_scalars=matrix + matrix.transpose(1, 2))
    assert symmetric.opposite.numel()


def test_offsets_are_rescaled_and_stay_below_the_reach(rng):
    points = normal(rng, 5, 3)
    points[0] *= 1e6
    grid = grid_of("R3xS2")
    plain = make_geometry(points, grid)
    torch.testing.assert_close(plain.offsets, points[plain.source] - points[plain.target])
    scaled = make_geometry(points, grid, length=2.0, reach=3.0, radius=4.0)
    d = plain.offsets / 2
    expected = d / (1 + d.square().sum(-1, keepdim=True) / 9).sqrt()
    torch.testing.assert_close(scaled.offsets, expected)
    assert scaled.offsets.norm(dim=-1).max() <= 3
    assert scaled.radius == pytest.approx(2 / (1 + 4 / 9) ** 0.5)


def test_offsets_of_a_far_cloud_keep_their_digits(rng):
    points = normal(rng, 5, 3)
    far = make_geometry((points + 2.0**20).float(), grid_of("R3xS2"), reach=10.0)
    near = make_geometry((points + 2.0**20).float() - 2.0**20, grid_of("R3xS2"), reach=10.0)
    assert torch.equal(far.offsets, near.offsets)
    half = make_geometry(points.to(torch.bfloat16), grid_of("R3xS2"))
    assert half.offsets.dtype == half.axes.dtype == torch.float32


@names
def test_every_graph_may_turn_the_grid_on_its_own(name, rng):
    grid = grid_of(name)
    n = grid.space.dimension
    batch = torch.tensor([0] * 3 + [1] * 4)
    points, features = normal(rng, 7, n), normal(rng, 7, grid.size, 3)
    orientations = torch.stack([turned(grid.orientations, rotation(rng, n)) for _ in range(2)])
    geometry = make_geometry(
        points, grid, CASES[name][1], orientations=orientations, batch=batch, num_graphs=2
    )
    together = convolved(name, geometry, features)
    for graph in range(2):
        own = batch == graph
        alone = make_geometry(points[own], grid, CASES[name][1], orientations=orientations[graph])
        expected = convolved(name, alone, features[own])
        torch.testing.assert_close(together[own], expected, atol=1e-13, rtol=1e-12)


def test_what_a_mask_excludes_is_not_there(rng):
    grid = grid_of("R3xS2")
    points, features = normal(rng, 3, 5, 3), normal(rng, 15, grid.size, 3)
    scalars = normal(rng, 3, 5, 5, 1)
    mask = torch.rand(3, 5, generator=rng) > 0.4
    present = mask.flatten()
    both = mask[:, :, None] & mask[:, None]
    points[~mask], features[~present], scalars[~both] = torch.nan, torch.nan, torch.nan
    options = {"edge_scalars": scalars, "mask": mask, "self_loops": False}
    y = convolved("R3xS2", make_geometry(points, grid, **options), features)
    edge_index, batch = all_pairs(mask.sum(1).tolist())
    rows = torch.arange(15)[present]
    source, target = rows[edge_index]
    given = scalars[target // 5, target % 5, source % 5]
    alone = make_geometry(
        points[mask],
        grid,
        edge_index=edge_index,
        edge_scalars=given,
        batch=batch,
        num_graphs=3,
        self_loops=False,
    )
    expected = convolved("R3xS2", alone, features[present])
    torch.testing.assert_close(y[present], expected, atol=1e-13, rtol=1e-12)
    assert (y[~present] == 0).all()


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (0, 4, 3), (2, 0, 3), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("loops", [True, False], ids=["loops", "no-loops"])
def test_clouds_of_no_node_and_of_one(shape, loops, rng):
    geometry = make_geometry(normal(rng, *shape), grid_of("R3xS2"), self_loops=loops)
    nodes = shape[0] * (shape[1] if len(shape) == 3 else 1)
    assert geometry.num_nodes == nodes
    assert messages(geometry) == ([(i, i) for i in range(nodes)] if loops else [])


BAD = {
    "points": ({"points": torch.zeros(3, 2)}, "points"),
    "integers": ({"points": torch.zeros(3, 3, dtype=torch.int64)}, "points"),
    "edge_index shape": ({"edge_index": torch.zeros(3, 4, dtype=torch.int64)}, "edge_index"),
    "edge_index dtype": ({"edge_index": torch.zeros(2, 4)}, "edge_index"),
    "edge_index range": ({"edge_index": torch.tensor([[0, 3], [1, 0]])}, "edge_index"),
    "batch range": ({"batch": torch.tensor([0, 1, 2]), "num_graphs": 2}, "batch"),
    "edge_index of clouds": (
        {"points": torch.zeros(2, 4, 3), "edge_index": torch.zeros(2, 4, dtype=torch.int64)},
        "edge_index",
    ),
    "scalars without edges": ({"edge_scalars": torch.zeros(4, 1)}, "edge_scalars"),
    "rows of scalars": (
        {"edge_index": torch.zeros(2, 4, dtype=torch.int64), "edge_scalars": torch.zeros(3, 1)},
        "edge_scalars",
    ),
    "matrix of scalars": (
        {"points": torch.zeros(2, 4, 3), "edge_scalars": torch.zeros(2, 4, 1)},
        "edge_scalars",
    ),
    "search": ({"search": "near"}, "search is 'near'"),
    "k": ({"search": "knn"}, "k is None"),
    "no radius": ({"search": "radius"}, "radius is None"),
    "radius": ({"radius": 0.0}, "radius"),
    "radius of text": ({"radius": "2"}, "radius is '2'; expected a number"),
    "length": ({"length": -1.0}, "length"),
    "no length": ({"length": None}, "length is None; expected a number"),
    "reach": ({"reach": inf}, "reach"),
    "batch": ({"batch": torch.zeros(4, dtype=torch.int64)}, "batch"),
    "batch dtype": ({"batch": torch.zeros(3)}, "batch"),
    "batch of clouds": (
        {"points": torch.zeros(2, 4, 3), "batch": torch.zeros(8, dtype=torch.int64)},
        "batch",
    ),
    "mask": ({"points": torch.zeros(2, 4, 3), "mask": torch.ones(2, 3, dtype=torch.bool)}, "mask"),
    "mask dtype": ({"points": torch.zeros(2, 4, 3), "mask": torch.ones(2, 4)}, "mask"),
    "edge_index of a search": ({"edge_index": radius_graph(torch.zeros(3, 3), 1.0)}, "edge_index"),
    "k of floats": ({"search": "knn", "k": 2.5}, "k is 2.5"),
    "mask of nodes": ({"mask": torch.ones(3, dtype=torch.bool)}, "mask"),
    "orientations": ({"orientations": torch.zeros(5, 3)}, "orientations"),
    "orientations of graphs": ({"orientations": torch.zeros(2, 8, 3)}, "orientations"),
    "orientations that are no units": (
        {"orientations": 1.1 * grid_of("R3xS2").orientations},
        "orientations has .* R3xS2 expects unit vectors: normalise them first",
    ),
    "mirrored frames": (
        {"grid": grid_of("SE3"), "orientations": -grid_of("SE3").orientations},
        "orientations has .* SE3 expects rotation matrices",
    ),
    "edges between graphs": (
        {
            "edge_index": torch.tensor([[1, 0, 2], [0, 1, 1]]),
            "batch": torch.tensor([0, 0, 1]),
        },
        "edge_index joins nodes 2 and 1, which batch puts into graphs 1 and 0",
    ),
    "promise": (
        {"edge_index": torch.tensor([[0, 1, 1], [1, 0, 2]]), "paired": True},
        "paired is True",
    ),
    "promise of matrices": (
        {
            "points": torch.zeros(1, 3, 3),
            "edge_scalars": torch.arange(9.0).reshape(1, 3, 3, 1),
            "paired": True,
        },
        "paired is True",
    ),
    "promise with loops": (
        {"edge_index": torch.tensor([[0, 1, 1], [1, 0, 1]]), "paired": True},
        "paired is True",
    ),
}


@pytest.mark.unchecked
@pytest.mark.parametrize("case", list(BAD))
def test_unfit_arguments_are_named(case):
    changes, name = BAD[case]
    arguments = {"points": torch.zeros(3, 3), "grid": grid_of("R3xS2"), **changes}
    with pytest.raises((ValueError, TypeError), match=name):
        make_geometry(**arguments)
