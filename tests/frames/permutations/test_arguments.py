"""Points as keys of permutation frames, and arguments that are refused."""

import pytest
import torch

from eqlib.frames import permutation_frames, row_classes, sample_orders


def test_points_are_sorted_by_coordinates(rng):
    points = torch.randn(3, 6, 3, generator=rng)
    points[1, 4] = points[1, 2] + 1e-6
    classes = row_classes(points)
    assert classes.size == (1, 2, 1)
    order = sample_orders(classes, 1, rng)[0].view(3, 6) - 6 * torch.arange(3)[:, None]
    ordered = points.gather(1, order[..., None].expand(-1, -1, 3))
    assert (ordered[..., 0].diff(dim=-1) > -1e-3).all()
    flat = points.clone()
    flat[..., 0] = 1e-9 * flat[..., 0]  # rounding errors of a planar cloud sort nothing
    assert torch.equal(row_classes(flat).classes, row_classes(flat[..., 1:]).classes)


def test_points_that_are_not_finite_keep_their_order(rng):
    points = torch.randn(2, 4, 3, generator=rng)
    expected = row_classes(points).classes[4:]
    points[0, 1, 2] = torch.nan
    classes = row_classes(points)
    assert classes.classes[:4].tolist() == [0, 1, 2, 3]
    assert torch.equal(classes.classes[4:], expected)


def test_ragged_points(rng):
    points = torch.randn(7, 2, generator=rng)
    batch = torch.tensor([0, 0, 0, 2, 2, 2, 2])
    classes = row_classes(points, batch=batch, num_graphs=4, features=torch.arange(7) % 2)
    assert classes.size == (1, 1, 1, 1)
    assert torch.equal(classes.classes[:3], row_classes(points[:3], torch.arange(3) % 2).classes)


SQUARE = torch.zeros(3, 3)
EDGES, BATCH = torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"graph": torch.zeros(2, 3)}, ValueError, "edge_index .* needs batch"),
        ({"graph": torch.zeros(3)}, ValueError, "adjacency matrices"),
        ({"graph": SQUARE.to(torch.complex64)}, TypeError, "graph: expected real"),
        ({"graph": SQUARE * torch.nan}, ValueError, "graph: expected finite"),
        ({"graph": SQUARE + torch.inf}, ValueError, "graph: expected finite"),
        ({"graph": SQUARE, "tolerance": 0.0}, ValueError, "tolerance: .* got 0.0"),
        ({"graph": SQUARE, "limit": -1}, ValueError, "limit, samples"),
        ({"graph": SQUARE, "samples": 0}, ValueError, "limit, samples"),
        ({"graph": SQUARE, "mask": torch.ones(3)}, TypeError, "mask: expected booleans"),
        ({"graph": SQUARE, "mask": torch.ones(2) > 0}, ValueError, "mask: expected shape"),
        ({"graph": SQUARE, "num_graphs": 1}, ValueError, "num_graphs: only a ragged"),
        ({"graph": SQUARE, "edge_weight": torch.ones(3)}, ValueError, "edge_weight: only"),
        ({"graph": SQUARE, "features": torch.ones(2)}, ValueError, "features: expected shape"),
        ({"graph": SQUARE, "features": torch.ones(3, 1, 1)}, ValueError, "features: expected"),
        (
            {"graph": SQUARE, "features": torch.full((3,), torch.nan)},
            ValueError,
            "features: expected finite",
        ),
        (
            {"graph": SQUARE, "features": torch.zeros(3, dtype=torch.complex64)},
            TypeError,
            "features: expected real",
        ),
        ({"graph": -1 + SQUARE, "normalised": True}, ValueError, "normalised"),
        ({"graph": EDGES.float(), "batch": BATCH}, TypeError, "graph: .*torch.int64"),
        ({"graph": EDGES[0], "batch": BATCH}, ValueError, "graph: expected an edge_index"),
        ({"graph": EDGES, "batch": BATCH.int()}, TypeError, "batch"),
        ({"graph": EDGES, "batch": BATCH[None]}, ValueError, "batch"),
        ({"graph": EDGES, "batch": torch.tensor([1, 0])}, ValueError, "batch is not sorted"),
        ({"graph": EDGES, "batch": BATCH + 3, "num_graphs": 2}, ValueError, "num_graphs"),
        ({"graph": EDGES + 2, "batch": BATCH}, ValueError, "graph has entries from 2 to 2"),
        (
            {"graph": torch.tensor([[0], [1]]), "batch": torch.tensor([0, 1])},
            ValueError,
            "edges inside graphs",
        ),
        ({"graph": EDGES, "batch": BATCH, "mask": BATCH > 0}, ValueError, "mask: a ragged"),
        (
            {"graph": EDGES, "batch": BATCH, "edge_weight": torch.ones(2)},
            ValueError,
            "edge_weight: expected shape",
        ),
        (
            {"graph": EDGES, "batch": BATCH, "edge_weight": torch.full((1,), torch.nan)},
            ValueError,
            "edge_weight: expected finite",
        ),
    ],
    ids=str,
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        permutation_frames(**{"samples": 1, **arguments})


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"rows": torch.zeros(3)}, "rows: expected floating-point"),
        ({"rows": torch.zeros(3, 2, dtype=torch.int64)}, "rows: expected floating-point"),
        ({"rows": torch.zeros(3, 2), "batch": BATCH}, r"rows: expected \(2, coordinates\)"),
    ],
    ids=["vector", "integers", "batch"],
)
def test_bad_rows(arguments, match):
    with pytest.raises(ValueError, match=match):
        row_classes(**arguments)


@pytest.mark.unchecked
def test_samples_and_rows_that_are_none_are_refused(rng):
    points = torch.randn(2, 4, 3, generator=rng)
    classes = row_classes(points)
    assert sample_orders(classes, 1, rng).shape == (1, 8)
    for samples in (0, -1):
        with pytest.raises(ValueError, match=f"samples: expected at least one .*, got {samples}"):
            sample_orders(classes, samples)
    with pytest.raises(ValueError, match=r"rows: expected .* of shape \(2, 4, 0\)"):
        row_classes(points[..., :0])
