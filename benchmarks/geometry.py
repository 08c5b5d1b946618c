"""Segment reductions and neighbour search."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.registry import Benchmark, Inputs, OnlyFor, if_installed
from eqlib.geometry import gather_nodes, knn_graph, radius_graph, segment_max, segment_sum

NEIGHBOURS = 20

# rows, channels and segments by name
SIZES = {
    f"{rows:,} x {channels} into {segments:,}": (rows, channels, segments)
    for rows, channels, segments in ((2_000, 64, 500), (100_000, 3, 10_000), (100_000, 64, 10_000))
}
SORTED = frozenset(f"{size}, sorted" for size in SIZES)
CLOUDS = {f"{points:,} points, about {NEIGHBOURS} neighbours": points for points in (1_000, 20_000)}
SMALL_CLOUDS = 100
DENSE_UP_TO = 5_000  # points; all pairs of more would be timed for minutes


def _edges(
    rows: int, channels: int, segments: int, ordered: bool, generator: torch.Generator
) -> Inputs:
    index = torch.randint(segments, (rows,), generator=generator)
    return {
        "values": torch.randn(rows, channels, generator=generator),
        "index": index.sort().values if ordered else index,
        "num_segments": segments,
    }


def _nodes(rows: int, channels: int, segments: int, generator: torch.Generator) -> Inputs:
    return {
        "values": torch.randn(segments, channels, generator=generator),
        "index": torch.randint(segments, (rows,), generator=generator),
    }


def _cloud(points: int, generator: torch.Generator) -> Tensor:
    """Return points in a cube in which a ball of radius 1 holds NEIGHBOURS others on average."""
    volume = points * (4 / 3 * torch.pi) / NEIGHBOURS
    return torch.rand(points, 3, generator=generator) * volume ** (1 / 3)


def _one_cloud(size: Inputs, points: int, generator: torch.Generator) -> Inputs:
    return {"points": _cloud(points, generator), **size}


def _small_clouds(size: Inputs, generator: torch.Generator) -> Inputs:
    points = torch.cat([_cloud(NEIGHBOURS + 1, generator) for _ in range(SMALL_CLOUDS)])
    batch = torch.arange(SMALL_CLOUDS).repeat_interleave(NEIGHBOURS + 1)
    return {"points": points, "batch": batch, **size}


def _cloud_problems(**size: float) -> dict[str, Callable[[torch.Generator], Inputs]]:
    problems = {name: partial(_one_cloud, size, points) for name, points in CLOUDS.items()}
    name = f"{SMALL_CLOUDS} clouds of {NEIGHBOURS + 1} points"
    return {name: partial(_small_clouds, size), **problems}


def _index_add(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    return values.new_zeros(num_segments, values.shape[1]).index_add(0, index, values)


def _scatter_add(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    rows = index[:, None].expand_as(values)
    return values.new_zeros(num_segments, values.shape[1]).scatter_add(0, rows, values)


def _segment_reduce(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    lengths = torch.bincount(index, minlength=num_segments)
    return torch.segment_reduce(values, "sum", lengths=lengths, axis=0, unsafe=True)


def _scatter_reduce_amax(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    rows = index[:, None].expand_as(values)
    zeros = values.new_zeros(num_segments, values.shape[1])
    return zeros.scatter_reduce(0, rows, values, "amax", include_self=False)


def _torch_geometric(values: Tensor, index: Tensor, num_segments: int, *, reduce: str) -> Tensor:
    from torch_geometric.utils import scatter

    result: Tensor = scatter(values, index, dim=0, dim_size=num_segments, reduce=reduce)
    return result


def _torch_scatter(values: Tensor, index: Tensor, num_segments: int, *, reduce: str) -> Tensor:
    from torch_scatter import scatter

    result: Tensor = scatter(values, index, dim=0, dim_size=num_segments, reduce=reduce)
    return result


def _gather(values: Tensor, index: Tensor) -> Tensor:
    return values.gather(0, index[:, None].expand(-1, values.shape[1]))


def _indexing(values: Tensor, index: Tensor) -> Tensor:
    return values[index]


def _edge_index(search: Callable[..., Any], method: str) -> Callable[..., Tensor]:
    def run(**inputs: Any) -> Tensor:
        if method == "dense" and len(inputs["points"]) > DENSE_UP_TO:
            raise NotImplementedError(f"takes too long beyond {DENSE_UP_TO:,} points")
        edge_index: Tensor = search(**inputs, method=method).edge_index
        return edge_index

    return run


def _scipy_radius(points: Tensor, radius: float) -> Tensor:
    from scipy.spatial import cKDTree

    pairs = torch.from_numpy(
        cKDTree(points.cpu().numpy()).query_pairs(radius, output_type="ndarray")
    )
    return torch.cat([pairs, pairs.flip(1)]).T.to(points.device)


def _scipy_knn(points: Tensor, k: int) -> Tensor:
    from scipy.spatial import cKDTree

    cloud = points.cpu().numpy()
    source = torch.from_numpy(cKDTree(cloud).query(cloud, k + 1)[1])[:, 1:]  # not the point itself
    target = torch.arange(len(points))[:, None].expand_as(source)
    return torch.stack([source.reshape(-1), target.reshape(-1)]).to(points.device)


def _same_order(edge_index: Tensor) -> Tensor:
    """Sort edges by target, then by source."""
    source, target = edge_index
    return edge_index[:, (target * (1 + int(edge_index.max())) + source).argsort()]


_SEGMENT_PROBLEMS = {
    f"{size}, {'sorted' if ordered else 'unsorted'}": partial(_edges, *shape, ordered)
    for size, shape in SIZES.items()
    for ordered in (True, False)
}

BENCHMARKS = (
    Benchmark(
        name="segment_sum",
        tests="tests/geometry/test_segments.py",
        problems=_SEGMENT_PROBLEMS,
        implementations={"segment_sum": segment_sum},
        peers={
            "index_add": _index_add,
            "scatter_add": _scatter_add,
            "torch.segment_reduce": OnlyFor(SORTED, _segment_reduce),
            "torch_geometric": if_installed(
                "torch_geometric", partial(_torch_geometric, reduce="sum")
            ),
            "torch_scatter": if_installed("torch_scatter", partial(_torch_scatter, reduce="sum")),
        },
        passes=("forward", "forward+backward", "double backward"),
        differentiate=("values",),
    ),
    Benchmark(
        name="segment_max",
        tests="tests/geometry/test_segments.py",
        problems=_SEGMENT_PROBLEMS,
        implementations={"segment_max": segment_max},
        peers={
            "scatter_reduce": _scatter_reduce_amax,
            "torch_geometric": if_installed(
                "torch_geometric", partial(_torch_geometric, reduce="max")
            ),
            "torch_scatter": if_installed("torch_scatter", partial(_torch_scatter, reduce="max")),
        },
        differentiate=("values",),
    ),
    Benchmark(
        name="gather_nodes",
        tests="tests/geometry/test_segments.py",
        problems={
            name.replace("into", "from"): partial(_nodes, *shape) for name, shape in SIZES.items()
        },
        implementations={"gather_nodes": gather_nodes},
        peers={"values[index]": _indexing, "gather": _gather},
        passes=("forward", "forward+backward", "double backward"),
        differentiate=("values",),
    ),
    Benchmark(
        name="radius_graph",
        tests="tests/geometry/test_neighbours.py",
        problems=_cloud_problems(radius=1.0),
        implementations={
            method: _edge_index(radius_graph, method) for method in ("auto", "dense", "cells")
        },
        peers={"scipy cKDTree": OnlyFor(frozenset(CLOUDS), _scipy_radius)},
        passes=("forward",),
        canonical=_same_order,
    ),
    Benchmark(
        name="knn_graph",
        tests="tests/geometry/test_neighbours.py",
        problems=_cloud_problems(k=NEIGHBOURS),
        implementations={
            method: _edge_index(knn_graph, method) for method in ("auto", "dense", "cells")
        },
        peers={"scipy cKDTree": OnlyFor(frozenset(CLOUDS), _scipy_knn)},
        passes=("forward",),
        canonical=_same_order,
    ),
)
